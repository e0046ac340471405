//! Cluster and Sentinel, and a master that is lost.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Config, Conn};
use redbrick_lock::{Extended, LockGuard, Locks, Released};
use redbrick_testkit::{Cluster, Sentinel};
use tokio::time::Instant;

use crate::{LONG, PATIENCE, acquired, permits};

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the fixture")
}

async fn locks_at(url: String) -> Locks {
    let config = Config::builder().url(url).command_timeout(Duration::from_secs(2));
    Locks::new(Conn::connect(config).await.expect("the servers"))
}

/// Asks until somebody can grant it.
async fn acquired_at_last(locks: &Locks, name: &str) -> LockGuard {
    let deadline = Instant::now() + PATIENCE * 2;
    loop {
        match locks.lock(name).lease(LONG).await {
            Ok(Some(guard)) => return guard,
            Ok(None) => {}
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
        assert!(Instant::now() < deadline, "nobody grants it");
    }
}

async fn everything_works(locks: &Locks, round: u64) {
    let names: Vec<String> = (0..20).map(|n| format!("round {round} job {n:02}")).collect();
    let mut guards = Vec::new();
    for name in &names {
        let mut guard = acquired_at_last(locks, name).await;
        assert_eq!(guard.extend(LONG).await.unwrap(), Extended::Extended);
        assert!(locks.try_lock(name).await.unwrap().is_none());
        guards.push(guard);
        let semaphore = locks.semaphore(name, permits(1));
        let permit = semaphore.acquire().await.unwrap().unwrap();
        assert_eq!(semaphore.available().await.unwrap(), 0);
        assert_eq!(permit.release().await.unwrap(), Released::Released);
        assert_eq!(locks.with_lock(format!("{name} with"), async |_| 1).await.unwrap(), Some(1));
    }
    let list = locks.list().await.unwrap();
    let listed = list.iter().filter(|info| info.name.starts_with(b"round "));
    assert!(listed.count() >= names.len());
    for guard in guards {
        assert_eq!(guard.release().await.unwrap(), Released::Released);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_live_on_every_master_of_a_cluster_and_go_on_after_a_failover() {
    let cluster = Arc::new(blocking(Cluster::start).await.expect("a cluster"));
    let locks = locks_at(cluster.url()).await;
    everything_works(&locks, 1).await;
    let before = acquired(&locks, "job", LONG).await;
    let fence = before.fence();

    let slot = cluster.slot_of("lock:default:{90}:job").unwrap();
    let lost = cluster.slot_owner(slot).unwrap();
    let killed = Arc::clone(&cluster);
    blocking(move || killed.kill_master(lost).map(|_| ())).await.expect("a takeover");

    // Replication is asynchronous: the lock may have been lost with its master. By force it is free in any case.
    let deadline = Instant::now() + PATIENCE * 2;
    while let Err(error) = locks.force_release("job").await {
        assert!(error.is_retryable() && Instant::now() < deadline, "{error:?}");
    }
    let after = acquired_at_last(&locks, "job").await;
    assert!(after.fence() > fence, "by the clock, where the counter was lost");
    everything_works(&locks, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_sentinel_names_goes_on() {
    let sentinel = Arc::new(blocking(Sentinel::start).await.expect("a master and sentinels"));
    let locks = locks_at(sentinel.url()).await;
    everything_works(&locks, 1).await;
    let fence = {
        let guard = acquired(&locks, "job", LONG).await;
        let fence = guard.fence();
        guard.release().await.unwrap();
        fence
    };

    let killed = Arc::clone(&sentinel);
    blocking(move || killed.kill_master().map(|_| ())).await.expect("a takeover");

    let after = acquired_at_last(&locks, "job").await;
    assert!(after.fence() > fence);
    everything_works(&locks, 2).await;
}
