//! Pipelines.

use std::{collections::BTreeSet, time::Duration};

use redbrick_core_conn::{Codec, Config, Conn, ErrorKind, Replay, Script, State};
use redbrick_testkit::{Cluster, Fault};
use tokio::time::Instant;

use crate::{PATIENCE, assert_wrong_type, connect, cost, reach, server};

static COUNT: Script = Script::new("test.count", "return redis.call('INCR', KEYS[1])");

#[tokio::test]
async fn every_kind_of_call_has_its_result() {
    let conn = connect("pipeline").await;
    conn.list("l").extend([1, 2, 3]).await.unwrap();
    let mut pipeline = conn.pipeline();
    assert!(pipeline.is_empty());
    let missing = pipeline.add(conn.get::<String>("missing"));
    let set = pipeline.add(conn.set("k", "v").time_to_live(PATIENCE));
    let absent = pipeline.add(conn.set("k", "w").if_absent());
    let present = pipeline.add(conn.set("k", "x").if_present());
    let get = pipeline.add(conn.get::<String>("k"));
    let count = pipeline.add(conn.increment("n", 5));
    let script = pipeline.add(conn.script(&COUNT).key("n").run::<i64>());
    let range = pipeline.add(conn.list("l").range::<u8>(1..));
    let nothing = pipeline.add(conn.list("l").range::<u8>(..0));
    let field = pipeline.add(conn.hash("h").set("f", &1));
    let all = pipeline.add(conn.hash("h").get_all::<u8>());
    let member = pipeline.add(conn.members("m").add("a"));
    let score = pipeline.add(conn.sorted_set("s").increment("a", 0.5));
    let ttl = pipeline.add(conn.ttl("n"));
    let gone = pipeline.add(conn.delete("k"));
    assert_eq!(pipeline.len(), 15);
    let mut results = pipeline.send().await;
    results.check().unwrap();
    assert_eq!(results.take(missing).unwrap(), None);
    results.take(set).unwrap();
    assert!(!results.take(absent).unwrap() && results.take(present).unwrap());
    assert_eq!(results.take(get).unwrap().as_deref(), Some("x"));
    assert_eq!(results.take(count).unwrap(), 5);
    assert_eq!(results.take(script).unwrap(), 6);
    assert_eq!(results.take(range).unwrap(), [2, 3]);
    assert_eq!(results.take(nothing).unwrap(), [0; 0]);
    assert!(results.take(field).unwrap());
    assert_eq!(results.take(all).unwrap().into_iter().collect::<Vec<_>>(), [("f".to_owned(), 1)]);
    assert!(results.take(member).unwrap());
    assert_eq!(results.take(score).unwrap(), 0.5);
    assert_eq!(results.take(ttl).unwrap(), redbrick_core_conn::Ttl::Persistent);
    assert!(results.take(gone).unwrap());
}

