//! Deleting everything. On servers of the tests' own: the shared one holds the keys of others.

use redbrick_core_conn::{Config, Confirm, Conn, ErrorKind, State};
use redbrick_testkit::{Cluster, Server};

use crate::{cost, reach, server};

#[tokio::test]
async fn every_key_goes_with_the_prefix_or_without_it() {
    let server = server();
    let conn = Conn::connect(Config::builder().url(server.url()).key_prefix("shop")).await.unwrap();
    conn.set("k", &1).await.unwrap();
    server.command(["SET", "other", "x"]).unwrap();
    let other = Conn::connect(Config::builder().url(server.url()).database(1)).await.unwrap();
    other.set("k", &1).await.unwrap();
    let used = cost(&server, async { conn.flush(Confirm::DeleteEveryKey).await.unwrap() });
    assert_eq!(used.await, "flushdb 1");
    assert_eq!(server.command(["DBSIZE"]).unwrap().as_int(), Some(0));
    assert!(other.exists("k").await.unwrap(), "another database");
}

#[tokio::test]
async fn every_master_of_a_cluster_is_flushed() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap().unwrap();
    let conn = Conn::connect(cluster.url()).await.unwrap();
    for n in 0..100 {
        conn.set(format!("k{n}"), &n).await.unwrap();
    }
    let before = cluster.command_counts().unwrap();
    conn.flush(Confirm::DeleteEveryKey).await.unwrap();
    for master in cluster.masters().unwrap() {
        let size = cluster.nodes()[master].command(["DBSIZE"]).unwrap().as_int();
        assert_eq!(size, Some(0), "master {master}");
        let node = cluster.nodes()[master].command_counts().unwrap();
        assert_eq!(node.of("flushdb"), 1, "master {master}");
    }
    drop(before);

    // A lazy one learns which masters there are before it asks them.
    let lazy = Conn::connect_lazy(cluster.url()).unwrap();
    conn.set("a", &1).await.unwrap();
    conn.set("b", &1).await.unwrap();
    conn.set("c", &1).await.unwrap();
    lazy.flush(Confirm::DeleteEveryKey).await.unwrap();
    for master in cluster.masters().unwrap() {
        let size = cluster.nodes()[master].command(["DBSIZE"]).unwrap().as_int();
        assert_eq!(size, Some(0), "master {master}");
    }
}

#[tokio::test]
async fn who_may_not_is_told_so_and_nothing_goes() {
    let server = Server::builder().user("app", "secret", "~* &* +@all -flushdb").start().unwrap();
    let config = Config::builder().url(server.url()).username("app").password("secret");
    let conn = Conn::connect(config).await.unwrap();
    conn.set("k", &1).await.unwrap();
    let err = conn.flush(Confirm::DeleteEveryKey).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Denied, "{err:?}");
    assert!(conn.exists("k").await.unwrap());
}

#[tokio::test]
async fn without_a_server_it_fails_in_time() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let mut changes = conn.state_changes();
    server.kill().unwrap();
    reach(&mut changes, State::Reconnecting).await;
    let hasty = conn.with_command_timeout(std::time::Duration::from_millis(100));
    let err = hasty.flush(Confirm::DeleteEveryKey).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Connect, "{err:?}");
}
