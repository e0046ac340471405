//! Each call under each fault, as the README's table says.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Config, Conn, ErrorKind};
use redbrick_resource::{Error, Resource};
use redbrick_testkit::{Fault, Proxy, Server};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::{PATIENCE, User, eventually, user};

/// The command timeout of these tests, and what a busy machine may add to it.
const SHORT: Duration = Duration::from_millis(300);
const SLACK: Duration = Duration::from_secs(5);

fn server() -> Arc<Server> {
    Arc::new(Server::start().unwrap())
}

async fn users(url: String) -> Resource<User> {
    Resource::new(Conn::connect(Config::builder().url(url).command_timeout(SHORT)).await.unwrap())
}

/// What every call that asks Redis about the record `a` comes to.
async fn outcomes(users: &Resource<User>) -> Vec<(&'static str, Result<(), Error>)> {
    let a = user("a");
    vec![
        ("create", users.create(&a).await),
        ("save", users.save(&a).await.map(drop)),
        ("replace", users.replace(&a).await),
        ("update", users.update("a", &json!({"age": 30})).await.map(drop)),
        ("touch", users.touch("a").await.map(drop)),
        ("delete", users.delete("b").await.map(drop)),
        ("pick", users.pick("c").await.map(drop)),
        ("get", users.get("a").await.map(drop)),
        ("load", users.load("a").await.map(drop)),
        ("exists", users.exists("a").await.map(drop)),
        ("get_by", users.get_by("email", "a@example.com").await.map(drop)),
        ("list", users.list().await.map(drop)),
        ("publish", users.publish("m").await.map(drop)),
    ]
}

