#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::time::{Duration, SystemTime};

use redbrick_core_conn::{Script, Ttl};
use redbrick_resource::{Error, Resource, Saved};
use serde_json::json;

use crate::{PATIENCE, User, connect, state, user, users};

const HOUR: Duration = Duration::from_secs(3600);
/// Long enough for what a test does before it ends; short enough to be waited for.
const SHORT: Duration = Duration::from_millis(300);

async fn life(users: &Resource<User>, id: &str) -> Option<Duration> {
    match users.conn().ttl(users.key(id)).await.unwrap() {
        Ttl::Expires(left) => Some(left),
        _ => None,
    }
}

fn is_about(left: Option<Duration>, life: Duration) -> bool {
    left.is_some_and(|left| left <= life && left + PATIENCE > life)
}

async fn gone(users: &Resource<User>, id: &str) {
    let wait = async { while users.exists(id).await.unwrap() {} };
    tokio::time::timeout(PATIENCE, wait).await.expect("its life ends");
}

#[tokio::test]
async fn a_record_lives_as_long_as_the_resource_or_the_call_says() {
    let conn = connect("lives").await;
    let users = Resource::<User>::builder(conn).time_to_live(HOUR).build();

    users.create(&user("a")).await.unwrap();
    assert!(is_about(life(&users, "a").await, HOUR));
    users.save(&user("a")).time_to_live(2 * HOUR).await.unwrap();
    assert!(is_about(life(&users, "a").await, 2 * HOUR));
    users.update("a", &json!({"age": 1})).await.unwrap();
    assert!(is_about(life(&users, "a").await, 2 * HOUR), "an update keeps it");
    let at = SystemTime::now() + 3 * HOUR;
    users.update("a", &json!({"age": 2})).expires_at(at).await.unwrap();
    assert!(is_about(life(&users, "a").await, 3 * HOUR));
    users.replace(&user("a")).await.unwrap();
    assert!(is_about(life(&users, "a").await, HOUR));
    assert!(users.touch("a").time_to_live(4 * HOUR).await.unwrap());
    assert!(is_about(life(&users, "a").await, 4 * HOUR));
    assert!(users.touch("a").await.unwrap());
    assert!(is_about(life(&users, "a").await, HOUR));
    assert!(users.touch("a").expires_at(at).await.unwrap());
    assert!(is_about(life(&users, "a").await, 3 * HOUR));
    assert_eq!(state::check(&users).await, 1);

    let endless = Resource::<User>::new(users.conn().clone());
    endless.touch("a").await.unwrap();
    assert_eq!(life(&users, "a").await, None);
    assert_eq!(state::check(&users).await, 1);
}

#[tokio::test]
async fn a_life_that_is_over_is_refused_by_the_clock_of_the_server() {
    let users = users("over").await;
    users.create(&user("a")).time_to_live(HOUR).await.unwrap();
    for past in [SystemTime::UNIX_EPOCH, SystemTime::now() - HOUR] {
        let early = SystemTime::UNIX_EPOCH - HOUR;
        for at in [past, early] {
            for refused in [
                users.create(&user("b")).expires_at(at).await.map(drop),
                users.save(&user("a")).expires_at(at).await.map(drop),
                users.replace(&user("a")).expires_at(at).await.map(drop),
                users.update("a", &json!({"age": 9})).expires_at(at).await.map(drop),
                users.touch("a").expires_at(at).await.map(drop),
            ] {
                assert!(matches!(refused, Err(Error::Expired)), "{refused:?}");
            }
        }
    }
    assert_eq!(users.get("a").await.unwrap(), user("a"));
    assert!(is_about(life(&users, "a").await, HOUR));
    assert!(!users.exists("b").await.unwrap());
}

#[tokio::test]
async fn an_expired_record_is_in_no_list_and_holds_no_value() {
    let users = users("expired").await;
    users.create(&user("keeps")).await.unwrap();
    users.create(&user("goes")).time_to_live(SHORT).await.unwrap();
    assert_eq!(users.list().await.unwrap().total, 2);
    gone(&users, "goes").await;

    assert_eq!(users.load_by("email", "goes@example.com").await.unwrap(), None);
    assert_eq!(users.list().await.unwrap().total, 1);
    assert_eq!(users.list().where_eq("city", "Rome").await.unwrap().total, 1);
    assert_eq!(users.list().where_eq("email", "goes@example.com").await.unwrap().total, 0);
    assert_eq!(state::check(&users).await, 1);
}

#[tokio::test]
async fn the_value_of_an_expired_record_is_free_at_once_among_many() {
    let users = users("expired_many").await;
    // More than one write removes, and the one in question expired last.
    for n in 0..150 {
        users.create(&user(n)).time_to_live(SHORT).await.unwrap();
    }
    users.create(&user("last")).time_to_live(SHORT).await.unwrap();
    gone(&users, "last").await;

    let heir = User { id: "heir".to_owned(), ..user("last") };
    users.create(&heir).await.unwrap();
    assert_eq!(users.get_by("email", "last@example.com").await.unwrap(), heir);
    assert_eq!(users.list().await.unwrap().total, 1);
    assert_eq!(state::check(&users).await, 1);
}

