//! Cluster and Sentinel.

use std::{collections::BTreeSet, future::ready, pin::pin, time::Duration};

use redbrick_core_conn::{Config, Conn, ErrorKind, SentinelConfig, ServerMode, State};
use redbrick_testkit::{Cluster, Fault, Proxy, Sentinel, wait_until};
use tokio::{net::TcpListener, time::Instant};

use crate::{PATIENCE, reach, server};

/// Starting a cluster takes seconds of waiting, so it waits off the runtime's thread.
async fn cluster() -> Cluster {
    let starting = tokio::task::spawn_blocking(Cluster::start);
    starting.await.expect("the start itself").expect("a cluster")
}

async fn sentinel() -> Sentinel {
    let starting = tokio::task::spawn_blocking(Sentinel::start);
    starting.await.expect("the start itself").expect("a master, a replica and sentinels")
}

/// Repeats `set` until it works; returns after how many failures.
async fn set_until_it_works(conn: &Conn, key: &str) -> usize {
    let deadline = Instant::now() + PATIENCE;
    let mut failures = 0;
    while let Err(err) = conn.set(key, &1).await {
        assert!(err.is_retryable(), "{err:?}");
        assert!(Instant::now() < deadline, "still failing: {err:?}");
        failures += 1;
    }
    failures
}

