//! Cluster and Sentinel, before and after a failover.

use std::{collections::BTreeSet, time::Duration};

use redbrick_core_conn::{Config, Conn};
use redbrick_ratelimit::{Quota, RateLimiter};
use redbrick_testkit::{Cluster, Sentinel};

use crate::{ALGORITHMS, LONG, by_redis, n};

/// A failover may take its time, more so with sentinels of Redis 6.2.
const FAILOVER: Duration = Duration::from_secs(90);

fn limiters(conn: &Conn) -> [RateLimiter; 3] {
    ALGORITHMS.map(|algorithm| {
        let limiter = RateLimiter::builder(conn.clone(), "l", Quota::per(n(2), LONG));
        limiter.algorithm(algorithm).build().unwrap()
    })
}

/// Consumes one by each algorithm, by the server's word; until then the policy lets everything pass.
async fn consume_one(limiters: &[RateLimiter], subject: &str) {
    for limiter in limiters {
        let decided = tokio::time::timeout(FAILOVER, async {
            loop {
                let decision = limiter.consume(subject).await.unwrap();
                assert!(decision.is_allowed() || by_redis(&decision), "{decision:?}");
                if by_redis(&decision) {
                    return;
                }
            }
        });
        decided.await.expect("the server decides");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_limits_on_every_master_and_after_a_master_is_lost() {
    let starting = tokio::task::spawn_blocking(Cluster::start);
    let cluster = starting.await.unwrap().expect("a cluster");
    let config = Config::builder().url(cluster.url()).key_prefix("shop");
    let conn = Conn::connect(config).await.unwrap();
    let limiters = limiters(&conn);
    let subjects: Vec<String> = (0..30).map(|n| format!("s{n}")).collect();
    let mut owners = BTreeSet::new();
    for subject in &subjects {
        consume_one(&limiters, subject).await;
        let slot = cluster.slot_of(format!("shop:ratelimit:l:{{{subject}}}:gcra")).unwrap();
        owners.insert(cluster.slot_owner(slot).unwrap());
    }
    assert_eq!(owners.len(), 3, "the subjects lie on all masters");

    let master = cluster.masters().unwrap()[0];
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.kill_master(master).expect("another takes its place");
        cluster
    });
    let cluster = cluster.await.unwrap();
    for subject in &subjects {
        consume_one(&limiters, subject).await;
    }
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_that_sentinels_name_limits_and_so_does_its_successor() {
    let starting = tokio::task::spawn_blocking(Sentinel::start);
    let sentinel = starting.await.unwrap().expect("a master, a replica and sentinels");
    let conn = Conn::connect(sentinel.url()).await.unwrap();
    let limiters = limiters(&conn);
    consume_one(&limiters, "ada").await;

    let sentinel = tokio::task::spawn_blocking(move || {
        sentinel.kill_master().expect("another takes its place");
        sentinel
    });
    let sentinel = sentinel.await.unwrap();
    consume_one(&limiters, "ada").await;
    drop(sentinel);
}
