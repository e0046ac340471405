//! On every topology, and when a master is lost.

use std::time::Duration;

use redbrick_cache::Cache;
use redbrick_core_conn::Conn;
use redbrick_testkit::{Cluster, Sentinel, unique};
use tokio::time::Instant;

use super::{builder, keeping, until_is, until_kept};
use crate::{PATIENCE, connect_below, numbers_below};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_every_topology_what_is_kept_is_what_is_there() {
    let prefix = unique("local_topology");
    let cache = keeping(connect_below(&prefix).await);
    let other = numbers_below(&prefix).await;
    for n in 0..30 {
        let (key, tag) = (format!("key {n}"), format!("tag {}", n % 3));
        other.set(&key, &n).tags([&tag]).await.unwrap();
        until_is(&cache, &key, Some(n)).await;
        until_kept(&cache, &key).await;
    }
    let keys: Vec<String> = (0..30).map(|n| format!("key {n}")).collect();
    assert!(cache.get_many(&keys).await.unwrap().into_iter().eq((0..30).map(Some)));
    assert!(other.invalidate_tag("tag 1").await.unwrap());
    for (n, key) in (0..).zip(&keys) {
        until_is(&cache, key, (n % 3 != 1).then_some(n)).await;
    }
    assert_eq!(cache.clear_all().await.unwrap(), 30);
    assert_eq!(cache.get_many(&keys).await.unwrap(), vec![None; 30]);
}

/// Stores until it works.
async fn set(cache: &Cache<u64>, key: &str, value: u64) {
    let late = Instant::now() + PATIENCE;
    while let Err(error) = cache.set(key, &value).await {
        assert!(error.is_retryable() && Instant::now() < late, "{error:?}");
    }
}

/// Reads until it works and is this.
async fn until_read(cache: &Cache<u64>, key: &str, value: u64) {
    let late = Instant::now() + PATIENCE;
    loop {
        match cache.get(key).await {
            Ok(found) if found == Some(value) => return,
            Ok(_) => {}
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
        assert!(Instant::now() < late, "{key} does not become {value}");
    }
}

/// Has a master lost, and looks whether what is changed after that is seen.
async fn survives<T: Send + 'static>(url: String, servers: T, lose: fn(&T)) {
    let conn = || async { Conn::connect(url.clone()).await.unwrap() };
    let timed = |conn: Conn| builder(conn.with_command_timeout(Duration::from_secs(2)));
    let cache = timed(conn().await).local(redbrick_cache::Local::new()).build().unwrap();
    let other = timed(conn().await).build().unwrap();
    let keys: Vec<String> = (0..30).map(|n| format!("key {n}")).collect();
    for key in &keys {
        set(&other, key, 1).await;
        until_read(&cache, key, 1).await;
        until_kept(&cache, key).await;
    }
    let servers = tokio::task::spawn_blocking(move || {
        lose(&servers);
        servers
    });
    let _servers = servers.await.unwrap();
    for key in &keys {
        set(&other, key, 2).await;
        until_read(&cache, key, 2).await;
        until_kept(&cache, key).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_cluster_that_loses_a_master() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap().unwrap();
    survives(cluster.url(), cluster, |cluster| {
        let master = cluster.masters().unwrap()[0];
        cluster.kill_master(master).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_sentinels_that_make_another_one_the_master() {
    let sentinel = tokio::task::spawn_blocking(Sentinel::start).await.unwrap().unwrap();
    survives(sentinel.url(), sentinel, |sentinel| {
        sentinel.failover().unwrap();
    })
    .await;
}
