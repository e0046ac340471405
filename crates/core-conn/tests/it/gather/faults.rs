//! Whatever happens to a batch, each caller goes on as after an attempt of its own.

use std::{num::NonZero, sync::Arc, time::Duration};

use redbrick_core_conn::{Config, Conn, ErrorKind, Replay, State};
use redbrick_testkit::{Cluster, Fault};
use tokio::{runtime::Builder, time::Instant};

use super::{at_once, begin, read_on_tasks};
use crate::{PATIENCE, eventually, reach, server};

async fn fill(conn: &Conn) {
    for n in 0..50 {
        conn.set(format!("k:{n}"), &n).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn links_that_break_cost_no_read_its_answer() {
    let server = server();
    let conn = Conn::connect(Config::builder().url(server.url()).command_timeout(PATIENCE)).await;
    let conn = conn.unwrap();
    fill(&conn).await;
    let killing = tokio::spawn({
        let (server, conn) = (Arc::clone(&server), conn.clone());
        async move {
            let mut kills = 0;
            // Only what is connected can be cut off; each of them is come back from.
            while kills < 20 {
                if conn.ready().await.is_ok() {
                    server.command(["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
                    kills += 1;
                }
            }
        }
    });
    while !killing.is_finished() {
        // A call has so many retries, and there are more kills than that.
        read_on_tasks(
            &conn,
            64,
            5,
            |n| format!("k:{}", n % 50),
            |n, found| match found {
                Ok(found) => assert_eq!(found, Some(n % 50)),
                Err(err) => assert_eq!(err.kind(), ErrorKind::Interrupted, "{err:?}"),
            },
        )
        .await;
    }
    killing.await.unwrap();
    read_on_tasks(
        &conn,
        64,
        5,
        |n| format!("k:{}", n % 50),
        |n, found| {
            assert_eq!(found.unwrap(), Some(n % 50));
        },
    )
    .await;
}

#[tokio::test]
async fn when_the_server_says_nothing_each_caller_waits_for_its_own_time_and_leaves_nothing_behind()
{
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    fill(&conn).await;
    proxy.set(Fault::StallReplies);
    let started = Instant::now();
    for _ in 0..3 {
        let calls = (0..600).map(|n| {
            let timeout = Duration::from_millis(if n % 2 == 0 { 50 } else { 100 });
            conn.get::<usize>(format!("k:{}", n % 50)).timeout(timeout).replay(Replay::Idempotent)
        });
        for found in at_once(calls).await {
            assert_eq!(found.unwrap_err().kind(), ErrorKind::Timeout);
        }
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let sent = proxy.request_bytes();
    proxy.clear();
    let found = at_once((0..50).map(|n| conn.get::<usize>(format!("k:{n}")))).await;
    for (n, found) in found.into_iter().enumerate() {
        assert_eq!(found.unwrap(), Some(n));
    }
    // What nobody waited for any more was not asked for: some kilobytes for those who came back, not for all before.
    let sent = proxy.request_bytes() - sent;
    assert!(sent < 10_000, "{sent} bytes");
}

#[tokio::test]
async fn a_link_that_is_stuck_holds_up_only_the_calls_that_it_carries() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let two = NonZero::new(2).unwrap();
    let conn = Conn::connect(Config::builder().url(proxy.url()).command_links(two)).await.unwrap();
    fill(&conn).await;
    // It is replaced in about two seconds; what is asked for before has to go over the other one.
    proxy.set_for_newest(Fault::Stall);
    let mut under_way: Vec<_> = (0..4).map(|n| conn.get::<usize>(format!("k:{n}"))).collect();
    under_way.iter_mut().for_each(begin);
    let mut answered = 0;
    for n in 0..5 {
        let call = conn.get::<usize>(format!("k:{n}")).timeout(Duration::from_millis(200));
        match call.await {
            Ok(found) => {
                assert_eq!(found, Some(n));
                answered += 1;
            }
            Err(err) => assert_eq!(err.kind(), ErrorKind::Timeout),
        }
    }
    assert!(answered > 0, "every second one at least");
}

#[tokio::test]
async fn callers_who_leave_take_their_place_with_them() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    fill(&conn).await;
    let before = server.command_counts().unwrap();
    {
        let mut calls: Vec<_> = (0..50).map(|n| conn.get::<usize>(format!("k:{n}"))).collect();
        // None of them is polled again, and the driver has not run yet.
        calls.iter_mut().for_each(begin);
    }
    assert_eq!(conn.get::<usize>("k:3").await.unwrap(), Some(3));
    let used = server.command_counts().unwrap().since(&before);
    assert_eq!(used.of("mget"), 0, "nobody was left to ask for more than one");
}

#[tokio::test]
async fn while_no_link_is_up_they_wait_or_fail_as_they_are_told() {
    let server = server();
    let conn = Conn::connect(Config::builder().url(server.url()).command_timeout(PATIENCE)).await;
    let conn = conn.unwrap();
    fill(&conn).await;
    let mut changes = conn.state_changes();
    server.kill().unwrap();
    reach(&mut changes, State::Reconnecting).await;
    let fast = at_once((0..20).map(|n| conn.get::<usize>(format!("k:{n}")).fail_fast())).await;
    for found in fast {
        assert_eq!(found.unwrap_err().kind(), ErrorKind::Connect);
    }
    let empty = at_once((0..20).map(|n| conn.get::<usize>(format!("k:{n}")).or_empty())).await;
    for found in empty {
        assert_eq!(found.unwrap(), None);
    }
    let waiting = tokio::spawn({
        let conn = conn.clone();
        async move { at_once((0..20).map(|n| conn.get::<usize>(format!("n:{n}")))).await.len() }
    });
    server.restart().unwrap();
    assert_eq!(waiting.await.unwrap(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_another_runtime_hear_of_its_end() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let home = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let url = proxy.url();
    let conn = home.spawn(async move { Conn::connect(url).await.unwrap() }).await.unwrap();
    proxy.set(Fault::StallReplies);
    let calls: Vec<_> = (0..300)
        .map(|n| {
            let conn = conn.clone();
            tokio::spawn(async move { conn.get::<usize>(format!("k:{n}")).await })
        })
        .collect();
    eventually("something is under way", {
        let server = Arc::clone(&server);
        move || server.command_counts().is_ok_and(|counts| counts.of("get") > 0)
    })
    .await;
    home.shutdown_background();
    let ended = async {
        for call in calls {
            let err = call.await.unwrap().unwrap_err();
            assert!(matches!(err.kind(), ErrorKind::Closed | ErrorKind::Interrupted), "{err:?}");
        }
    };
    // Sooner than their own time of five seconds.
    tokio::time::timeout(Duration::from_secs(4), ended).await.expect("they are told");
}

#[tokio::test]
async fn closing_waits_for_those_who_are_gathered() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    fill(&conn).await;
    let mut calls: Vec<_> = (0..50).map(|n| conn.get::<usize>(format!("k:{n}"))).collect();
    calls.iter_mut().for_each(begin);
    let closing = tokio::spawn({
        let conn = conn.clone();
        async move { conn.close(PATIENCE).await }
    });
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), Some(n));
    }
    assert!(closing.await.unwrap().is_clean());
    assert_eq!(conn.get::<usize>("k:1").await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slot_that_moves_costs_no_read_its_answer() {
    let cluster = Arc::new(Cluster::start().unwrap());
    let conn = Conn::connect(cluster.url()).await.unwrap();
    for n in 0..50 {
        conn.set(format!("{{s}}{n}"), &n).await.unwrap();
    }
    let slot = cluster.slot_of("{s}").unwrap();
    let moving = tokio::task::spawn_blocking({
        let cluster = Arc::clone(&cluster);
        move || {
            for _ in 0..3 {
                let from = cluster.slot_owner(slot).unwrap();
                let to = cluster.masters().unwrap().into_iter().find(|to| *to != from).unwrap();
                let migration = cluster.start_migration(slot, to).unwrap();
                while migration.move_keys(7).unwrap() > 0 {}
                migration.finish().unwrap();
            }
        }
    });
    while !moving.is_finished() {
        read_on_tasks(
            &conn,
            32,
            5,
            |n| format!("{{s}}{}", n % 50),
            |n, found| {
                assert_eq!(found.unwrap(), Some(n % 50));
            },
        )
        .await;
    }
    moving.await.unwrap();
}
