//! Transactions of which something is refused: nothing of them runs.

use redbrick_core_conn::{Config, Conn, ErrorKind};
use redbrick_testkit::Server;
use tokio::time::Instant;

use crate::PATIENCE;

async fn as_user(rules: &str) -> (Server, Conn) {
    let server = Server::builder().user("app", "secret", rules).start().expect("a server");
    let config = Config::builder().url(server.url()).username("app").password("secret");
    let conn = Conn::connect(config).await.expect("this user");
    (server, conn)
}

#[tokio::test]
async fn a_command_that_is_refused_lets_nothing_run() {
    let (server, conn) = as_user("~* &* +@all -decrby").await;
    for _ in 0..3 {
        let mut transaction = conn.transaction();
        let _up = transaction.add(conn.increment("n", 1));
        let _down = transaction.add(conn.decrement("n", 1));
        let _up = transaction.add(conn.increment("n", 1));
        let err = transaction.send().await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Denied, "{err:?}");
        assert!(!err.is_outcome_unknown() && err.to_string().contains("decrby"), "{err}");
    }
    assert_eq!(server.command(["EXISTS", "n"]).unwrap().as_int(), Some(0));
    let mut transaction = conn.transaction();
    let up = transaction.add(conn.increment("n", 1));
    assert_eq!(transaction.send().await.unwrap().take(up).unwrap(), 1, "the link is in step");
}

#[tokio::test]
async fn keys_out_of_reach_let_nothing_run() {
    let (server, conn) = as_user("~own:* &* +@all").await;
    let mut transaction = conn.transaction();
    let _own = transaction.add(conn.increment("own:n", 1));
    let _other = transaction.add(conn.increment("other:n", 1));
    let err = transaction.send().await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Denied, "{err:?}");
    assert_eq!(server.command(["DBSIZE"]).unwrap().as_int(), Some(0));
}

#[tokio::test]
async fn without_the_right_to_exec_nothing_runs_then_or_later() {
    let (server, conn) = as_user("~* &* +@all -exec").await;
    for _ in 0..3 {
        let mut transaction = conn.transaction();
        let _up = transaction.add(conn.increment("n", 1));
        let err = transaction.send().await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Denied, "{err:?}");
    }
    server.command(["ACL", "SETUSER", "app", "+exec"]).unwrap();
    // What was begun before is thrown away by the first one, maybe, and never run.
    let send = async || {
        let mut transaction = conn.transaction();
        let up = transaction.add(conn.increment("n", 10));
        transaction.send().await.and_then(|mut results| results.take(up))
    };
    let first = send().await;
    assert!(first.as_ref().is_ok_and(|n| *n == 10) || first.is_err(), "{first:?}");
    if first.is_err() {
        assert_eq!(send().await.unwrap(), 10, "{first:?}");
    }
}

#[tokio::test]
async fn without_the_right_to_multi_nothing_runs_and_with_it_again_it_does() {
    let (server, conn) = as_user("~* &* +@all -multi").await;
    let twice = async || {
        let mut transaction = conn.transaction();
        let _up = transaction.add(conn.increment("n", 1));
        let _up_again = transaction.add(conn.increment("n", 1));
        transaction.send().await.map(drop)
    };
    let err = twice().await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Denied, "{err:?}");
    assert!(err.to_string().contains("multi"), "{err}");
    assert_eq!(conn.count("n").await.unwrap(), None, "neither ran by itself");

    server.command(["ACL", "SETUSER", "app", "+multi"]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while let Err(err) = twice().await {
        assert_eq!(err.kind(), ErrorKind::Denied, "{err:?}");
        assert!(Instant::now() < deadline, "still denied");
        // A call that fails at once gives way to nobody.
        tokio::task::yield_now().await;
    }
    assert_eq!(conn.count("n").await.unwrap(), Some(2));
}

#[tokio::test]
async fn out_of_memory_lets_nothing_run() {
    let server = Server::builder().config("maxmemory", "1").start().unwrap();
    let conn = Conn::connect(server.url()).await.unwrap();
    let mut transaction = conn.transaction();
    let _delete = transaction.add(conn.delete("k"));
    let _set = transaction.add(conn.set("k", &1));
    let err = transaction.send().await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::OutOfMemory, "{err:?}");
    assert_eq!(server.command(["DBSIZE"]).unwrap().as_int(), Some(0));
}
