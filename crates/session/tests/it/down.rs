//! What each call does when the server is away, slow, full or takes no writes.

use std::time::{Duration, Instant};

use redbrick_core_conn::{Config, Conn, ErrorKind};
use redbrick_session::{DEFAULT_EXTENSION, Error, Saved, Session, SessionId, Sessions};
use redbrick_testkit::{Fault, Proxy, Server};

use crate::{Cart, cart, until};

/// How long a call may take here.
const TIMEOUT: Duration = Duration::from_millis(500);

/// What a slow machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(5);

async fn sessions(url: String) -> Sessions<Cart> {
    let config = Config::builder().url(url).command_timeout(TIMEOUT);
    Sessions::new(Conn::connect(config).await.expect("the server"))
}

async fn proxied() -> (Server, Proxy, Sessions<Cart>) {
    let server = Server::start().unwrap();
    let proxy = server.proxy().unwrap();
    let sessions = sessions(proxy.url()).await;
    (server, proxy, sessions)
}

/// The outcomes of all calls, each with its name.
async fn outcomes(
    sessions: &Sessions<Cart>,
    session: &Session<Cart>,
) -> Vec<(&'static str, Result<String, Error>)> {
    let id = session.id();
    fn text<T: std::fmt::Debug>(outcome: Result<T, Error>) -> Result<String, Error> {
        outcome.map(|value| format!("{value:?}"))
    }
    let presence =
        |outcome: Result<Option<Session<Cart>>, Error>| text(outcome.map(|s| s.is_some()));
    vec![
        ("get", presence(sessions.get(id).await)),
        ("is_valid", text(sessions.is_valid(id).await)),
        ("list", text(sessions.list("ada").await.map(|list| list.len()))),
        ("count", text(sessions.count("ada").await)),
        ("touch", text(sessions.touch(id).await)),
        ("get_and_touch", presence(sessions.get_and_touch(id).await)),
        ("update_activity", text(sessions.update_activity(id).await)),
        ("extend", text(sessions.extend(id, DEFAULT_EXTENSION).await.map(|end| end.is_some()))),
        ("update", text(sessions.update(id, &cart("y")).await)),
        ("update_metadata", text(sessions.update_metadata(id, [("k", Some("v"))]).await)),
        ("save", text(sessions.save(&mut session.clone()).await)),
        ("create", text(sessions.create("ada", cart("z")).await.map(|_made| ()))),
        ("delete_others", text(sessions.delete_others("ada", id).await)),
        ("delete_key", text(sessions.delete_key("ada", &id.key()).await)),
        ("delete_all", text(sessions.delete_all("ada").await)),
        ("delete", text(sessions.delete(id).await)),
    ]
}

