//! Nodes of a cluster that stop, fail over or hand over slots, under load.

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Config, Conn};
use redbrick_testkit::{Cluster, ClusterBuilder, Fault};
use tokio::{task::JoinSet, time::Instant};

use super::{Load, REPLACED, SLACK, measured};
use crate::PATIENCE;

/// For how long the calls to other nodes may stand still when one node does. They do not at all, but for what the machine
/// has to do besides.
const OTHERS: Duration = Duration::from_secs(3);

async fn start(builder: ClusterBuilder) -> Arc<Cluster> {
    let starting = tokio::task::spawn_blocking(move || builder.start());
    Arc::new(starting.await.expect("the start itself").expect("a cluster"))
}

async fn connect(cluster: &Cluster) -> Conn {
    let nodes = cluster.nodes().iter().map(|node| node.address().to_string());
    Conn::connect(Config::builder().cluster(nodes)).await.expect("a cluster that is up")
}

/// The first `count` keys that lie on such nodes.
fn keys_on(cluster: &Cluster, count: usize, wanted: impl Fn(usize) -> bool) -> Vec<String> {
    let owner = |key: &String| {
        cluster.slot_of(key).and_then(|slot| cluster.slot_owner(slot)).expect("an owner")
    };
    (0..).map(|n| format!("k{n}")).filter(|key| wanted(owner(key))).take(count).collect()
}

fn count(cluster: &Cluster, key: &str) -> i64 {
    let stored = cluster.command(["GET", key]).expect("the cluster");
    if stored.is_nil() { 0 } else { stored.as_int().expect("a counter") }
}

