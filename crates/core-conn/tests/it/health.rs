//! Health says what the server says, and says so when it does not.

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Config, Conn, ErrorKind, ServerKind, ServerMode, State};
use redbrick_testkit::Server;
use tokio::{sync::mpsc, time::Instant};

use crate::{PATIENCE, server};

#[tokio::test]
async fn a_healthy_server_is_described() {
    let server = Server::builder()
        .config("maxmemory", "100mb")
        .config("maxmemory-policy", "allkeys-lru")
        .start()
        .unwrap();
    let conn = Conn::connect(server.url()).await.unwrap();
    let health = conn.health().await;
    assert!(health.healthy && health.error.is_none(), "{health:?}");
    assert_eq!(health.state, State::Connected);
    assert!(health.response_time.unwrap() > Duration::ZERO);
    assert_eq!(health.host.as_deref(), Some("127.0.0.1"));
    assert_eq!(health.port, Some(server.port()));
    assert!(health.connected_clients.unwrap() >= 1);
    assert!(health.used_memory.unwrap() > 100_000);
    assert!(health.used_memory_human.as_ref().unwrap().ends_with(['K', 'M']));
    assert_eq!(health.max_memory, Some(100 << 20));
    assert_eq!(health.eviction_policy.as_deref(), Some("allkeys-lru"));
    assert!(health.warnings.is_empty());
    let info = health.server.as_ref().unwrap();
    assert_eq!(info.mode, ServerMode::Standalone);
    let expected = match server.version().kind {
        redbrick_testkit::Kind::Valkey => ServerKind::Valkey,
        redbrick_testkit::Kind::Redis => ServerKind::Redis,
        _ => ServerKind::Other("redict".to_owned()),
    };
    assert_eq!(info.kind, expected);
    let line = health.to_string();
    assert!(line.starts_with("healthy, connected, ") && line.contains("answers in"), "{line}");
}

#[tokio::test]
async fn memory_above_the_threshold_is_a_warning_and_changes_no_setting() {
    let server = server();
    let conn =
        Conn::connect(Config::builder().url(server.url()).memory_threshold(1000)).await.unwrap();
    let health = conn.health().await;
    assert!(health.healthy);
    assert!(health.warnings[0].contains("above 1000"), "{:?}", health.warnings);
    assert_eq!(health.max_memory, None, "the server has no limit of its own");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unhealthy_and_says_why() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let hasty = conn.with_command_timeout(Duration::from_millis(200));
    let paused = server.pause().unwrap();
    let health = hasty.health().await;
    assert!(!health.healthy);
    assert_eq!(health.error.as_ref().unwrap().kind(), ErrorKind::Timeout);
    paused.resume();
    assert!(conn.health().await.healthy);

    let mut changes = conn.state_changes();
    server.kill().unwrap();
    crate::reach(&mut changes, State::Reconnecting).await;
    let started = Instant::now();
    let health = conn.health().await;
    assert!(!health.healthy && health.response_time.is_none(), "{health:?}");
    assert!(started.elapsed() < Duration::from_secs(2), "not after the command timeout of 5 s");
    assert!(health.to_string().starts_with("unhealthy, reconnecting, error: "), "{health}");
}

#[tokio::test]
async fn a_full_server_that_evicts_nothing_is_a_warning() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    server.command(["CONFIG", "SET", "maxmemory", "1000"]).unwrap();
    let health = conn.health().await;
    assert!(health.healthy, "{health:?}");
    assert!(health.warnings[0].contains("evicts nothing"), "{:?}", health.warnings);
    assert_eq!(conn.set("k", &1).await.unwrap_err().kind(), ErrorKind::OutOfMemory);
}

#[tokio::test]
async fn without_the_right_to_info_it_is_healthy_and_knows_less() {
    let server = Server::builder().user("app", "pw", "~* +@all -info").start().unwrap();
    let config = Config::builder().url(server.url()).username("app").password("pw");
    let conn = Conn::connect(config).await.unwrap();
    let health = conn.health().await;
    assert!(health.healthy && health.response_time.is_some());
    assert!(health.used_memory.is_none() && health.server.is_none());
    assert_eq!(health.error.unwrap().kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn checks_run_until_stopped_and_see_the_server_go_and_come_back() {
    let server = server();
    let config = Config::builder().url(server.url()).command_timeout(Duration::from_millis(300));
    let conn = Conn::connect(config).await.unwrap();
    let (results, mut seen) = mpsc::unbounded_channel();
    let checks = conn.check_health(Duration::from_millis(20), move |health| {
        // The test may have ended.
        let _ = results.send(health.healthy);
    });
    let mut wait_for = async |healthy: bool| {
        tokio::time::timeout(PATIENCE, async {
            while seen.recv().await.expect("checks go on") != healthy {}
        })
        .await
        .expect("seen in time");
    };
    wait_for(true).await;
    server.kill().unwrap();
    wait_for(false).await;
    server.restart().unwrap();
    wait_for(true).await;
    checks.stop();
    while seen.recv().await.is_some() {}
}

#[tokio::test]
async fn checks_end_with_the_last_handle() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let (checked, mut first) = mpsc::unbounded_channel();
    let _checks = conn.check_health(Duration::from_millis(10), move |_| {
        let _ = (&held, checked.send(()));
    });
    first.recv().await.unwrap();
    drop(conn);
    while first.recv().await.is_some() {}
    assert_eq!(Arc::strong_count(&alive), 1, "the callback is gone");
}
