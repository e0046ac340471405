//! fred on a connection of its own.

use std::time::Duration;

use redbrick_core_conn::{
    Config, Conn, ErrorKind, State,
    fred::{interfaces::KeysInterface, prelude::ClientLike},
};
use redbrick_testkit::{Topology, shared};

use crate::{PATIENCE, client_list, connect_named, eventually, server};

#[tokio::test]
async fn it_speaks_to_the_same_servers_and_keys_carry_the_prefix_by_hand() {
    let (conn, prefix) = connect_named("raw").await;
    let raw = conn.fred().await.unwrap();
    for n in 0..20 {
        conn.increment(format!("n{n}"), n).await.unwrap();
        let found: Option<i64> = raw.get(format!("{prefix}:n{n}")).await.unwrap();
        assert_eq!(found, Some(n));
    }
    assert!(format!("{raw:?}").starts_with("RawClient"));
}

#[tokio::test]
async fn it_uses_the_credentials_and_the_database_of_the_connection() {
    let server = redbrick_testkit::Server::builder()
        .default_user_off()
        .user("app", "secret", "~* &* +@all")
        .start()
        .unwrap();
    let config = Config::builder().url(server.url()).username("app").password("secret").database(3);
    let conn = Conn::connect(config).await.unwrap();
    let raw = conn.fred().await.unwrap();
    let _: () = raw.set("k", "v", None, None, false).await.unwrap();
    assert!(conn.exists("k").await.unwrap(), "in the same database");
}

#[tokio::test]
async fn its_end_leaves_the_connection_alone_and_no_socket() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let before = client_list(&server).len();
    let mut changes = conn.state_changes();
    let raw = conn.fred().await.unwrap();
    let clone = (*raw).clone();
    assert_eq!(client_list(&server).len(), before + 1);
    drop(raw);
    let listing = server.clone();
    eventually("its socket closed", move || client_list(&listing).len() == before).await;
    drop(clone);
    let raw = conn.fred().await.unwrap();
    let _ = raw.quit().await;
    drop(raw);
    conn.set("k", &1).await.unwrap();
    assert_eq!(conn.state(), State::Connected);
    conn.close(PATIENCE).await;
    assert_eq!(changes.next().await.unwrap().current, State::End, "the first change of all");
    assert_eq!(conn.fred().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_in_time() {
    let server = server();
    let config = Config::builder().url(server.url()).connect_timeout(Duration::from_secs(1));
    let conn = Conn::connect(config).await.unwrap();
    server.kill().unwrap();
    let err = tokio::time::timeout(PATIENCE, conn.fred()).await.unwrap().unwrap_err();
    assert!(matches!(err.kind(), ErrorKind::Connect | ErrorKind::Timeout), "{err:?}");
}

#[tokio::test]
async fn it_dials_again_by_itself() {
    if shared().topology() != Topology::Standalone {
        return;
    }
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let raw = conn.fred().await.unwrap();
    server.restart().unwrap();
    let again = async {
        loop {
            if raw.set::<(), _, _>("k", "v", None, None, false).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("it comes back");
}
