//! Named connections.

use std::time::Duration;

use redbrick_core_conn::{Conn, DEFAULT_ALIAS, ErrorKind, Registry, State};

use crate::server;

#[tokio::test]
async fn connections_are_found_by_their_alias() {
    let (main, orders) = (server(), server());
    let registry = Registry::new();
    assert!(registry.default_conn().is_none());
    registry.connect(DEFAULT_ALIAS, main.url()).await.unwrap();
    registry.connect("redis-orders", orders.url()).await.unwrap();
    assert_eq!(registry.aliases(), ["redis", "redis-orders"]);

    registry.get("redis-orders").unwrap().set("k", &1).await.unwrap();
    assert_eq!(registry.default_conn().unwrap().get::<i32>("k").await.unwrap(), None);
    assert!(registry.get("unknown").is_none());
    assert_eq!(format!("{registry:?}"), r#"Registry { aliases: ["redis", "redis-orders"] }"#);
}

#[tokio::test]
async fn an_alias_is_given_once() {
    let server = server();
    let registry = Registry::new();
    registry.connect("a", server.url()).await.unwrap();
    let err = registry.connect("a", server.url()).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Config);
    assert!(err.to_string().contains("`a`"), "{err}");
    let second = Conn::connect_lazy(server.url()).unwrap();
    assert_eq!(registry.insert("a", second.clone()).unwrap_err().kind(), ErrorKind::Config);
    assert!(registry.remove("a").is_some());
    registry.insert("a", second).unwrap();
    assert!(registry.remove("b").is_none());
}

#[tokio::test]
async fn closing_closes_all_and_reports_each() {
    let server = server();
    let registry = Registry::new();
    let a = registry.connect("a", server.url()).await.unwrap();
    let b = registry.connect("b", server.url()).await.unwrap();
    let reports = registry.close(Duration::MAX).await;
    assert_eq!(reports.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert!(reports.values().all(|report| report.is_clean()));
    assert_eq!((a.state(), b.state()), (State::End, State::End));
    assert!(registry.aliases().is_empty());
}
