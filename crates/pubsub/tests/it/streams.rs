use std::{future::poll_fn, pin::Pin};

use futures_core::Stream;
use redbrick_core_conn::{Overflow, Pattern};
use redbrick_pubsub::{Error, Received};

use crate::{message, next, pubsub, pubsub_at, server, some, until};

#[tokio::test]
async fn channels_and_patterns_come_in_one_stream_and_in_order() {
    let pubsub = pubsub("order").await;
    let pattern = Pattern::new("product:*").unwrap();
    let mut all = pubsub.subscribe::<u32>().channel("orders").pattern(pattern).await.unwrap();

    for n in 0..200 {
        pubsub.publish("product:created", "k", &n).await.unwrap();
    }
    for n in 0..200 {
        // As a `Stream`, too.
        let received = poll_fn(|cx| Pin::new(&mut all).poll_next(cx)).await.unwrap();
        assert_eq!(received.message().unwrap().payload, n);
    }
    pubsub.publish("orders", "k", &7).await.unwrap();
    assert_eq!(message(&mut all).await.payload, 7);
}

#[tokio::test]
async fn what_one_subscriber_cannot_read_is_its_own_affair() {
    let pubsub = pubsub("undecodable").await;
    let mut numbers = pubsub.subscribe::<u32>().channel("a").await.unwrap();
    let mut texts = pubsub.subscribe::<String>().channel("a").await.unwrap();

    pubsub.publish("a", "k", "text").await.unwrap();
    pubsub.publish("a", "k", &5).await.unwrap();

    match next(&mut numbers).await {
        Received::Undecodable { channel, error: Error::Undecodable(_), .. } => {
            assert_eq!(channel, b"a");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(message(&mut numbers).await.payload, 5);
    assert_eq!(message(&mut texts).await.payload, "text");
    assert!(matches!(next(&mut texts).await, Received::Undecodable { .. }));
}

#[tokio::test]
async fn a_slow_subscriber_lags_alone() {
    let pubsub = pubsub("lag").await;
    let slow = pubsub.subscribe::<u32>().channel("a").queue_messages(some(10));
    let mut slow = slow.await.unwrap();
    let mut quick = pubsub.subscribe::<u32>().channel("a").await.unwrap();
    let limited = pubsub.subscribe::<u32>().channel("a").queue_messages(some(10));
    let mut limited = limited.overflow(Overflow::Close).await.unwrap();
    for n in 0..100 {
        pubsub.publish("a", "k", &n).await.unwrap();
    }

    for n in 0..100 {
        assert_eq!(message(&mut quick).await.payload, n);
    }
    let (mut lost, mut last) = (0, 0);
    while last != 99 {
        match next(&mut slow).await {
            Received::Lagged(n) => lost += n,
            Received::Message(message) => last = message.payload,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(lost, 90);
    for n in 0..10 {
        assert_eq!(message(&mut limited).await.payload, n);
    }
    assert!(matches!(next(&mut limited).await, Received::Lagged(1)));
    assert!(limited.next().await.is_none());
}

#[tokio::test]
async fn a_link_that_is_killed_is_a_visible_gap() {
    let server = server();
    let pubsub = pubsub_at(server.url()).await;
    let mut stream = pubsub.subscribe::<u32>().channel("a").await.unwrap();
    pubsub.publish("a", "k", &1).await.unwrap();
    assert_eq!(message(&mut stream).await.payload, 1);

    let killed = server.command(["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap().as_int();
    assert_eq!(killed, Some(1));

    assert!(matches!(next(&mut stream).await, Received::Gap { .. }));
    assert!(matches!(next(&mut stream).await, Received::Resumed));
    pubsub.publish("a", "k", &2).await.unwrap();
    assert_eq!(message(&mut stream).await.payload, 2);
}

#[tokio::test]
async fn a_dropped_subscription_receives_nothing_more() {
    let pubsub = pubsub("dropped").await;
    let stream = pubsub.subscribe::<u32>().channel("a").await.unwrap();
    assert!(pubsub.publish("a", "k", &1).await.unwrap() <= 1);
    drop(stream);
    until("nobody receives", async || pubsub.publish("a", "k", &1).await.unwrap() == 0).await;
}