fn kind(outcome: &Result<(), Error>) -> Option<ErrorKind> {
    match outcome {
        Err(Error::Conn(error)) => Some(error.kind()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_an_error_in_time_and_works_when_it_is_back() {
    let server = server();
    let users = users(server.url()).await;
    server.kill().unwrap();
    let mut begun = Instant::now();
    for (call, outcome) in outcomes(&users).await {
        let Err(error) = &outcome else { panic!("{call} needs a server") };
        assert!(error.is_retryable(), "{call}: {error:?}");
        assert!(kind(&outcome).is_some(), "{call}: {error:?}");
    }
    assert!(begun.elapsed() < 13 * SHORT + SLACK, "{:?}", begun.elapsed());

    let restarting = Arc::clone(&server);
    tokio::task::spawn_blocking(move || restarting.restart().unwrap()).await.unwrap();
    begun = Instant::now();
    while let Err(error) = users.save(&user("a")).await {
        assert!(error.is_retryable() && begun.elapsed() < PATIENCE, "{error:?}");
    }
    assert_eq!(users.get("a").await.unwrap(), user("a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_paused_costs_the_timeout() {
    let server = server();
    let users = users(server.url()).await;
    users.create(&user("a")).await.unwrap();
    let paused = server.pause().unwrap();
    let begun = Instant::now();
    for (call, outcome) in outcomes(&users).await {
        let Err(error) = &outcome else { panic!("{call} needs a server") };
        assert!(error.is_retryable() && kind(&outcome).is_some(), "{call}: {error:?}");
    }
    assert!(begun.elapsed() < 13 * SHORT + SLACK, "{:?}", begun.elapsed());
    paused.resume();
    let begun = Instant::now();
    while let Err(error) = users.get("a").await {
        assert!(error.is_retryable() && begun.elapsed() < PATIENCE, "{error:?}");
    }
}

/// What ends with a test.
type Kept = (Arc<Server>, Proxy);

/// Sends `call` through a link that loses the reply, waits until the server has run it, and breaks the link.
async fn lose<T, Call, Calling>(call: Call) -> (Kept, Resource<User>, Result<T, Error>)
where
    T: Send + 'static,
    Call: FnOnce(Resource<User>) -> Calling,
    Calling: Future<Output = Result<T, Error>> + Send + 'static,
{
    let server = server();
    let proxy = server.proxy().unwrap();
    let users = Resource::<User>::new(Conn::connect(proxy.url()).await.unwrap());
    users.create(&user("a")).await.unwrap();
    users.create(&user("b")).await.unwrap();
    users.pick("b").await.unwrap();
    users.get("a").await.unwrap();
    proxy.set(Fault::DropReplies);
    let ran = server.command_counts().unwrap().of("evalsha");
    let calling = tokio::spawn(call(users.clone()));
    let counting = Arc::clone(&server);
    eventually("the script", move || counting.command_counts().unwrap().of("evalsha") > ran).await;
    proxy.reset();
    proxy.clear();
    let outcome = timeout(PATIENCE, calling).await.unwrap().unwrap();
    // The link is up again before anything is asserted.
    let begun = Instant::now();
    while let Err(error) = users.exists("x").await {
        assert!(error.is_retryable() && begun.elapsed() < PATIENCE, "{error:?}");
    }
    ((server, proxy), users, outcome)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_reply_is_lost_says_that_it_is_unclear_and_is_not_repeated() {
    let (_kept, users, created) =
        lose(|users| async move { users.create(&user("new")).await }).await;
    assert!(created.unwrap_err().is_outcome_unknown());
    assert_eq!(users.get("new").await.unwrap(), user("new"));
    let (_kept, users, picked) = lose(|users| async move { users.pick("a").await }).await;
    assert!(picked.unwrap_err().is_outcome_unknown());
    assert!(!users.exists("a").await.unwrap());
    let patch = json!({"age": 5});
    let (_kept, users, updated) =
        lose(|users| async move { users.update("a", &patch).await }).await;
    assert!(updated.unwrap_err().is_outcome_unknown());
    assert_eq!(users.get("a").await.unwrap().age, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_whose_reply_is_lost_is_sent_again() {
    let (_kept, _, read) = lose(|users| async move { users.get("a").await }).await;
    assert_eq!(read.unwrap(), user("a"));
}

#[tokio::test]
async fn a_full_server_refuses_writes_whole_and_lets_records_be_read_and_removed() {
    let server = server();
    let users = users(server.url()).await;
    for id in ["a", "b", "c"] {
        users.create(&user(id)).await.unwrap();
    }
    server.command(["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let refused = ["create", "save", "replace", "update"];
    for (call, outcome) in outcomes(&users).await {
        if call == "create" {
            assert!(matches!(outcome, Err(Error::Exists)), "{outcome:?}");
        } else if refused.contains(&call) {
            assert_eq!(kind(&outcome), Some(ErrorKind::OutOfMemory), "{call}: {outcome:?}");
        } else {
            assert!(outcome.is_ok(), "{call}: {outcome:?}");
        }
    }
    assert!(users.touch("a").time_to_live(PATIENCE).await.unwrap());
    let full = users.create(&user("d")).await;
    assert_eq!(kind(&full), Some(ErrorKind::OutOfMemory), "{full:?}");
    // Nor does it lose what another program put at a record's key.
    server.command(["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    users.conn().set(users.key("foreign"), "a text").await.unwrap();
    server.command(["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let full = users.save(&user("foreign")).await.map(drop);
    assert_eq!(kind(&full), Some(ErrorKind::OutOfMemory), "{full:?}");
    assert!(users.exists("foreign").await.unwrap());

    server.command(["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    assert_eq!(users.get("a").await.unwrap(), user("a"));
    assert_eq!(users.list().await.unwrap().total, 1);
    users.create(&user("d")).await.unwrap();
}

#[tokio::test]
async fn a_replica_refuses_writes_and_answers_reads() {
    let server = server();
    let users = users(server.url()).await;
    users.create(&user("a")).await.unwrap();
    // Its master is nowhere, so that it keeps what it has.
    server.command(["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    for (call, outcome) in outcomes(&users).await {
        match call {
            "create" => assert!(matches!(outcome, Err(Error::Exists)), "{outcome:?}"),
            "get" | "load" | "exists" | "get_by" | "list" | "publish" => {
                assert!(outcome.is_ok(), "{call}: {outcome:?}");
            }
            _ => assert_eq!(kind(&outcome), Some(ErrorKind::ReadOnly), "{call}: {outcome:?}"),
        }
    }
    server.command(["REPLICAOF", "NO", "ONE"]).unwrap();
    assert_eq!(users.get("a").await.unwrap(), user("a"));
    users.save(&user("a")).await.unwrap();
}

#[tokio::test]
async fn a_list_at_a_replica_fails_while_lives_have_ended_that_nobody_noticed() {
    let server = server();
    let users = users(server.url()).await;
    users.create(&user("a")).await.unwrap();
    users.create(&user("b")).time_to_live(SHORT).await.unwrap();
    server.command(["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let begun = Instant::now();
    while let Ok(page) = users.list().await.map(|page| page.total) {
        assert!(page == 2 && begun.elapsed() < PATIENCE, "{page}");
    }
    let refused = users.list().await.map(drop);
    assert_eq!(kind(&refused), Some(ErrorKind::ReadOnly), "{refused:?}");
    assert_eq!(users.get("a").await.unwrap(), user("a"));
    server.command(["REPLICAOF", "NO", "ONE"]).unwrap();
    assert_eq!(users.list().await.unwrap().items, [user("a")]);
}

#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let server = server();
    let users = users(server.url()).await;
    users.create(&user("a")).await.unwrap();
    server.command(["SCRIPT", "FLUSH"]).unwrap();
    users.save(&user("a")).await.unwrap();
    server.command(["SCRIPT", "FLUSH"]).unwrap();
    assert_eq!(users.get("a").await.unwrap(), user("a"));
    server.command(["SCRIPT", "FLUSH"]).unwrap();
    assert_eq!(users.list().await.unwrap().total, 1);
    assert_eq!(users.pick("a").await.unwrap(), user("a"));
}

#[tokio::test]
async fn without_a_server_an_optional_connection_finds_nothing_and_stores_nothing() {
    let config = Config::builder().port(1).optional(true);
    let users = Resource::<User>::new(Conn::connect(config).await.unwrap());
    for (call, outcome) in outcomes(&users).await {
        match call {
            "create" | "save" | "replace" | "update" => {
                assert_eq!(kind(&outcome), Some(ErrorKind::Connect), "{call}: {outcome:?}");
            }
            "get" | "get_by" | "pick" => {
                assert!(matches!(outcome, Err(Error::Unknown)), "{call}: {outcome:?}");
            }
            _ => assert!(outcome.is_ok(), "{call}: {outcome:?}"),
        }
    }
    assert_eq!(users.list().await.unwrap().total, 0);
    assert!(!users.touch("a").await.unwrap());
    let messages = users.subscribe::<u8>().await.unwrap();
    drop(messages);
}
