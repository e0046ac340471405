use std::time::SystemTime;

use crate::{message, pubsub, send};

#[tokio::test]
async fn a_message_carries_what_its_publisher_said() {
    let pubsub = pubsub("envelope").await;
    let mut orders = pubsub.subscribe::<(u64, String)>().channel("orders").await.unwrap();
    let before = SystemTime::now() - std::time::Duration::from_millis(1);

    let payload = (7_u64, "cup".to_owned());
    let receivers =
        send(pubsub.publish("orders", "created", &payload).correlation_id("req-1").into_future());
    assert!(receivers.await.unwrap() <= 1, "on Cluster it may listen at another node");

    let first = message(&mut orders).await;
    assert_eq!(first.kind, "created");
    assert_eq!(first.payload, payload);
    assert_eq!(first.source, "tests");
    assert_eq!(first.correlation_id.as_deref(), Some("req-1"));
    assert_eq!(
        (first.channel.as_slice(), &*first.channel_text()),
        (b"orders".as_slice(), "orders")
    );
    assert!(first.timestamp >= before && first.timestamp <= SystemTime::now());
    assert_eq!(first.id.len(), 32);

    pubsub.publish("orders", "created", &payload).await.unwrap();
    let second = message(&mut orders).await;
    assert_ne!(first.id, second.id);
    assert_eq!(second.correlation_id, None);
}

#[tokio::test]
async fn a_message_to_many_channels_is_one_message_with_a_result_for_each() {
    let pubsub = pubsub("many").await;
    let mut both = pubsub.subscribe::<u8>().channel("a").channel("b").await.unwrap();

    let published =
        pubsub.publish_many(["a", "b", "nobody"], "k", &7).correlation_id("c").await.unwrap();

    let counts: Vec<u64> =
        published.results().iter().map(|result| *result.as_ref().unwrap()).collect();
    assert_eq!(counts[2], 0);
    assert_eq!(published.receivers(), counts.iter().sum::<u64>());
    let (one, other) = (message(&mut both).await, message(&mut both).await);
    assert_eq!(one.id, other.id);
    let mut channels = [one.channel, other.channel];
    channels.sort();
    assert_eq!(channels, [b"a", b"b"]);
    assert_eq!(published.all().unwrap(), counts);

    let none = pubsub.publish_many(Vec::<&str>::new(), "k", &7).await.unwrap();
    assert_eq!((none.receivers(), none.results().len()), (0, 0));
}