#[tokio::test]
async fn an_expired_record_can_be_created_again_at_the_end_of_the_order() {
    let users = users("again").await;
    users.create(&user("a")).time_to_live(SHORT).await.unwrap();
    users.create(&user("b")).await.unwrap();
    gone(&users, "a").await;

    assert!(matches!(users.replace(&user("a")).await, Err(Error::Unknown)));
    assert_eq!(users.save(&user("a")).await.unwrap(), Saved::Created);
    let page = users.list().await.unwrap();
    assert_eq!(page.items, [user("b"), user("a")]);
    assert_eq!(state::check(&users).await, 2);
}

#[tokio::test]
async fn what_finds_records_lives_as_long_as_the_last_of_them() {
    let users = users("last").await;
    let ttl = |role| users.conn().ttl(state::key(role));
    users.create(&user("a")).time_to_live(HOUR).await.unwrap();
    users.create(&user("b")).time_to_live(2 * HOUR).await.unwrap();
    for role in state::ROLES {
        let Ttl::Expires(left) = ttl(role).await.unwrap() else { panic!("{role} has a life") };
        assert!(is_about(Some(left), 2 * HOUR), "{role}: {left:?}");
    }
    users.create(&user("c")).await.unwrap();
    for role in state::ROLES {
        assert_eq!(ttl(role).await.unwrap(), Ttl::Persistent, "{role}");
    }
    users.delete("c").await.unwrap();
    users.delete("b").await.unwrap();
    for role in state::ROLES {
        let Ttl::Expires(left) = ttl(role).await.unwrap() else { panic!("{role} has a life") };
        assert!(is_about(Some(left), HOUR), "{role}: {left:?}");
    }
}

/// Ends the life of every record as far as the index knows, as if their keys were a moment late.
static END_ALL: Script = Script::new(
    "test.end_all",
    "for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
      redis.call('ZADD', KEYS[2], 1, id)
    end",
);

async fn end_all(users: &Resource<User>) {
    let call = users.conn().script(&END_ALL).key(state::key("order")).key(state::key("expiry"));
    call.run::<()>().await.unwrap();
}

#[tokio::test]
async fn a_list_counts_none_of_thousands_whose_life_has_ended() {
    let users = users("thousands").await;
    for n in 0..2_100 {
        users.create(&User { email: None, city: None, ..user(n) }).await.unwrap();
    }
    end_all(&users).await;
    assert_eq!(users.list().await.unwrap().total, 0);
    users.save(&user("a")).await.unwrap();
    assert_eq!(users.list().await.unwrap().total, 1);
}

#[tokio::test]
async fn a_record_is_over_when_the_first_of_the_two_clocks_says_so() {
    for call in ["replace", "update", "touch", "delete", "create"] {
        let users = users(call).await;
        users.create(&User { nick: Some("old".to_owned()), ..user("a") }).await.unwrap();
        end_all(&users).await;
        let unknown = |outcome| assert!(matches!(outcome, Err(Error::Unknown)), "{call}");
        match call {
            "replace" => unknown(users.replace(&user("a")).await),
            "update" => unknown(users.update("a", &json!({"age": 1})).await.map(drop)),
            "touch" => assert!(!users.touch("a").await.unwrap()),
            "delete" => assert_eq!(users.delete("a").await.unwrap(), None),
            _ => users.create(&user("a")).await.unwrap(),
        }
        users.save(&user("a")).await.unwrap();
        assert_eq!(users.list().await.unwrap().items, [user("a")]);
        assert_eq!(state::check(&users).await, 1);
    }
}

#[tokio::test]
async fn an_update_takes_up_a_record_that_was_forgotten_with_its_life() {
    let users = users("taken_up").await;
    users.create(&user("a")).time_to_live(HOUR).await.unwrap();
    for role in state::ROLES {
        users.conn().delete(state::key(role)).await.unwrap();
    }
    users.update("a", &user("a")).await.unwrap();
    assert_eq!(state::check(&users).await, 1);
    assert!(matches!(users.conn().ttl(state::key("order")).await.unwrap(), Ttl::Expires(_)));
}

#[tokio::test]
async fn a_unique_value_is_free_when_the_first_of_the_two_clocks_says_so() {
    let users = users("free").await;
    // More than one write forgets.
    for n in 0..150 {
        users.create(&user(n)).await.unwrap();
    }
    end_all(&users).await;
    for n in (0..150).rev() {
        users.create(&User { id: format!("heir of {n}"), ..user(n) }).await.unwrap();
    }
    assert_eq!(users.list().await.unwrap().total, 150);
    assert_eq!(state::check(&users).await, 150);
}
