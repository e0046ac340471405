//! Pipelines that meet trouble on their way.

use std::{collections::BTreeSet, time::Duration};

use redbrick_core_conn::{Config, Conn, ErrorKind, Script, State};
use redbrick_testkit::{Cluster, Fault};
use tokio::time::Instant;

use crate::{PATIENCE, connect, reach, server};

#[tokio::test]
async fn a_server_that_is_away_costs_the_timeout_once() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let mut changes = conn.state_changes();
    server.kill().unwrap();
    reach(&mut changes, State::Reconnecting).await;
    let mut pipeline = conn.pipeline().timeout(Duration::from_millis(300));
    let tickets: Vec<_> = (0..50).map(|n| pipeline.add(conn.increment("n", n))).collect();
    let started = Instant::now();
    let mut results = pipeline.send().await;
    assert!(started.elapsed() < Duration::from_secs(5));
    for ticket in tickets {
        let err = results.take(ticket).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Connect);
        assert!(!err.is_outcome_unknown(), "{err:?}");
    }
}

/// How many calls are done, unknown and surely not run.
#[derive(Debug, Default)]
struct Tally {
    done: i64,
    unknown: i64,
    unsent: i64,
}

async fn increments(conn: &Conn, count: usize, timeout: Duration) -> Tally {
    let mut pipeline = conn.pipeline().timeout(timeout);
    let tickets: Vec<_> = (0..count).map(|_| pipeline.add(conn.increment("n", 1))).collect();
    let mut results = pipeline.send().await;
    let mut tally = Tally::default();
    for ticket in tickets {
        match results.take(ticket) {
            Ok(_) => tally.done += 1,
            Err(err) if err.is_outcome_unknown() => tally.unknown += 1,
            Err(_) => tally.unsent += 1,
        }
    }
    tally
}

#[tokio::test]
async fn a_link_that_is_lost_mid_way_leaves_done_unknown_and_unsent_apart() {
    for bytes in [0, 1, 4, 500, 2_000] {
        let server = server();
        let proxy = server.proxy().unwrap();
        let conn = Conn::connect(proxy.url()).await.unwrap();
        conn.increment("n", 0).await.unwrap();
        proxy.set(Fault::CutAfterReplyBytes(bytes));
        let tally = increments(&conn, 1_000, PATIENCE).await;
        proxy.clear();
        let ran = server.command(["GET", "n"]).unwrap().as_int().unwrap();
        assert_eq!(tally.done + tally.unknown + tally.unsent, 1_000);
        assert!(tally.done <= ran && ran <= tally.done + tally.unknown, "{ran} {tally:?}");
        assert!(tally.done < 1_000 && tally.unknown > 0, "after {bytes}: {tally:?}");
        assert_eq!(increments(&conn, 10, PATIENCE).await.done, 10, "it goes on");
    }
}

#[tokio::test]
async fn a_paused_server_makes_them_unknown_and_the_link_stays_in_step() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let paused = server.pause().unwrap();
    let started = Instant::now();
    let tally = increments(&conn, 100, Duration::from_millis(200)).await;
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(tally.unknown, 100, "{tally:?}");
    paused.resume();
    assert_eq!(increments(&conn, 10, PATIENCE).await.done, 10);
    assert_eq!(conn.count("n").await.unwrap(), Some(110), "all had been written");
}

