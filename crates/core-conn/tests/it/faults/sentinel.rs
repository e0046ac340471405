//! A master behind sentinels that dies, stops or is replaced in good order, under load.

use std::sync::Arc;

use redbrick_core_conn::Conn;
use redbrick_testkit::Sentinel;
use tokio::time::Instant;

use super::{Load, REPLACED, SLACK, Tally, count, measured};
use crate::eventually;

async fn start() -> (Arc<Sentinel>, Conn) {
    let starting = tokio::task::spawn_blocking(Sentinel::start);
    let sentinel =
        starting.await.expect("the start itself").expect("a master, a replica and sentinels");
    let conn = Conn::connect(sentinel.url()).await.expect("a master");
    (Arc::new(sentinel), conn)
}

/// Fails when something was counted twice. What a master has not passed on when it is replaced is lost with it.
fn at_most_once(sentinel: &Sentinel, tally: Tally) {
    let counted = count(sentinel.master().expect("a master"), "n");
    assert!(tally.done > 0 && counted > 0, "{counted} were counted after {tally:?}");
    assert!(counted <= tally.done + tally.unknown, "{counted} were counted after {tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_killed_is_followed_to_its_successor() {
    let (sentinel, conn) = start().await;
    let mut load = Load::start(&conn, |_| "n".to_owned());
    load.works_after(Instant::now()).await;
    let failing = Arc::clone(&sentinel);
    let failover = tokio::task::spawn_blocking(move || failing.kill_master().map(drop).unwrap());
    failover.await.unwrap();
    let elected = Instant::now();
    load.works_after(elected).await;
    let took = measured("Sentinel, killed master: back after the election", elected);
    assert!(took < REPLACED + SLACK, "{took:?}");
    at_most_once(&sentinel, load.end().await.tally());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_stands_still_is_left_for_its_successor() {
    let (sentinel, conn) = start().await;
    let mut load = Load::start(&conn, |_| "n".to_owned());
    load.works_after(Instant::now()).await;
    let master = sentinel.master().unwrap();
    let (port, paused) = (master.port(), master.pause().unwrap());
    let electing = Arc::clone(&sentinel);
    eventually("another master", move || {
        electing.master().is_ok_and(|master| master.port() != port)
    })
    .await;
    let elected = Instant::now();
    load.works_after(elected).await;
    let took = measured("Sentinel, paused master: back after the election", elected);
    assert!(took < REPLACED + SLACK, "{took:?}");
    let tally = load.end().await.tally();
    assert!(tally.unknown > 0, "some were in flight to the one that stood still: {tally:?}");
    at_most_once(&sentinel, tally);
    paused.resume();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_replaced_in_good_order_is_left_for_its_successor() {
    let (sentinel, conn) = start().await;
    let mut load = Load::start(&conn, |_| "n".to_owned());
    load.works_after(Instant::now()).await;
    let failing = Arc::clone(&sentinel);
    let failover = tokio::task::spawn_blocking(move || failing.failover().map(drop).unwrap());
    failover.await.unwrap();
    let elected = Instant::now();
    load.works_after(elected).await;
    let took = measured("Sentinel, manual failover: back after it", elected);
    assert!(took < REPLACED + SLACK, "{took:?}");
    let calls = load.end().await;
    measured(
        "Sentinel, manual failover: longest gap",
        Instant::now() - calls.longest_gap(|_| true),
    );
    at_most_once(&sentinel, calls.tally());
}
