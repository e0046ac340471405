//! A socket that takes nothing, under more calls than may wait for it.

use std::time::Duration;

use redbrick_core_conn::{Config, ConfigBuilder, Conn, ErrorKind};
use redbrick_testkit::Fault;
use tokio::{task::JoinSet, time::Instant};

use super::{REPLACED, SLACK};
use crate::{PATIENCE, server};

/// As many calls may wait.
const FEW: usize = 20;

fn few(url: &str) -> ConfigBuilder {
    Config::builder().url(url).max_waiting(FEW.try_into().expect("not zero"))
}

#[tokio::test]
async fn a_stalled_link_is_replaced_although_no_heartbeat_finds_room_on_it() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(few(&proxy.url())).await.unwrap();
    proxy.set_for_open(Fault::Stall);
    let stalled = Instant::now();
    // A value that fits into no buffer holds up all that comes behind it.
    let big = "x".repeat(32 << 20);
    let patient = conn.with_command_timeout(PATIENCE);
    let upload = tokio::spawn(async move { patient.set("big", &big).await });
    tokio::task::yield_now().await;
    // Those that are given up stay with the link, until there is no room for another.
    let hasty = conn.with_command_timeout(Duration::from_millis(1));
    let refused = loop {
        let err = hasty.increment("n", 1).await.unwrap_err();
        if err.kind() != ErrorKind::Timeout {
            break err;
        }
    };
    assert_eq!(refused.kind(), ErrorKind::Busy, "{refused:?}");
    let patient = conn.with_command_timeout(PATIENCE);
    while let Err(err) = patient.ping().await {
        assert!(err.is_retryable(), "{err:?}");
    }
    assert!(stalled.elapsed() < REPLACED + SLACK, "{:?}", stalled.elapsed());
    upload.await.unwrap().expect("it is sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_finds_no_room_runs_as_a_whole_or_not_at_all() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(few(&proxy.url())).await.unwrap();
    let both = async |conn: &Conn, filling: &str| {
        let mut transaction = conn.transaction();
        let _ = transaction.add(conn.increment("first", 1));
        let _ = transaction.add(conn.set("filling", filling));
        let _ = transaction.add(conn.increment("second", 1));
        transaction.send().await.map(drop)
    };
    both(&conn, "").await.unwrap();
    for _ in 0..20 {
        // Slow enough for a queue, too fast for a link that is taken for stuck.
        proxy.set(Fault::Throttle { bytes_per_second: 20 << 20 });
        let mut transactions = JoinSet::new();
        for _ in 0..FEW {
            let conn = conn.clone();
            transactions.spawn(async move { both(&conn, &"x".repeat(256 << 10)).await });
        }
        for result in transactions.join_all().await {
            if let Err(err) = result {
                assert!(err.is_retryable(), "{err:?}");
            }
        }
        proxy.clear();
        // Asked for together: one that was given up may be running yet.
        let both = server.command(["MGET", "first", "second"]).unwrap();
        let counts: Vec<_> = both.as_array().unwrap().iter().map(|count| count.as_str()).collect();
        assert_eq!(counts[0], counts[1], "half a transaction ran");
    }
}