#[tokio::test]
async fn what_was_dropped_is_done_or_not_and_the_link_stays_in_step() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    for polls in 0..20 {
        let mut pipeline = conn.pipeline();
        for _ in 0..20 {
            let _ticket = pipeline.add(conn.increment("n", 1));
        }
        let mut send = Box::pin(pipeline.send());
        for _ in 0..polls {
            tokio::select! {
                biased;
                _ = &mut send => break,
                () = tokio::task::yield_now() => {}
            }
        }
        drop(send);
        conn.set("own", &polls).await.unwrap();
        assert_eq!(conn.get::<i32>("own").await.unwrap(), Some(polls));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_each_have_their_own_results() {
    let conn = connect("pipeline-concurrent").await;
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let conn = conn.clone();
            tokio::spawn(async move {
                for round in 0..20 {
                    let mut pipeline = conn.pipeline();
                    let tickets: Vec<_> = (0..30)
                        .map(|n| {
                            let key = format!("{task}-{n}");
                            let _set = pipeline.add(conn.set(&key, &(task, round, n)));
                            pipeline.add(conn.get::<(i32, i32, i32)>(&key))
                        })
                        .collect();
                    let mut results = pipeline.send().await;
                    results.check().unwrap();
                    for (n, ticket) in (0..).zip(tickets) {
                        assert_eq!(results.take(ticket).unwrap(), Some((task, round, n)));
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn cluster() -> Cluster {
    tokio::task::spawn_blocking(Cluster::start).await.expect("the start").expect("a cluster")
}

#[tokio::test]
async fn a_slot_that_moves_is_followed_in_order_and_within_the_timeout() {
    let cluster = cluster().await;
    let calls = 200;
    // Room for the calls of one pipeline and not for one more.
    let config = Config::builder().url(cluster.url()).max_waiting(calls.try_into().unwrap());
    let conn = Conn::connect(config).await.unwrap();
    let keys: Vec<String> = (0..20).map(|n| format!("{{moving}}{n}")).collect();
    let slot = cluster.slot_of("moving").unwrap();
    let from = cluster.slot_owner(slot).unwrap();
    let to = cluster.masters().unwrap().into_iter().find(|master| *master != from).unwrap();
    let push = async |round: i32| {
        let mut pipeline = conn.pipeline();
        let tickets: Vec<_> = (0..calls)
            .map(|n| pipeline.add(conn.list(&keys[n % keys.len()]).push_back(&(round, n))))
            .collect();
        let mut results = pipeline.send().await;
        results.check().unwrap();
        let lens = tickets.into_iter().map(|ticket| results.take(ticket).unwrap());
        for (n, len) in lens.enumerate() {
            assert_eq!(len, (round as usize * 10 + n / keys.len() + 1) as u64, "round {round}");
        }
    };
    push(0).await;
    let migration = cluster.start_migration(slot, to).unwrap();
    push(1).await;
    migration.move_keys(10).unwrap();
    push(2).await;
    migration.move_keys(100).unwrap();
    push(3).await;
    migration.finish().unwrap();
    push(4).await;
    push(5).await;
    for (at, key) in keys.iter().enumerate() {
        let items = conn.list(key).range::<(i32, usize)>(..).await.unwrap();
        let expected = (0..6).flat_map(|round| (0..10).map(move |n| (round, n * 20 + at)));
        assert_eq!(items, expected.collect::<Vec<_>>(), "in order, each once");
    }
}

#[tokio::test]
async fn what_is_sent_elsewhere_shares_one_timeout() {
    let cluster = cluster().await;
    let conn = Conn::connect(cluster.url()).await.unwrap();
    let slot = cluster.slot_of("moving").unwrap();
    let from = cluster.slot_owner(slot).unwrap();
    let to = cluster.masters().unwrap().into_iter().find(|master| *master != from).unwrap();
    let migration = cluster.start_migration(slot, to).unwrap();
    let timeout = Duration::from_millis(500);
    let mut pipeline = conn.pipeline().timeout(timeout);
    let tickets: Vec<_> =
        (0..20).map(|n| pipeline.add(conn.increment(format!("{{moving}}{n}"), 1))).collect();
    let paused = cluster.nodes()[to].pause().unwrap();
    let started = Instant::now();
    let mut results = pipeline.send().await;
    let took = started.elapsed();
    paused.resume();
    for ticket in tickets {
        assert!(results.take(ticket).unwrap_err().is_retryable());
    }
    assert!(took < 8 * timeout, "one timeout for all: {took:?}");
    migration.finish().unwrap();
}

#[tokio::test]
async fn a_script_reaches_keys_on_the_move_at_a_node_that_does_not_know_it() {
    static FRESH: Script = Script::new("test.fresh", "return redis.call('INCR', KEYS[1]) -- fresh");
    let cluster = cluster().await;
    let conn = Conn::connect(cluster.url()).await.unwrap();
    let slot = cluster.slot_of("moving").unwrap();
    let from = cluster.slot_owner(slot).unwrap();
    let to = cluster.masters().unwrap().into_iter().find(|master| *master != from).unwrap();
    assert_eq!(conn.script(&FRESH).key("{moving}").run::<i64>().await.unwrap(), 1);
    let migration = cluster.start_migration(slot, to).unwrap();
    migration.move_keys(100).unwrap();
    assert_eq!(conn.script(&FRESH).key("{moving}").run::<i64>().await.unwrap(), 2);
    let mut pipeline = conn.pipeline();
    let ticket = pipeline.add(conn.script(&FRESH).key("{moving}").run::<i64>());
    assert_eq!(pipeline.send().await.take(ticket).unwrap(), 3);
    migration.finish().unwrap();
    assert_eq!(conn.script(&FRESH).key("{moving}").run::<i64>().await.unwrap(), 4);
}

#[tokio::test]
async fn a_lost_node_fails_its_own_calls_only() {
    let cluster = cluster().await;
    let conn = Conn::connect(cluster.url()).await.unwrap();
    let keys: Vec<String> = (0..60).map(|n| format!("k{n}")).collect();
    for key in &keys {
        conn.set(key, &1).await.unwrap();
    }
    let owners: Vec<usize> =
        keys.iter().map(|key| cluster.slot_owner(cluster.slot_of(key).unwrap()).unwrap()).collect();
    assert_eq!(owners.iter().collect::<BTreeSet<_>>().len(), 3);
    let dead = owners[0];
    let paused = cluster.nodes()[dead].pause().unwrap();
    let mut pipeline = conn.pipeline().timeout(Duration::from_millis(400));
    let tickets: Vec<_> = keys.iter().map(|key| pipeline.add(conn.get::<i32>(key))).collect();
    let mut results = pipeline.send().await;
    for (ticket, owner) in tickets.into_iter().zip(owners) {
        let result = results.take(ticket);
        assert_eq!(result.is_ok(), owner != dead, "node {owner}: {result:?}");
    }
    paused.resume();
}

#[tokio::test]
async fn a_flood_of_large_values_comes_through() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let value = "x".repeat(1 << 20);
    let mut pipeline = conn.pipeline().timeout(PATIENCE);
    let tickets: Vec<_> = (0..32)
        .map(|n| {
            let _set = pipeline.add(conn.set(format!("k{n}"), &value));
            pipeline.add(conn.get::<String>(format!("k{n}")))
        })
        .collect();
    let mut results = pipeline.send().await;
    for ticket in tickets {
        assert!(results.take(ticket).unwrap().as_deref() == Some(&*value));
    }
}
