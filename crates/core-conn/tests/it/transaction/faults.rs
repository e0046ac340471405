//! Transactions that meet trouble on their way: each runs whole or not at all.

use std::time::Duration;

use redbrick_core_conn::{Config, Conn, ErrorKind, State};
use redbrick_testkit::{Cluster, Fault};
use tokio::time::Instant;

use super::COUNT;
use crate::{PATIENCE, eventually, reach, server};

#[tokio::test]
async fn a_lost_answer_is_an_unknown_outcome_and_it_ran_once() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let send = async |conn: Conn| {
        let mut transaction = conn.transaction();
        let _a = transaction.add(conn.increment("a", 1));
        let _b = transaction.add(conn.increment("b", 1));
        transaction.send().await.map(drop)
    };
    send(conn.clone()).await.unwrap();
    proxy.set(Fault::DropReplies);
    let call = tokio::spawn(send(conn.clone()));
    let counting = server.clone();
    eventually("the transaction", move || counting.command_counts().unwrap().of("exec") == 2).await;
    proxy.reset();
    proxy.clear();
    let err = call.await.unwrap().unwrap_err();
    assert!(err.is_outcome_unknown(), "{err:?}");
    assert_eq!(conn.count("a").await.unwrap(), Some(2));
    assert_eq!(conn.count("b").await.unwrap(), Some(2));
    send(conn.clone()).await.unwrap();
    assert_eq!(conn.count("a").await.unwrap(), Some(3));
}

#[tokio::test]
async fn a_link_that_is_cut_anywhere_leaves_all_or_nothing() {
    for bytes in [0, 1, 5, 7, 12, 20, 40, 80, 160] {
        let server = server();
        let proxy = server.proxy().unwrap();
        let conn = Conn::connect(proxy.url()).await.unwrap();
        let send = async || {
            let mut transaction = conn.transaction();
            for n in 0..10 {
                let _ticket = transaction.add(conn.increment(format!("k{n}"), 1));
            }
            transaction.send().await.map(drop)
        };
        send().await.unwrap();
        proxy.set(Fault::CutAfterReplyBytes(bytes));
        let result = send().await;
        proxy.clear();
        let counts: Vec<_> = (0..10)
            .map(|n| server.command(["GET", &format!("k{n}")]).unwrap().as_int().unwrap())
            .collect();
        assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
        match result {
            Ok(()) => assert_eq!(counts[0], 2),
            Err(err) if err.is_outcome_unknown() => {}
            Err(err) => assert_eq!(counts[0], 1, "{err:?}"),
        }
        send().await.unwrap();
    }
}

#[tokio::test]
async fn a_paused_server_costs_the_timeout_and_the_whole_runs_or_not() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let send = async |timeout, by| {
        let mut transaction = conn.transaction().timeout(timeout);
        let a = transaction.add(conn.increment("a", by));
        let _b = transaction.add(conn.increment("b", by));
        transaction.send().await.and_then(|mut results| results.take(a))
    };
    assert_eq!(send(PATIENCE, 1).await.unwrap(), 1);
    let paused = server.pause().unwrap();
    let started = Instant::now();
    for _ in 0..3 {
        let err = send(Duration::from_millis(100), 1).await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Timeout, "{err:?}");
        assert!(err.is_outcome_unknown());
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    paused.resume();
    let a = send(PATIENCE, 0).await.unwrap();
    assert_eq!(conn.count("b").await.unwrap(), Some(a), "whole ones only");
}

#[tokio::test]
async fn dropped_at_any_await_it_runs_whole_or_not_at_all() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    for polls in 0..30 {
        let mut transaction = conn.transaction();
        for n in 0..5 {
            let _ticket = transaction.add(conn.increment(format!("k{n}"), 1));
        }
        let mut send = Box::pin(transaction.send());
        for _ in 0..polls {
            tokio::select! {
                biased;
                _ = &mut send => break,
                () = tokio::task::yield_now() => {}
            }
        }
        drop(send);
        let mut transaction = conn.transaction();
        let tickets: Vec<_> =
            (0..5).map(|n| transaction.add(conn.count(format!("k{n}")))).collect();
        let mut results = transaction.send().await.unwrap();
        let counts: Vec<_> =
            tickets.into_iter().map(|ticket| results.take(ticket).unwrap()).collect();
        assert!(counts.iter().all(|count| *count == counts[0]), "{polls}: {counts:?}");
    }
}

