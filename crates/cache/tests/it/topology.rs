#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{collections::BTreeSet, time::Duration};

use redbrick_cache::{Cache, Change, Rules, Target};
use redbrick_core_conn::Conn;
use redbrick_testkit::{Cluster, Sentinel};
use tokio::time::Instant;

use crate::{PATIENCE, number, patient};

/// Stores until it works.
async fn set(cache: &Cache<u64>, key: &str) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = cache.set(key, &1).tags([key, "all"]).await {
        assert!(error.is_retryable(), "{error:?}");
        assert!(Instant::now() < deadline, "still failing: {error:?}");
    }
}

async fn works(cache: &Cache<u64>) {
    let keys: Vec<String> = (0..30).map(|n| format!("key {n}")).collect();
    for key in &keys {
        set(cache, key).await;
    }
    let found = cache.get_many(&keys).await.unwrap();
    assert_eq!(found, vec![Some(1); 30]);
    cache.set_many(keys.iter().map(|key| (key, &2))).tags(["a", "b", "all"]).await.unwrap();
    assert_eq!(cache.get_many(&keys).await.unwrap(), vec![Some(2); 30]);
    assert!(cache.invalidate_tag("all").await.unwrap());
    for key in &keys {
        assert_eq!(cache.get_or_load(key, || number(3)).tags(["a", "c"]).await.unwrap(), 3);
    }
    assert_eq!(cache.get_many(&keys).await.unwrap(), vec![Some(3); 30]);
    assert_eq!(cache.increment("n", 1).await.unwrap(), 1);
    assert!(cache.delete_count("n").await.unwrap());
    assert_eq!(cache.server_statistics().await.unwrap().keys, 30);
    assert_eq!(cache.delete_many(&keys[..5]).await.unwrap(), 5);
    assert_eq!(cache.clear(["key *"]).await.unwrap(), 25);
    assert_eq!(cache.invalidate_tags(["a", "b", "c"]).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_on_a_cluster_before_and_after_a_master_is_lost() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap().unwrap();
    let conn = Conn::connect(cluster.url()).await.unwrap();
    let cache = patient::<u64>(conn.with_command_timeout(Duration::from_secs(5)));
    works(&cache).await;
    let owner = |n: u32| {
        let slot = cluster.slot_of(format!("cache:products:{{key {n}}}")).unwrap();
        cluster.slot_owner(slot).unwrap()
    };
    assert_eq!((0..30).map(owner).collect::<BTreeSet<_>>().len(), 3, "on all masters");

    let cluster = tokio::task::spawn_blocking(move || {
        let master = cluster.masters().unwrap()[0];
        cluster.kill_master(master).unwrap();
        cluster
    });
    let _cluster = cluster.await.unwrap();
    // The others may have lost what their new master was not told of.
    cache.clear_all().await.ok();
    for n in 0..30 {
        set(&cache, &format!("key {n}")).await;
    }
    works(&cache).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_are_shortened_and_deleted_while_their_slot_is_moved() {
    let cluster = tokio::task::spawn_blocking(|| Cluster::builder().masters(3).replicas(0).start());
    let cluster = cluster.await.unwrap().unwrap();
    let conn = Conn::connect(cluster.url()).await.unwrap();
    let conn = conn.with_command_timeout(Duration::from_secs(2));
    let rules = Rules::builder().on("x", Change::Update, [Target::shorten("a", PATIENCE)]);
    let rules = rules.build().unwrap();
    // Two entries in one slot.
    let other = Cache::builder(conn.clone(), "others").redis_timeout(PATIENCE).build().unwrap();
    let caches = [patient::<u64>(conn), other];
    for cache in &caches {
        cache.set("a", &1).await.unwrap();
    }
    let slot = cluster.slot_of("cache:products:{a}").unwrap();
    let owner = cluster.slot_owner(slot).unwrap();
    let to = cluster.masters().unwrap().into_iter().find(|master| *master != owner).unwrap();
    let migration = cluster.start_migration(slot, to).unwrap();
    for (cache, is_moved) in caches.iter().zip([false, true]) {
        while is_moved && migration.move_keys(100).unwrap() > 0 {}
        let applied = cache.apply(&rules, "x", Change::Update, &[]).await.unwrap();
        assert_eq!(applied.shortened, 1, "moved: {is_moved}");
        assert!(cache.delete("a").await.unwrap(), "moved: {is_moved}");
        assert!(!cache.delete("a").await.unwrap());
    }
    migration.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_with_sentinel_before_and_after_its_failover() {
    let sentinel = tokio::task::spawn_blocking(Sentinel::start).await.unwrap().unwrap();
    let conn = Conn::connect(sentinel.url()).await.unwrap();
    let cache = patient::<u64>(conn.with_command_timeout(Duration::from_secs(5)));
    works(&cache).await;
    let sentinel = tokio::task::spawn_blocking(move || {
        sentinel.kill_master().unwrap();
        sentinel
    });
    let _sentinel = sentinel.await.unwrap();
    set(&cache, "key 0").await;
    works(&cache).await;
}