#[tokio::test]
async fn every_master_of_a_cluster_is_used_and_a_moved_slot_is_found() {
    let cluster = cluster().await;
    // One address is enough; the others are found.
    let one = cluster.nodes()[0].address().to_string();
    let config = Config::builder().cluster([one]).client_name("shop").key_prefix("shop");
    let conn = Conn::connect(config).await.unwrap();
    assert_eq!(conn.server_info().await.unwrap().mode, ServerMode::Cluster);

    let mut owners = BTreeSet::new();
    for n in 0..60 {
        let key = format!("k{n}");
        conn.set(&key, &n).await.unwrap();
        assert_eq!(conn.get(&key).await.unwrap(), Some(n));
        owners.insert(cluster.slot_owner(cluster.slot_of(format!("shop:{key}")).unwrap()).unwrap());
    }
    assert_eq!(owners.len(), 3, "the keys lie on all masters");
    for master in cluster.masters().unwrap() {
        let clients = crate::client_list(&cluster.nodes()[master]);
        assert!(clients.iter().any(|line| line.contains(" name=shop ")), "{clients:?}");
    }
    let health = conn.health().await;
    assert!(health.healthy && health.port.is_none(), "{health:?}");

    let slot = cluster.slot_of("shop:k0").unwrap();
    let from = cluster.slot_owner(slot).unwrap();
    let to = cluster.masters().unwrap().into_iter().find(|master| *master != from).unwrap();
    cluster.migrate_slot(slot, to).unwrap();
    assert_eq!(conn.get("k0").await.unwrap(), Some(0), "followed to its new owner");
    assert_eq!(conn.increment("counter", 1).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_found_through_any_node_and_a_lost_master_is_replaced() {
    let cluster = cluster().await;
    let dead = server();
    dead.kill().unwrap();
    let nodes =
        std::iter::once(&*dead).chain(cluster.nodes()).map(|node| node.address().to_string());
    let config = Config::builder().cluster(nodes).command_timeout(Duration::from_secs(2));
    let conn = Conn::connect(config).await.unwrap();
    let keys: Vec<String> = (0..30).map(|n| format!("k{n}")).collect();
    for key in &keys {
        conn.set(key, &1).await.unwrap();
    }
    let master = cluster.masters().unwrap()[0];
    cluster.kill_master(master).unwrap();
    for key in &keys {
        set_until_it_works(&conn, key).await;
    }
    for key in &keys {
        assert_eq!(conn.get::<i32>(key).await.unwrap(), Some(1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_slot_that_no_node_serves_gets_through_when_one_does() {
    let starting =
        || Cluster::builder().replicas(0).config("cluster-require-full-coverage", "no").start();
    let cluster = tokio::task::spawn_blocking(starting).await.unwrap().unwrap();
    let slot = cluster.slot_of("lost").unwrap();
    let owner = &cluster.nodes()[cluster.slot_owner(slot).unwrap()];
    let name = slot.to_string();
    owner.command(["CLUSTER", "DELSLOTS", &name]).unwrap();
    for node in cluster.nodes() {
        // A word of the owner's may be on its way from before.
        assert!(wait_until(PATIENCE, || {
            let refusal = node.command(["GET", "lost"]).unwrap_err().to_string();
            let is_moved = refusal.contains("MOVED");
            if is_moved {
                node.command(["CLUSTER", "DELSLOTS", &name]).unwrap();
            }
            !is_moved && refusal.contains("CLUSTERDOWN")
        }));
    }

    let conn = Conn::connect(cluster.url()).await.unwrap();
    conn.set("found", &1).await.unwrap();
    let hurried = conn.with_command_timeout(Duration::from_millis(300));
    let err = hurried.set("lost", &1).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Connect, "{err:?}");
    assert!(err.to_string().contains(&format!("serves slot {slot}")), "{err}");

    let err = conn.with_fail_fast().set("lost", &1).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Connect, "{err:?}");
    assert!(err.to_string().contains(&format!("serves slot {slot}")), "{err}");
    let health = conn.health().await;
    assert!(health.healthy && health.warnings.len() == 1, "{health:?}");

    let mut waiting = pin!(conn.set("lost", &1));
    tokio::select! {
        biased;
        done = &mut waiting => panic!("{done:?}"),
        () = ready(()) => {}
    }
    owner.command(["CLUSTER", "ADDSLOTS", &name]).unwrap();
    waiting.await.unwrap();
    let mut health = conn.health().await;
    while !health.warnings.is_empty() {
        tokio::task::yield_now().await;
        health = conn.health().await;
    }
}

#[tokio::test]
async fn a_cluster_url_to_a_single_server_says_so() {
    let server = server();
    let config = Config::builder().cluster([format!("127.0.0.1:{}", server.port())]);
    let err = Conn::connect(config).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Topology, "{err:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel_names_the_master_and_its_successor() {
    let sentinel = sentinel().await;
    let conn = Conn::connect(sentinel.url()).await.unwrap();
    let mut changes = conn.state_changes();
    conn.set("k", &1).await.unwrap();
    let port = sentinel.master().unwrap().port();
    assert_eq!(conn.health().await.port, Some(port));

    sentinel.kill_master().unwrap();
    reach(&mut changes, State::Reconnecting).await;
    let patient = conn.with_command_timeout(Duration::from_secs(2));
    set_until_it_works(&patient, "k").await;
    let successor = sentinel.master().unwrap().port();
    assert_ne!(port, successor);
    assert_eq!(conn.health().await.port, Some(successor));
    assert_eq!(conn.state(), State::Connected);
}

#[tokio::test]
async fn an_unknown_service_or_absent_sentinels_are_reported() {
    let sentinel = sentinel().await;
    let nodes: Vec<_> = sentinel.sentinel_addresses().iter().map(ToString::to_string).collect();
    let unknown = Config::builder().sentinel(SentinelConfig::new("nobody", nodes));
    let absent = Config::builder().sentinel(SentinelConfig::new("mymaster", ["127.0.0.1:1"]));
    for config in [unknown, absent] {
        let err = Conn::connect(config).await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Topology, "{err:?}");
        assert!(err.to_string().contains("sentinel"), "{err}");
    }
}

/// A sentinel that is behind answers first, and what it names is refused, silent, or a replica.
#[tokio::test]
async fn a_sentinel_that_is_behind_keeps_nobody_from_the_others_word() {
    let sentinel = sentinel().await;
    let [behind, others @ ..] = sentinel.sentinels() else { panic!("no sentinels") };
    let slow: Vec<_> = others.iter().map(|other| Proxy::to(other.address()).unwrap()).collect();
    for proxy in &slow {
        let pause = Duration::from_millis(50);
        proxy.set(Fault::Latency { up: pause, down: pause });
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = server();
    dead.kill().unwrap();
    let nodes = || {
        let slow = slow.iter().map(Proxy::address);
        std::iter::once(behind.address()).chain(slow).map(|address| address.to_string())
    };
    let replica = sentinel.replica().unwrap().port();
    for port in [dead.port(), silent.local_addr().unwrap().port(), replica] {
        behind.command(["SENTINEL", "REMOVE", sentinel.service()]).unwrap();
        let port = port.to_string();
        behind
            .command(["SENTINEL", "MONITOR", sentinel.service(), "127.0.0.1", &port, "9"])
            .unwrap();
        let config = Config::builder().sentinel(SentinelConfig::new(sentinel.service(), nodes()));
        let conn = Conn::connect(config).await.unwrap();
        conn.set("k", &1).await.unwrap();
    }
}

#[tokio::test]
async fn a_silent_sentinel_keeps_nobody_from_the_others_word() {
    let sentinel = sentinel().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nodes = sentinel.sentinel_addresses().into_iter().skip(1);
    let nodes = std::iter::once(silent.local_addr().unwrap()).chain(nodes);
    let nodes = nodes.map(|node| node.to_string());
    let config = Config::builder().sentinel(SentinelConfig::new(sentinel.service(), nodes));
    let started = Instant::now();
    let conn = Conn::connect(config).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    conn.set("k", &1).await.unwrap();
}
