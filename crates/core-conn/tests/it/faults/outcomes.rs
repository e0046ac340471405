//! Replies that are lost, cut or no longer waited for: what a call says is true, and the next one gets its own answer.

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Conn, ErrorKind};
use redbrick_testkit::{Fault, Proxy};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{REPLACED, SLACK, Tally, count, measured};
use crate::{PATIENCE, chance::Chance, eventually, server};

/// Loses the replies of the calls that are in flight, in one of the ways in which replies get lost.
async fn lose_replies(proxy: &Arc<Proxy>, chance: &mut Chance, before: (u64, u64)) {
    let watched = Arc::clone(proxy);
    // Either a reply was lost, or the connection has gone already.
    eventually("a loss", move || {
        watched.dropped_bytes() > before.0 || watched.connections() > before.1
    })
    .await;
    if chance.one_in(2) {
        proxy.reset();
    } else {
        proxy.close();
    }
    proxy.clear();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_whose_replies_are_lost_again_and_again_never_count_twice() {
    let mut chance = Chance::new("lost replies");
    let server = server();
    let proxy = Arc::new(server.proxy().unwrap());
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let mut tally = Tally::default();
    for _ in 0..60 {
        let before = (proxy.dropped_bytes(), proxy.connections());
        let fault = match chance.of(0..4) {
            0 => None,
            1 => Some(Fault::CutAfterReplyBytes(chance.of(0..40))),
            _ => Some(Fault::DropReplies),
        };
        if let Some(fault) = fault {
            proxy.set_for_open(fault);
        }
        let mut calls = JoinSet::new();
        for _ in 0..chance.of(1..20) {
            let conn = conn.clone();
            calls.spawn(async move { conn.increment("n", 1).await });
        }
        if fault == Some(Fault::DropReplies) {
            lose_replies(&proxy, &mut chance, before).await;
        }
        while let Some(call) = calls.join_next().await {
            tally.note(&call.unwrap());
        }
        proxy.clear();
    }
    assert!(tally.done > 0 && tally.unknown > 0, "both happened: {tally:?}");
    assert_eq!(tally.failed, 0, "what was not sent is sent later: {tally:?}");
    tally.explains(count(&server, "n"));
}

#[tokio::test]
async fn a_reply_that_is_cut_in_its_middle_is_asked_for_again() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let big = "b".repeat(1 << 20);
    conn.set("big", &big).await.unwrap();
    for n in 0..10 {
        conn.set(format!("small{n}"), &n).await.unwrap();
    }
    let before = proxy.connections();
    proxy.set_for_open(Fault::CutAfterReplyBytes(500_000));
    let small = async {
        let mut calls = JoinSet::new();
        for n in 0..10 {
            let conn = conn.clone();
            calls.spawn(async move { (n, conn.get::<i32>(format!("small{n}")).await) });
        }
        calls.join_all().await
    };
    let (got, small) = tokio::join!(conn.get::<String>("big"), small);
    assert!(got.unwrap().is_some_and(|got| got == big), "the whole value");
    for (n, got) in small {
        assert_eq!(got.unwrap(), Some(n), "its own value");
    }
    assert_eq!(proxy.connections(), before + 1, "it was cut once");

    // When it is cut every time, the caller learns that, and the next one is not harmed.
    proxy.set(Fault::CutAfterReplyBytes(500_000));
    let err = conn.get::<String>("big").await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Interrupted, "{err:?}");
    proxy.clear();
    assert_eq!(conn.get::<i32>("small7").await.unwrap(), Some(7));
}

/// Polls a call some times, and drops it.
async fn give_up_after(polls: u64, call: impl IntoFuture) {
    let mut call = Box::pin(call.into_future());
    for _ in 0..polls {
        tokio::select! {
            biased;
            _ = &mut call => return,
            () = tokio::task::yield_now() => {}
        }
    }
}

#[tokio::test]
async fn calls_given_up_at_any_point_leave_every_link_in_step() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap().with_command_timeout(PATIENCE);
    conn.set("right", "right").await.unwrap();
    conn.set("wrong", &"wrong".repeat(20_000)).await.unwrap();
    let mut begun = 0;
    for round in 0..200 {
        match round % 10 {
            // Some are given up while the link is lost, and while another one is made.
            3 => proxy.reset(),
            6 => proxy.close(),
            _ => {}
        }
        let polls = round % 23;
        give_up_after(polls, conn.get::<String>("wrong")).await;
        give_up_after(polls, conn.increment("n", 1)).await;
        give_up_after(polls, conn.set("other", &round)).await;
        begun += 1;
        assert_eq!(conn.get::<String>("right").await.unwrap().as_deref(), Some("right"));
    }
    assert!(count(&server, "n") <= begun, "none counts twice");
    assert!(count(&server, "n") > 0, "some had been sent");
}

#[tokio::test]
async fn calls_given_up_while_a_stuck_link_is_replaced_leave_the_next_one_in_step() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    conn.set("right", "right").await.unwrap();
    conn.set("wrong", "wrong").await.unwrap();
    proxy.set_for_open(Fault::Stall);
    let stalled = Instant::now();
    let mut given_up = 0;
    let hasty = Duration::from_millis(20);
    while timeout(hasty, conn.get::<String>("wrong")).await.is_err() {
        given_up += 1;
        assert!(timeout(hasty, conn.increment("n", 1)).await.is_err() || given_up > 10);
    }
    let took = measured("Stall, calls given up", stalled);
    assert!(took < REPLACED + SLACK, "{took:?}");
    assert!(given_up > 10, "{given_up}");
    for _ in 0..20 {
        assert_eq!(conn.get::<String>("right").await.unwrap().as_deref(), Some("right"));
    }
}