/// A thousand increments a second over `keys` in turn.
fn load(conn: &Conn, keys: &[String]) -> Load {
    let keys = keys.to_vec();
    Load::start(conn, move |n| keys[n % keys.len()].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_node_does_not_hold_up_the_others() {
    let builder = Cluster::builder().replicas(0).config("cluster-require-full-coverage", "no");
    let cluster = start(builder).await;
    let conn = connect(&cluster).await;
    let stopped = keys_on(&cluster, 1, |node| node == 0).remove(0);
    let others = keys_on(&cluster, 6, |node| node != 0);
    let mut load = load(&conn, &others);
    load.works_after(Instant::now()).await;
    let paused = cluster.nodes()[0].pause().unwrap();
    let mut bulk = JoinSet::new();
    for n in 0..64 {
        let (conn, key) = (conn.with_command_timeout(PATIENCE), format!("{{{stopped}}}:{n}"));
        bulk.spawn(async move { conn.set(key, &"x".repeat(1 << 20)).await });
    }
    load.works_after(Instant::now() + OTHERS + SLACK / 2).await;
    assert_eq!(bulk.try_join_next().map(|_| ()), None, "the node stood still");
    let calls = load.end().await;
    let gap = calls.longest_gap(|_| true);
    measured("one node stopped: longest gap of the others", Instant::now() - gap);
    assert!(gap < OTHERS, "{gap:?}");
    let tally = calls.tally();
    assert_eq!((tally.failed, tally.unknown), (0, 0), "{tally:?}");

    paused.resume();
    let resumed = Instant::now();
    while let Some(stored) = bulk.join_next().await {
        stored.unwrap().unwrap();
    }
    measured("one node stopped: its 64 MiB stored after it went on", resumed);
    calls.explain(|key| count(&cluster, key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_stalls_to_one_node_is_replaced_while_the_others_go_on() {
    let cluster = start(Cluster::builder().replicas(0).proxied()).await;
    let nodes = (0..3).map(|at| cluster.proxy(at).address().to_string());
    let conn = Conn::connect(Config::builder().cluster(nodes)).await.unwrap();
    let stalled = keys_on(&cluster, 2, |node| node == 0);
    let others = keys_on(&cluster, 4, |node| node != 0);
    let (mut at_it, at_others) = (load(&conn, &stalled), load(&conn, &others));
    at_it.works_after(Instant::now()).await;
    cluster.proxy(0).set_for_open(Fault::Stall);
    let since = Instant::now();
    at_it.works_after(since).await;
    let took = measured("Stall of the link to one node", since);
    assert!(took < REPLACED + SLACK, "{took:?}");
    let (at_it, at_others) = (at_it.end().await, at_others.end().await);
    let gap = at_others.longest_gap(|_| true);
    measured("Stall of the link to one node: longest gap of the others", Instant::now() - gap);
    assert!(gap < OTHERS / 2, "{gap:?}");
    assert!(at_it.tally().unknown > 0, "some were in flight: {:?}", at_it.tally());
    let tally = at_others.tally();
    assert_eq!((tally.failed, tally.unknown), (0, 0), "{tally:?}");
    at_it.explain(|key| count(&cluster, key));
    at_others.explain(|key| count(&cluster, key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_fails_over_in_good_order_loses_no_call() {
    let cluster = start(Cluster::builder()).await;
    let conn = connect(&cluster).await;
    let keys = keys_on(&cluster, 12, |_| true);
    let mut load = load(&conn, &keys);
    load.works_after(Instant::now()).await;
    let moving = Arc::clone(&cluster);
    let failover = tokio::task::spawn_blocking(move || {
        let master = moving.masters().unwrap()[0];
        moving.failover(master).unwrap();
    });
    failover.await.unwrap();
    load.works_after(Instant::now()).await;
    let calls = load.end().await;
    let gap = calls.longest_gap(|key| keys.contains(&key.to_owned()));
    measured("CLUSTER FAILOVER: longest gap", Instant::now() - gap);
    let tally = calls.tally();
    assert_eq!(tally.failed, 0, "what was not sent is sent to the next master: {tally:?}");
    calls.explain(|key| count(&cluster, key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_killed_is_followed_to_its_successor() {
    let cluster = start(Cluster::builder()).await;
    let conn = connect(&cluster).await;
    let master = cluster.masters().unwrap()[0];
    let lost = keys_on(&cluster, 4, |node| node == master);
    let others = keys_on(&cluster, 4, |node| node != master);
    let mut load = load(&conn, &[lost.clone(), others.clone()].concat());
    load.works_after(Instant::now()).await;
    let failing = Arc::clone(&cluster);
    let failover = tokio::task::spawn_blocking(move || failing.kill_master(master).unwrap());
    failover.await.unwrap();
    let elected = Instant::now();
    for key in &lost {
        conn.with_command_timeout(PATIENCE).increment(format!("{{{key}}}:after"), 1).await.unwrap();
    }
    let took = measured("killed master: served again after the election", elected);
    assert!(took < REPLACED + SLACK, "{took:?}");
    let calls = load.end().await;
    let gap = calls.longest_gap(|key| others.contains(&key.to_owned()));
    // The cluster as a whole is down until the election, because it lacks slots.
    measured("killed master: longest gap of the others", Instant::now() - gap);
    for (key, tally) in calls.by_key() {
        let counted = count(&cluster, &key);
        if others.contains(&key) {
            tally.explains(counted);
        }
        // What the master had not passed on is lost with it; nothing is there twice.
        assert!(counted <= tally.done + tally.unknown, "{counted} were counted after {tally:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_under_load_lose_no_call() {
    let cluster = start(Cluster::builder().replicas(0)).await;
    let conn = connect(&cluster).await;
    let tags = keys_on(&cluster, 4, |node| node == 0);
    let keys = tags.iter().flat_map(|tag| (0..25).map(move |n| format!("{{{tag}}}:{n}")));
    let mut load = load(&conn, &keys.collect::<Vec<_>>());
    load.works_after(Instant::now()).await;
    let moving = Arc::clone(&cluster);
    let migration = tokio::task::spawn_blocking(move || {
        for to in [1, 2, 0] {
            for tag in &tags {
                let slot = moving.slot_of(tag).unwrap();
                let migration = moving.start_migration(slot, to).unwrap();
                while migration.move_keys(3).unwrap() > 0 {}
                migration.finish().unwrap();
            }
        }
    });
    migration.await.unwrap();
    load.works_after(Instant::now()).await;
    let calls = load.end().await;
    measured("12 slots moved: longest gap", Instant::now() - calls.longest_gap(|_| true));
    let tally = calls.tally();
    assert_eq!((tally.failed, tally.unknown), (0, 0), "{tally:?}");
    calls.explain(|key| count(&cluster, key));
}
