//! Round trips: each `evalsha` and each command that no script runs is one. What scripts do within theirs is counted too.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::time::Duration;

use redbrick_core_conn::Conn;
use redbrick_resource::{Resource, Saved};
use redbrick_testkit::Server;
use serde_json::json;

use crate::{User, user};

/// How many round trips `calls` take, and how many commands the server runs for them.
async fn cost(server: &Server, calls: impl Future<Output = ()>) -> (u64, u64) {
    let told = server.cost(calls).await.unwrap();
    let count = |name: &str| {
        let found = told.split(", ").find_map(|part| part.strip_prefix(&format!("{name} ")));
        found.map_or(0, |count| count.parse().unwrap())
    };
    let all: u64 = told
        .split(", ")
        .filter_map(|part| part.split(' ').nth(1))
        .map(|n| n.parse::<u64>().unwrap())
        .sum();
    (count("evalsha"), all)
}

#[tokio::test]
async fn every_call_takes_the_round_trips_that_it_says() {
    let server = Server::start().unwrap();
    let users = Resource::<User>::new(Conn::connect(server.url()).await.unwrap());
    // The scripts are known to the server from here on.
    users.create(&user("first")).await.unwrap();
    users.touch("first").await.unwrap();
    users.list().await.unwrap();
    users.create(&User { id: "x".to_owned(), ..user("first") }).await.unwrap_err();
    users.delete("first").await.unwrap();

    let one = |what, found: (u64, u64), most: u64| {
        assert_eq!(found.0, 1, "{what}: round trips");
        assert!(found.1 <= most, "{what}: {} commands", found.1);
    };
    let ada = user("ada");
    let life = Duration::from_secs(60);
    one("create", cost(&server, async { users.create(&ada).await.unwrap() }).await, 32);
    one(
        "save",
        cost(&server, async { assert_eq!(users.save(&ada).await.unwrap(), Saved::Replaced) }).await,
        32,
    );
    one("replace", cost(&server, async { users.replace(&ada).await.unwrap() }).await, 32);
    let patch = json!({"tags": ["a"]});
    one(
        "update",
        cost(&server, async { drop(users.update("ada", &patch).await.unwrap()) }).await,
        18,
    );
    let touch = async { assert!(users.touch("ada").time_to_live(life).await.unwrap()) };
    one("touch", cost(&server, touch).await, 22);
    one("get", cost(&server, async { drop(users.get("ada").await.unwrap()) }).await, 2);
    one(
        "load",
        cost(&server, async { assert!(users.load("x").await.unwrap().is_none()) }).await,
        2,
    );

    let exists = server.cost(async { assert!(users.exists("ada").await.unwrap()) }).await.unwrap();
    assert_eq!(exists, "exists 1");
    let publish =
        server.cost(async { assert_eq!(users.publish("m").await.unwrap(), 0) }).await.unwrap();
    assert_eq!(publish, "publish 1");
    let email = "ada@example.com";
    let by =
        server.cost(async { drop(users.get_by("email", email).await.unwrap()) }).await.unwrap();
    assert_eq!(by, "evalsha 1, hget 1, hgetall 1");

    let (trips, _) = cost(&server, async { drop(users.list().await.unwrap()) }).await;
    assert_eq!(trips, 2, "a list");
    let (trips, _) = cost(&server, async { drop(users.list().page(9).await.unwrap()) }).await;
    assert_eq!(trips, 1, "an empty page");
    let thief = User { id: "eve".to_owned(), ..user("ada") };
    let (trips, _) = cost(&server, async { drop(users.create(&thief).await.unwrap_err()) }).await;
    assert_eq!(trips, 2, "a value that is taken");

    one("pick", cost(&server, async { drop(users.pick("ada").await.unwrap()) }).await, 28);
    one("delete", cost(&server, async { drop(users.delete("ada").await.unwrap()) }).await, 20);
}

#[tokio::test]
async fn a_value_whose_record_is_gone_costs_one_look_more() {
    let server = Server::start().unwrap();
    let users = Resource::<User>::new(Conn::connect(server.url()).await.unwrap());
    users.create(&user("stays")).await.unwrap();
    users.create(&user("goes")).time_to_live(Duration::from_millis(1)).await.unwrap();
    users.get_by("email", "stays@example.com").await.unwrap();
    let ended = async { while users.exists("goes").await.unwrap() {} };
    tokio::time::timeout(crate::PATIENCE, ended).await.expect("one millisecond");

    for _ in 0..2 {
        let look = async {
            assert!(users.load_by("email", "goes@example.com").await.unwrap().is_none());
        };
        assert_eq!(server.cost(look).await.unwrap(), "evalsha 1, hget 2, hgetall 1");
    }
}

#[tokio::test]
async fn a_wrong_call_sends_nothing() {
    let server = Server::start().unwrap();
    let users = Resource::<User>::new(Conn::connect(server.url()).await.unwrap());
    let refused = async {
        users.update("ada", &json!({"age": "old"})).await.unwrap_err();
        users.update("ada", &json!({"id": "eve"})).await.unwrap_err();
        users.update("ada", &7).await.unwrap_err();
        users.list().where_eq("nick", "x").await.unwrap_err();
        users.get_by("city", "Rome").await.unwrap_err();
        drop(users.create(&user("never awaited")));
    };
    assert_eq!(server.cost(refused).await.unwrap(), "");
}