#[tokio::test]
async fn one_error_leaves_the_others_alone() {
    let conn = connect("pipeline-errors").await.with_codec(Codec::Json);
    conn.set("text", "x").await.unwrap();
    let unnamed = std::collections::BTreeMap::from([(vec![1], 1)]);
    let mut pipeline = conn.pipeline();
    let first = pipeline.add(conn.increment("n", 1));
    let wrong = pipeline.add(conn.list("text").push_back(&1));
    let nested = pipeline.add(conn.list("text").range::<u8>(..));
    let shape = pipeline.add(conn.get::<u8>("text"));
    let unencoded = pipeline.add(conn.set("k", &unnamed));
    let invalid = pipeline.add(conn.expire("n", Duration::ZERO));
    let last = pipeline.add(conn.increment("n", 1));
    let mut results = pipeline.send().await;
    assert_eq!(results.check().unwrap_err().kind(), ErrorKind::WrongType, "the first of all");
    assert_eq!(results.take(last).unwrap(), 2);
    assert_wrong_type!(async { results.take(wrong) }, async { results.take(nested) });
    assert_eq!(results.check().unwrap_err().kind(), ErrorKind::Codec, "what was taken is left out");
    assert_eq!(results.take(shape).unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(results.take(unencoded).unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(results.take(invalid).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(results.take(first).unwrap(), 1);
    results.check().unwrap();
    assert!(!conn.exists("k").await.unwrap());
}

#[tokio::test]
async fn a_call_keeps_the_codec_that_it_was_made_with() {
    let conn = connect("pipeline-codec").await;
    let plain = conn.with_codec(Codec::Plain);
    plain.set("k", "bare").await.unwrap();
    let mut pipeline = conn.pipeline();
    let bare = pipeline.add(plain.get::<String>("k"));
    let packed = pipeline.add(conn.get::<String>("k"));
    let mut results = pipeline.send().await;
    assert_eq!(results.take(bare).unwrap().as_deref(), Some("bare"));
    assert_eq!(results.take(packed).unwrap_err().kind(), ErrorKind::Codec);

    let mut transaction = conn.transaction();
    let bare = transaction.add(plain.get::<String>("k"));
    let mut results = transaction.send().await.unwrap();
    assert_eq!(results.take(bare).unwrap().as_deref(), Some("bare"));
}

#[tokio::test]
async fn tickets_and_calls_of_others_are_refused() {
    let conn = connect("pipeline-tickets").await;
    let mut one = conn.pipeline();
    let foreign = one.add(conn.increment("n", 1));
    let mut other = conn.pipeline();
    let own = other.add(conn.increment("n", 10));
    let mut results = other.send().await;
    assert_eq!(results.take(foreign).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(results.take(own).unwrap(), 10, "the first pipeline was never sent");

    let other = connect("pipeline-tickets-other").await;
    let mut pipeline = conn.pipeline();
    let foreign = pipeline.add(other.increment("n", 1));
    let patient = conn.clone().with_command_timeout(PATIENCE);
    let own = pipeline.add(patient.increment("n", 1).replay(Replay::Never));
    let mut results = pipeline.send().await;
    assert_eq!(results.take(foreign).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(results.take(own).unwrap(), 11);
    let mut transaction = conn.transaction();
    let _ticket = transaction.add(other.increment("n", 1));
    assert_eq!(transaction.send().await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(other.count("n").await.unwrap(), None);
}

#[tokio::test]
async fn thousands_of_calls_are_answered_in_order_each_key_by_itself() {
    let conn = connect("pipeline-many").await;
    let mut pipeline = conn.pipeline();
    let tickets: Vec<_> =
        (0..5_000).map(|n| pipeline.add(conn.increment(format!("n{}", n % 7), 1))).collect();
    let mut results = pipeline.send().await;
    for (n, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(results.take(ticket).unwrap(), n as i64 / 7 + 1, "call {n}");
    }
}

#[tokio::test]
async fn order_holds_over_several_links_and_before_the_first_connect() {
    let links = 3.try_into().unwrap();
    for lazy in [false, true] {
        let config = crate::shared_config("pipeline-links").command_links(links).lazy(lazy);
        let conn = Conn::connect(config).await.unwrap();
        for round in 0..50_i64 {
            let mut pipeline = conn.pipeline();
            let tickets: Vec<_> = (0..20)
                .map(|n| {
                    let list = conn.list(format!("l{round}"));
                    // What is flushed by itself between what is not.
                    if n % 3 == 0 {
                        pipeline.add(list.push_back(&n))
                    } else {
                        pipeline.add(conn.script(&PUSH).key(format!("l{round}")).value(&n).run())
                    }
                })
                .collect();
            let mut results = pipeline.send().await;
            for (n, ticket) in tickets.into_iter().enumerate() {
                assert_eq!(results.take(ticket).unwrap(), n as u64 + 1);
            }
            let all = conn.list(format!("l{round}")).range::<i32>(..).await.unwrap();
            assert_eq!(all, (0..20).collect::<Vec<_>>());
        }
    }
}

static PUSH: Script = Script::new("test.push", "return redis.call('RPUSH', KEYS[1], ARGV[1])");

#[tokio::test]
async fn nothing_in_it_sends_nothing() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let used = cost(&server, async {
        conn.pipeline().send().await.check().unwrap();
    });
    assert_eq!(used.await, "");
    let used = cost(&server, async {
        let mut pipeline = conn.pipeline();
        for n in 0..10 {
            let _ticket = pipeline.add(conn.set(format!("k{n}"), &n));
        }
        pipeline.send().await.check().unwrap();
    });
    assert_eq!(used.await, "set 10");
}

#[tokio::test]
async fn it_waits_for_the_slowest_answer_and_not_for_each() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let up = Duration::from_millis(300);
    proxy.set(Fault::Latency { up, down: Duration::ZERO });
    let mut pipeline = conn.pipeline();
    for n in 0..50 {
        let _ticket = pipeline.add(conn.set(format!("k{n}"), &n));
    }
    let started = Instant::now();
    pipeline.send().await.check().unwrap();
    let took = started.elapsed();
    assert!(took >= up && took < 10 * up, "one round trip: {took:?}");
}

#[tokio::test]
async fn more_calls_than_may_wait_are_refused_whole() {
    let server = server();
    let config = Config::builder().url(server.url()).max_waiting(10.try_into().unwrap());
    let conn = Conn::connect(config).await.unwrap();
    for (calls, fits) in [(10, true), (11, false), (10, true)] {
        let mut pipeline = conn.pipeline();
        for _ in 0..calls {
            let _ticket = pipeline.add(conn.increment("n", 1));
        }
        let checked = pipeline.send().await.check();
        assert_eq!(checked.is_ok(), fits);
        if let Err(err) = checked {
            assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err:?}");
        }
    }
    assert_eq!(conn.count("n").await.unwrap(), Some(20), "nothing of the one that was refused");
    conn.close(PATIENCE).await;
    let mut pipeline = conn.pipeline();
    let ticket = pipeline.add(conn.increment("n", 1));
    assert_eq!(pipeline.send().await.take(ticket).unwrap_err().kind(), ErrorKind::Closed);
}

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
