//! Calls that have another way to go on, and do not wait for a server.

use std::time::Duration;

use redbrick_core_conn::{Config, Conn, ErrorKind, Replay, State};
use redbrick_testkit::Fault;
use tokio::time::timeout;

use crate::{PATIENCE, reach, server};

/// Far less than the command timeout here, which is `PATIENCE`.
const SOON: Duration = Duration::from_secs(5);

fn config(url: &str) -> Config {
    Config::builder().url(url).command_timeout(PATIENCE).build().expect("a config")
}

async fn soon<T>(call: impl IntoFuture<Output = T>) -> T {
    timeout(SOON, call.into_future()).await.expect("it does not wait")
}

#[tokio::test]
async fn without_a_link_they_fail_at_once_and_with_one_they_run() {
    let server = server();
    let conn = Conn::connect(config(&server.url())).await.unwrap();
    assert_eq!(conn.increment("n", 1).fail_fast().await.unwrap(), 1);

    let mut changes = conn.state_changes();
    server.kill().unwrap();
    reach(&mut changes, State::Reconnecting).await;
    for replay in [Replay::Never, Replay::IfUnsent, Replay::Idempotent] {
        let err = soon(conn.get::<u8>("n").replay(replay).fail_fast()).await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Connect, "{err:?}");
        assert!(err.is_retryable() && !err.is_outcome_unknown(), "{err:?}");
    }
    assert_eq!(soon(conn.get::<u8>("n").fail_fast().or_empty()).await.unwrap(), None);
    let fast = conn.with_fail_fast();
    assert_eq!(soon(fast.get::<u8>("n")).await.unwrap_err().kind(), ErrorKind::Connect);
    let many = soon(Box::pin(fast.get_many::<u8, _>(["n", "m"]))).await;
    assert_eq!(many.unwrap_err().kind(), ErrorKind::Connect);
    let mut transaction = fast.transaction();
    let _count = transaction.add(fast.count("n"));
    assert_eq!(soon(transaction.send()).await.unwrap_err().kind(), ErrorKind::Connect);
    let mut pipeline = fast.pipeline();
    let count = pipeline.add(conn.count("n"));
    let made_do = pipeline.add(conn.count("n").or_empty());
    let mut results = soon(pipeline.send()).await;
    assert_eq!(results.take(count).unwrap_err().kind(), ErrorKind::Connect);
    assert_eq!(results.take(made_do).unwrap(), None);

    server.restart().unwrap();
    reach(&mut changes, State::Connected).await;
    assert_eq!(conn.increment("n", 1).fail_fast().await.unwrap(), 1);
    let mut pipeline = fast.pipeline();
    let count = pipeline.add(conn.count("n"));
    assert_eq!(pipeline.send().await.take(count).unwrap(), Some(1));
}

#[tokio::test]
async fn the_first_attempt_to_connect_is_waited_for() {
    let server = server();
    let conn = Conn::connect_lazy(config(&server.url())).unwrap();
    assert_eq!(conn.increment("n", 1).fail_fast().await.unwrap(), 1);

    server.kill().unwrap();
    let conn = Conn::connect_lazy(config(&server.url())).unwrap();
    let err = soon(conn.get::<u8>("n").fail_fast()).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Connect, "{err:?}");
}

#[tokio::test]
async fn what_may_have_run_is_said_to_when_its_link_breaks() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(config(&proxy.url())).await.unwrap();
    proxy.set(Fault::DropReplies);
    let before = server.command_counts().unwrap();
    let call = tokio::spawn({
        let conn = conn.clone();
        async move { conn.increment("n", 1).replay(Replay::Idempotent).fail_fast().await }
    });
    crate::eventually("the increment has run", {
        let server = server.clone();
        move || server.command_counts().unwrap().since(&before).of("incrby") == 1
    })
    .await;
    server.kill().unwrap();
    let err = soon(call).await.unwrap().unwrap_err();
    assert!(err.is_outcome_unknown(), "{err:?}");
}

#[tokio::test]
async fn an_optional_connection_fails_too() {
    let server = server();
    server.kill().unwrap();
    let config = Config::builder().url(server.url()).optional(true).command_timeout(PATIENCE);
    let conn = Conn::connect(config).await.unwrap();
    assert_eq!(conn.get::<u8>("n").await.unwrap(), None);
    let err = soon(conn.get::<u8>("n").fail_fast()).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Connect, "{err:?}");
}
