//! What a feed says when a link is lost.

use std::time::Duration;

use redbrick_core_conn::{Config, Conn, Invalidation};
use redbrick_testkit::{Cluster, Fault, Reply, Sentinel, Server};
use tokio::time::Instant;

use super::{begun, is_current, key, next, until_now};
use crate::{PATIENCE, alone::tell, client_list, faults::SLACK, server};

const BOUND: Duration = Duration::from_millis(400);

fn kill_listeners(server: &Server) -> i64 {
    let killed = server.command(["CLIENT", "KILL", "TYPE", "pubsub"]).expect("the right to kill");
    killed.as_int().expect("a count")
}

#[tokio::test]
async fn a_killed_link_is_a_gap_and_back_at_once() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let mut feed = begun(conn.track().prefix("a")).await;
    let mut slowest = Duration::ZERO;
    for n in 0..20 {
        let killed = Instant::now();
        assert_eq!(kill_listeners(&server), 1);
        server.command(["SET", "a-unheard", "x"]).unwrap();
        assert_eq!(next(&mut feed).await, Invalidation::Gap, "the link is lost");
        // Another one when it is back, unless both are read as one.
        until_now(&mut feed).await;
        slowest = slowest.max(killed.elapsed());
        let name = format!("a{n}");
        server.command(["SET", &name, "x"]).unwrap();
        assert_eq!(key(&mut feed).await, name);
    }
    tell(&format!("20 kills of the feed's link: back after at most {slowest:?}"));
    assert!(slowest < Duration::from_millis(300) + SLACK, "{slowest:?}");
}