fn kind(error: &Error) -> ErrorKind {
    let Error::Conn(source) = error else { panic!("{error:?}") };
    assert_eq!(error.is_retryable(), source.is_retryable());
    assert_eq!(error.is_timeout(), source.is_timeout());
    assert_eq!(error.is_outcome_unknown(), source.is_outcome_unknown());
    source.kind()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_lets_nobody_in_and_is_found_again() {
    let server = Server::start().unwrap();
    let sessions = sessions(server.url()).await;
    let made = sessions.create("ada", cart("x")).await.unwrap();
    server.kill().unwrap();

    let begun = Instant::now();
    let all = outcomes(&sessions, &made).await;
    let bound = TIMEOUT * u32::try_from(all.len()).unwrap() + SLACK;
    assert!(begun.elapsed() < bound, "{:?}", begun.elapsed());
    for (call, outcome) in all {
        let err = outcome.unwrap_err();
        assert!(err.is_retryable(), "{call}: {err:?}");
        assert!(
            matches!(kind(&err), ErrorKind::Connect | ErrorKind::Interrupted),
            "{call}: {err:?}"
        );
        assert!(!err.to_string().contains("ada"), "{err}");
    }

    server.restart().unwrap();
    // It keeps nothing, so the sessions are gone, and say so.
    let valid =
        until("the server", async || sessions.is_valid(made.id()).await, Result::is_ok).await;
    assert!(!valid.unwrap());
    let made = sessions.create("ada", cart("x")).await.unwrap();
    assert!(sessions.touch(made.id()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_paused_costs_each_call_its_timeout() {
    let server = Server::start().unwrap();
    let sessions = sessions(server.url()).await;
    let made = sessions.create("ada", cart("x")).await.unwrap();
    let paused = server.pause().unwrap();

    let id = *made.id();
    for call in 0..4 {
        let begun = Instant::now();
        let err = match call {
            0 => sessions.get(&id).await.unwrap_err(),
            1 => sessions.touch(&id).await.unwrap_err(),
            2 => sessions.create("ada", cart("y")).await.unwrap_err(),
            _ => sessions.delete_all("ada").await.unwrap_err(),
        };
        assert!(err.is_timeout() && err.is_outcome_unknown(), "{call}: {err:?}");
        assert!(begun.elapsed() < TIMEOUT + SLACK, "{:?}", begun.elapsed());
    }
    paused.resume();

    // What was sent meanwhile may run now; then all is as ever.
    until("an answer", async || sessions.is_valid(&id).await, Result::is_ok).await.unwrap();
    sessions.delete_all("ada").await.unwrap();
    assert_eq!(sessions.count("ada").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_whose_reply_is_lost_is_unclear_and_can_be_seen_and_ended() {
    let (_server, proxy, sessions) = proxied().await;
    let known = sessions.create("ada", cart("x")).await.unwrap();
    proxy.set_for_open(Fault::CutAfterReplyBytes(0));

    let err = sessions.create("ada", cart("y")).await.unwrap_err();

    assert!(err.is_outcome_unknown() && err.is_retryable(), "{err:?}");
    let list = until("the link", async || sessions.list("ada").await, Result::is_ok).await.unwrap();
    assert_eq!(list.len(), 2, "it ran once and was not repeated");
    assert_eq!(sessions.delete_others("ada", known.id()).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_repeated_is_and_nothing_else() {
    let (_server, proxy, sessions) = proxied().await;
    let mut made = sessions.create("ada", cart("x")).await.unwrap();
    let id = *made.id();
    // Every script is known, so that a repetition is one command.
    assert!(sessions.touch(&id).await.unwrap() && sessions.update(&id, &cart("y")).await.unwrap());
    sessions.extend(&id, DEFAULT_EXTENSION).await.unwrap();
    let other = sessions.create("ada", cart("x")).await.unwrap();
    assert_eq!(sessions.list("ada").await.unwrap().len(), 2);
    assert!(sessions.delete(other.id()).await.unwrap());
    let cut = async || {
        let ready = || sessions.is_valid(&id);
        until("the link", ready, Result::is_ok).await.unwrap();
        proxy.set_for_open(Fault::CutAfterReplyBytes(0));
    };
    cut().await;
    assert!(sessions.touch(&id).await.unwrap());
    cut().await;
    assert!(sessions.get_and_touch(&id).await.unwrap().is_some());
    cut().await;
    assert!(sessions.get(&id).await.unwrap().is_some());
    cut().await;
    assert!(sessions.update_activity(&id).await.unwrap());
    cut().await;
    assert_eq!(sessions.list("ada").await.unwrap().len(), 1);

    made = sessions.get(&id).await.unwrap().unwrap();
    for call in 0..4 {
        cut().await;
        let err = match call {
            0 => sessions.extend(&id, DEFAULT_EXTENSION).await.unwrap_err(),
            1 => sessions.update(&id, &cart("z")).await.unwrap_err(),
            2 => sessions.update_metadata(&id, [("k", Some("v"))]).await.unwrap_err(),
            _ => {
                let read = until("the link", async || sessions.get(&id).await, Result::is_ok).await;
                let mut read = read.unwrap().unwrap();
                cut().await;
                sessions.save(&mut read).await.unwrap_err()
            }
        };
        assert_eq!(kind(&err), ErrorKind::Interrupted, "{call}");
    }
    let read = until("the link", async || sessions.get(&id).await, Result::is_ok).await;
    let read = read.unwrap().unwrap();
    assert_eq!(read.expires_at(), made.expires_at() + DEFAULT_EXTENSION, "added once");
    assert_eq!(read.version(), made.version() + 3, "written once each");

    cut().await;
    assert!(!sessions.delete(&id).await.unwrap(), "repeated: it had ended already");
    assert!(!sessions.is_valid(&id).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_replies_are_unclear_outcomes_and_the_server_knows() {
    let (_server, proxy, sessions) = proxied().await;
    let made = sessions.create("ada", cart("x")).await.unwrap();
    // So that the server knows the script.
    let other = sessions.create("ada", cart("x")).await.unwrap();
    assert!(sessions.delete(other.id()).await.unwrap());
    proxy.set(Fault::DropReplies);
    let begun = Instant::now();
    let err = sessions.delete(made.id()).await.unwrap_err();
    assert!(err.is_outcome_unknown(), "{err:?}");
    assert!(begun.elapsed() < TIMEOUT + SLACK);
    proxy.clear();
    let valid = until("the link", async || sessions.is_valid(made.id()).await, Result::is_ok).await;
    assert!(!valid.unwrap());
}

#[tokio::test]
async fn a_full_server_reads_and_deletes() {
    let server = Server::start().unwrap();
    let sessions = sessions(server.url()).await;
    let made = sessions.create("ada", cart("x")).await.unwrap();
    // So that the scripts are there.
    drop(outcomes(&sessions, &sessions.create("ada", cart("x")).await.unwrap()).await);
    let made = match sessions.is_valid(made.id()).await.unwrap() {
        true => made,
        false => sessions.create("ada", cart("x")).await.unwrap(),
    };
    server.command(["CONFIG", "SET", "maxmemory", "1"]).unwrap();

    for (call, outcome) in outcomes(&sessions, &made).await {
        let expected = match call {
            "get" | "is_valid" => "true",
            "list" | "count" => "1",
            "delete_others" => "0",
            // Who is logged in stays so.
            "touch" | "get_and_touch" | "update_activity" | "extend" | "delete_key" => "true",
            "delete_all" => "0",
            "delete" => "false",
            _ => {
                let err = outcome.unwrap_err();
                assert_eq!(kind(&err), ErrorKind::OutOfMemory, "{call}");
                assert!(err.is_retryable() && !err.is_outcome_unknown());
                continue;
            }
        };
        assert_eq!(outcome.unwrap(), expected, "{call}");
    }
    server.command(["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    assert_eq!(
        server.command(["DBSIZE"]).unwrap().as_int(),
        Some(0),
        "a refused create leaves nothing"
    );
    sessions.create("ada", cart("x")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_writes_reads() {
    let server = Server::start().unwrap();
    let sessions = sessions(server.url()).await;
    let made = sessions.create("ada", cart("x")).await.unwrap();
    server.command(["REPLICAOF", "127.0.0.1", "1"]).unwrap();

    for (call, outcome) in outcomes(&sessions, &made).await {
        match call {
            "get" | "is_valid" => assert_eq!(outcome.unwrap(), "true", "{call}"),
            _ => {
                let err = outcome.unwrap_err();
                assert!(err.is_retryable(), "{call}: {err:?}");
            }
        }
    }
    server.command(["REPLICAOF", "NO", "ONE"]).unwrap();
    let touched = until("writes", async || sessions.touch(made.id()).await, Result::is_ok).await;
    assert!(touched.unwrap());
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_is_told_them_again() {
    let server = Server::start().unwrap();
    let sessions = sessions(server.url()).await;
    let mut made = sessions.create("ada", cart("x")).await.unwrap();
    let id: SessionId = *made.id();
    let flush = || server.command(["SCRIPT", "FLUSH"]).unwrap();
    flush();
    assert!(sessions.touch(&id).await.unwrap());
    flush();
    assert_eq!(sessions.save(&mut made).await.unwrap(), Saved::Saved);
    flush();
    assert_eq!(sessions.list("ada").await.unwrap().len(), 1);
    flush();
    sessions.create("ada", cart("x")).await.unwrap();
    flush();
    assert_eq!(sessions.delete_all("ada").await.unwrap(), 2);
}

#[tokio::test]
async fn without_a_server_a_connection_that_is_optional_lets_nobody_in() {
    let server = Server::start().unwrap();
    let made = sessions(server.url()).await.create("ada", cart("x")).await.unwrap();
    server.kill().unwrap();
    let config = Config::builder().url(server.url()).optional(true).command_timeout(TIMEOUT);
    let sessions = Sessions::<Cart>::new(Conn::connect(config).await.unwrap());

    for (call, outcome) in outcomes(&sessions, &made).await {
        let expected = match call {
            "get" | "is_valid" | "touch" | "get_and_touch" | "update_activity" => "false",
            "list" | "count" => "0",
            // What would be a lie.
            _ => {
                let err = outcome.unwrap_err();
                assert_eq!(kind(&err), ErrorKind::Connect, "{call}");
                continue;
            }
        };
        assert_eq!(outcome.unwrap(), expected, "{call}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_emptied_has_no_sessions() {
    let server = Server::start().unwrap();
    let sessions = sessions(server.url()).await;
    let made = sessions.create("ada", cart("x")).await.unwrap();
    server.command(["FLUSHALL"]).unwrap();
    assert!(sessions.get(made.id()).await.unwrap().is_none());
    assert!(!sessions.touch(made.id()).await.unwrap());
    assert_eq!(sessions.count("ada").await.unwrap(), 0);
    assert_eq!(server.command(["DBSIZE"]).unwrap().as_int(), Some(0), "nothing came back");
}