#[tokio::test]
async fn large_ones_dropped_over_a_slow_link_run_whole_or_not_at_all() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    // More than fits into all the buffers on the way, so that some of it is not even written when time is over.
    let value = "x".repeat(512 << 10);
    let mut transaction = conn.transaction();
    let _first = transaction.add(conn.exists("a"));
    transaction.send().await.unwrap().check().unwrap();
    for round in 0..5_u64 {
        proxy.set(Fault::Throttle { bytes_per_second: 8 << 20 });
        let mut transaction = conn.transaction().timeout(Duration::from_millis(50 + 100 * round));
        let _before = transaction.add(conn.increment("a", 1));
        for n in 0..60 {
            let _ticket = transaction.add(conn.set(format!("k{n}"), &value));
        }
        let _after = transaction.add(conn.increment("b", 1));
        let result = transaction.send().await;
        proxy.clear();
        if let Err(err) = result {
            assert!(err.is_timeout() && err.is_outcome_unknown(), "{err:?}");
        }
        let mut transaction = conn.transaction().timeout(PATIENCE);
        let a = transaction.add(conn.count("a"));
        let b = transaction.add(conn.count("b"));
        let mut results = transaction.send().await.unwrap();
        assert_eq!(results.take(a).unwrap(), results.take(b).unwrap(), "round {round}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_or_a_closed_connection_fails_in_time() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let mut changes = conn.state_changes();
    server.kill().unwrap();
    reach(&mut changes, State::Reconnecting).await;
    let mut transaction = conn.transaction().timeout(Duration::from_millis(200));
    let _ticket = transaction.add(conn.increment("n", 1));
    let started = Instant::now();
    let err = transaction.send().await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Connect, "{err:?}");
    assert!(!err.is_outcome_unknown() && started.elapsed() < Duration::from_secs(5));
    server.restart().unwrap();
    reach(&mut changes, State::Connected).await;
    let mut transaction = conn.transaction();
    let ticket = transaction.add(conn.increment("n", 1));
    assert_eq!(transaction.send().await.unwrap().take(ticket).unwrap(), 1);
    conn.close(PATIENCE).await;
    let mut transaction = conn.transaction();
    let _ticket = transaction.add(conn.increment("n", 1));
    assert_eq!(transaction.send().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_slot_that_moves_is_followed() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap().unwrap();
    let conn = Conn::connect(cluster.url()).await.unwrap();
    let slot = cluster.slot_of("moving").unwrap();
    let from = cluster.slot_owner(slot).unwrap();
    let to = cluster.masters().unwrap().into_iter().find(|master| *master != from).unwrap();
    let send = async || {
        let mut transaction = conn.transaction();
        let a = transaction.add(conn.increment("{moving}a", 1));
        let b = transaction.add(conn.script(&COUNT).key("{moving}b").run::<i64>());
        let mut results = transaction.send().await.unwrap();
        let a = results.take(a).unwrap();
        assert_eq!(a, results.take(b).unwrap());
        a
    };
    assert_eq!(send().await, 1);
    let migration = cluster.start_migration(slot, to).unwrap();
    assert_eq!(send().await, 2, "both keys are still there");
    migration.move_keys(100).unwrap();
    assert_eq!(send().await, 3, "both keys have moved");
    assert_eq!(send().await, 4);
    migration.finish().unwrap();
    assert_eq!(send().await, 5);
    assert_eq!(send().await, 6);
}

#[tokio::test]
async fn keys_of_which_some_have_moved_are_waited_for() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap().unwrap();
    let conn = Conn::connect(cluster.url()).await.unwrap();
    let slot = cluster.slot_of("moving").unwrap();
    let from = cluster.slot_owner(slot).unwrap();
    let to = cluster.masters().unwrap().into_iter().find(|master| *master != from).unwrap();
    for key in ["{moving}a", "{moving}b"] {
        conn.increment(key, 1).await.unwrap();
    }
    let migration = cluster.start_migration(slot, to).unwrap();
    migration.move_keys(1).unwrap();
    let call = tokio::spawn({
        let conn = conn.clone();
        async move {
            let mut transaction = conn.transaction();
            let a = transaction.add(conn.increment("{moving}a", 1));
            let b = transaction.add(conn.increment("{moving}b", 1));
            let mut results = transaction.send().await?;
            Ok::<_, redbrick_core_conn::Error>((results.take(a)?, results.take(b)?))
        }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    migration.finish().unwrap();
    assert_eq!(call.await.unwrap().unwrap(), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_within_the_bound_succeeds_and_above_it_the_next_one_fails() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let config = Config::builder().url(proxy.url()).max_waiting(1000.try_into().unwrap());
    let conn = Conn::connect(config).await.unwrap();
    let transact = async |conn: &Conn, calls: usize| {
        let mut transaction = conn.transaction();
        for _ in 0..calls {
            let _ticket = transaction.add(conn.increment("n", 1));
        }
        transaction.send().await?.check()
    };
    transact(&conn, 1).await.unwrap();
    proxy.set(Fault::Latency { up: Duration::ZERO, down: Duration::from_millis(200) });
    for (transactions, calls) in [(1000, 1), (10, 100), (1, 1000)] {
        let all = (0..transactions).map(|_| {
            let conn = conn.clone();
            tokio::spawn(async move { transact(&conn, calls).await })
        });
        for one in all.collect::<Vec<_>>() {
            one.await.unwrap().unwrap();
        }
    }
    assert_eq!(conn.count("n").await.unwrap(), Some(3001));
    let err = transact(&conn, 1001).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err:?}");
    let many = (0..2000).map(|_| {
        let conn = conn.clone();
        tokio::spawn(async move { transact(&conn, 1).await })
    });
    let (mut done, mut busy) = (0, 0);
    for one in many.collect::<Vec<_>>() {
        match one.await.unwrap() {
            Ok(()) => done += 1,
            Err(err) if err.kind() == ErrorKind::Busy => busy += 1,
            Err(err) => panic!("{err:?}"),
        }
    }
    assert!(done >= 1000 && busy > 0, "{done} done, {busy} refused");
    assert_eq!(conn.count("n").await.unwrap(), Some(3001 + done));
}