#[tokio::test]
async fn a_killed_command_link_is_a_gap() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let mut plain = begun(conn.track().prefix("a")).await;
    let mut feed = begun(conn.track().prefix("a").without_own_writes()).await;
    for n in 0..5 {
        let killed = server.command(["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
        assert_eq!(killed.as_int(), Some(1), "the command link");
        for feed in [&mut feed, &mut plain] {
            assert_eq!(next(feed).await, Invalidation::Gap);
            until_now(feed).await;
        }
        let name = format!("a{n}");
        server.command(["SET", &name, "theirs"]).unwrap();
        assert_eq!(key(&mut feed).await, name);
        conn.set("a-own", "mine").await.unwrap();
        assert_eq!(until_now(&mut feed).await, [""; 0]);
        assert_eq!(until_now(&mut plain).await.len(), 2);
    }
}

#[tokio::test]
async fn a_silent_link_is_not_current_within_the_bound_and_is_replaced() {
    for fault in [Fault::Stall, Fault::StallReplies, Fault::StallRequests] {
        let server = server();
        let proxy = server.proxy().unwrap();
        let conn = Conn::connect(proxy.url()).await.unwrap();
        let mut feed = begun(conn.track().prefix("a").bound(BOUND)).await;
        let freshness = feed.freshness();
        let reading = tokio::spawn(async move {
            while next(&mut feed).await != Invalidation::Gap {}
            feed
        });
        is_current(&freshness).await;
        proxy.set_for_newest(fault);
        let stalled = Instant::now();
        while freshness.is_current() {
            assert!(stalled.elapsed() < BOUND, "{fault:?}: it says that it is current");
            tokio::task::yield_now().await;
        }
        let mut feed = reading.await.unwrap();
        until_now(&mut feed).await;
        let took = stalled.elapsed();
        tell(&format!("{fault:?}: current again after {took:?}"));
        assert!(took < PATIENCE, "{took:?}");
        server.command(["SET", "a", "x"]).unwrap();
        assert_eq!(key(&mut feed).await, "a");
    }
}

#[tokio::test]
async fn a_server_that_was_away_is_asked_again() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let mut feed = begun(conn.track().prefix("a")).await;
    server.kill().unwrap();
    assert_eq!(next(&mut feed).await, Invalidation::Gap);
    let health = conn.health().await;
    assert!(!health.tracking.as_ref().unwrap().live, "{health}");
    server.restart().unwrap();
    assert_eq!(next(&mut feed).await, Invalidation::Gap);
    until_now(&mut feed).await;
    server.command(["SET", "a", "x"]).unwrap();
    assert_eq!(key(&mut feed).await, "a");
    assert!(conn.health().await.tracking.unwrap().live);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_master_of_sentinel_is_followed() {
    let sentinel = Sentinel::start().unwrap();
    let conn = Conn::connect(sentinel.url()).await.unwrap();
    let mut feed = begun(conn.track().prefix("a")).await;
    sentinel.kill_master().unwrap();
    assert_eq!(next(&mut feed).await, Invalidation::Gap);
    until_now(&mut feed).await;
    sentinel.command(["SET", "a", "x"]).unwrap();
    assert_eq!(key(&mut feed).await, "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_master_of_a_cluster_is_heard_and_a_lost_one_is_a_gap() {
    let cluster = Cluster::builder().masters(3).replicas(1).start().unwrap();
    let conn = Conn::connect(cluster.url()).await.unwrap();
    let mut feed = begun(conn.track().prefix("a")).await;
    for n in 0..30 {
        let name = format!("a{n}");
        cluster.command(["SET", &name, "x"]).unwrap();
        assert_eq!(key(&mut feed).await, name);
    }
    let one = cluster.masters().unwrap()[0];
    cluster.nodes()[one].command(["FLUSHALL"]).unwrap();
    assert_eq!(next(&mut feed).await, Invalidation::Flush);
    until_now(&mut feed).await;

    cluster.kill_master(one).unwrap();
    assert_eq!(next(&mut feed).await, Invalidation::Gap);
    until_now(&mut feed).await;
    for n in 0..30 {
        let name = format!("a{n}");
        cluster.command(["SET", &name, "y"]).unwrap();
        loop {
            match next(&mut feed).await {
                Invalidation::Key(key) => break assert_eq!(&key[..], name.as_bytes()),
                other => assert_eq!(other, Invalidation::Gap),
            }
        }
    }
}

/// Nobody asks anything of the cluster but the feed itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_obeys_another_one_is_noticed_by_the_feed_itself() {
    let cluster = Cluster::builder().masters(3).replicas(1).start().unwrap();
    let conn = Conn::connect(cluster.url()).await.unwrap();
    let mut feed = begun(conn.track().prefix("a").bound(BOUND)).await;
    let one = cluster.masters().unwrap()[0];
    let failing_over = Instant::now();
    let failing = tokio::task::spawn_blocking(move || {
        let next = cluster.failover(one).unwrap();
        (cluster, next)
    });
    assert_eq!(next(&mut feed).await, Invalidation::Gap);
    let took = failing_over.elapsed();
    tell(&format!("a failover was noticed after {took:?}"));
    let (cluster, next_master) = failing.await.unwrap();
    until_now(&mut feed).await;
    let slot = (0..).find(|n| {
        let slot = cluster.slot_of(format!("a{n}")).unwrap();
        cluster.slot_owner(slot).unwrap() == next_master
    });
    let name = format!("a{}", slot.unwrap());
    cluster.nodes()[next_master].command(["SET", &name, "x"]).unwrap();
    loop {
        match next(&mut feed).await {
            Invalidation::Key(key) => break assert_eq!(&key[..], name.as_bytes()),
            other => assert_eq!(other, Invalidation::Gap),
        }
    }
}

#[tokio::test]
async fn credentials_and_names_are_those_of_the_connection() {
    let server = Server::builder().password("pw").start().unwrap();
    let config = Config::builder().url(server.url()).password("pw").client_name("billing");
    let conn = Conn::connect(config).await.unwrap();
    let _feed = begun(conn.track().prefix("a")).await;
    let _subscription = conn.subscribe().channel("a").await.unwrap();
    let clients = client_list(&server);
    assert_eq!(clients.len(), 3, "{clients:?}");
    assert!(clients.iter().all(|client| client.contains(" name=billing ")), "{clients:?}");
}

/// The slots that a master of a cluster has.
fn slots_of(master: &Server) -> Vec<i64> {
    let id = master.command(["CLUSTER", "MYID"]).expect("its name");
    let shards = master.command(["CLUSTER", "SLOTS"]).expect("all slots");
    let list = |reply: &Reply| reply.as_array().expect("a list").to_vec();
    let shards = list(&shards).into_iter().map(|shard| list(&shard));
    let own = shards.filter(|shard| list(&shard[2])[2].as_str() == id.as_str());
    own.flat_map(|shard| shard[0].as_int().expect("a slot")..=shard[1].as_int().expect("a slot"))
        .collect()
}

/// Its slots went to a master that is heard already, and what it had not said yet went with its link.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_leaves_takes_nothing_unsaid_with_it() {
    let cluster = Cluster::builder().replicas(0).proxied();
    let cluster = cluster.config("cluster-require-full-coverage", "no").start().unwrap();
    let conn = Conn::connect(cluster.url()).await.unwrap();
    // Its silence alone is not noticed for so long.
    let patient = Duration::from_secs(8);
    let mut feed = begun(conn.track().prefix("").bound(patient)).await;
    let freshness = feed.freshness();
    let (leaving, heir) = (&cluster.nodes()[0], &cluster.nodes()[1]);
    let is_there = |name: &String| cluster.slot_owner(cluster.slot_of(name).unwrap()).unwrap() == 0;
    let name = (0..).map(|n| format!("k{n}")).find(is_there).unwrap();
    conn.set(&name, "old").await.unwrap();
    assert_eq!(key(&mut feed).await, name);

    // Of the links to it, the one of the feed.
    cluster.proxy(0).set_for_newest(Fault::StallReplies);
    leaving.command(["DEL", &name]).unwrap();
    let deleted = std::time::Instant::now();
    let slots = slots_of(leaving);
    let order = |verb: &str| {
        let words = ["CLUSTER".to_owned(), verb.to_owned()];
        words.into_iter().chain(slots.iter().map(ToString::to_string)).collect::<Vec<_>>()
    };
    for node in cluster.nodes() {
        node.command(order("DELSLOTS")).unwrap();
    }
    heir.command(order("ADDSLOTS")).unwrap();
    heir.command(["CLUSTER", "BUMPEPOCH"]).unwrap();
    let asking = tokio::spawn({
        let (conn, name) = (conn.with_command_timeout(BOUND), name.clone());
        // Whoever asks for the key learns where it is.
        async move { while conn.get::<String>(&name).await.is_err() {} }
    });
    assert_eq!(next(&mut feed).await, Invalidation::Gap);
    assert!(deleted.elapsed() < patient, "{:?}", deleted.elapsed());
    until_now(&mut feed).await;
    assert!(freshness.complete_until().is_some_and(|until| until > deleted));
    asking.abort();
}

/// What the link before has not said yet when a wider one takes its place is said all the same.
#[tokio::test]
async fn a_slow_link_that_is_replaced_is_heard_to_its_end() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let mut feed = begun(conn.track().prefix("a")).await;
    let freshness = feed.freshness();
    let slow = Fault::Latency { up: Duration::ZERO, down: Duration::from_millis(300) };
    proxy.set_for_newest(slow);
    server.command(["SET", "a1", "x"]).unwrap();
    let wider = conn.track().prefix("b").await.unwrap();
    assert!(freshness.complete_until().is_some(), "no flush");
    assert_eq!(key(&mut feed).await, "a1");
    drop(wider);
}
