//! What recorders are told.

use redbrick_pubsub::Received;
use redbrick_testkit::Metrics;

use crate::{message, next, pubsub, pubsub_at, server, some};

#[tokio::test]
async fn a_recorder_sees_what_was_read_and_what_was_dropped() {
    let metrics = Metrics::new();
    let _listening = metrics.listen();
    let pubsub = pubsub("metrics").await;
    let slow = pubsub.subscribe::<u32>().channel("hunter2").queue_messages(some(2));
    let mut slow = slow.await.unwrap();
    let mut quick = pubsub.subscribe::<u32>().channel("hunter2").await.unwrap();
    for n in 0..5 {
        pubsub.publish("hunter2", "k", &n).await.unwrap();
    }
    pubsub.publish("hunter2", "k", "no number").await.unwrap();
    for n in 0..5 {
        assert_eq!(message(&mut quick).await.payload, n);
    }
    assert!(matches!(next(&mut quick).await, Received::Undecodable { .. }));
    assert_eq!(metrics.counter("redbrick.pubsub.received"), 5);
    assert_eq!(metrics.counter("redbrick.pubsub.undecodable"), 1);
    assert_eq!(metrics.counter("redbrick.pubsub.lagged"), 0, "nobody has read of it yet");

    assert!(matches!(next(&mut slow).await, Received::Lagged(4)));
    assert_eq!(metrics.counter("redbrick.pubsub.lagged"), 4);
    assert!(!metrics.series().concat().contains("hunter2"), "{:?}", metrics.series());
}

#[tokio::test]
async fn a_recorder_sees_gaps() {
    let metrics = Metrics::new();
    let _listening = metrics.listen();
    let server = server();
    let pubsub = pubsub_at(server.url()).await;
    let mut subscription = pubsub.subscribe::<u32>().channel("a").await.unwrap();
    server.command(["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
    assert!(matches!(next(&mut subscription).await, Received::Gap { .. }));
    assert!(matches!(next(&mut subscription).await, Received::Resumed));
    assert_eq!(metrics.counter("redbrick.pubsub.gaps"), 1);
}
