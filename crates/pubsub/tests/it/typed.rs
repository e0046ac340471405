use redbrick_pubsub::{Channel, Event, PubSub};
use serde::{Deserialize, Serialize};

use crate::{message, pubsub};

static STOCK: Channel<(String, u32)> = Channel::new("stock:changed");
static ALARM: Channel<u8> = Channel::new("stock:changed").kind("alarm");

#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Created {
    sku: String,
}

impl Event for Created {
    const CHANNEL: &str = "product:events";
    const KIND: &str = "created";
}

#[derive(Deserialize, Serialize)]
struct Removed(u64);

impl Event for Removed {
    const CHANNEL: &str = "product:events";
    const KIND: &str = "removed";
}

#[tokio::test]
async fn an_event_goes_to_those_who_want_its_type_and_to_no_others() {
    let pubsub = pubsub("events").await;
    let mut created = pubsub.events::<Created>().await.unwrap();
    let mut removed = pubsub.events::<Removed>().await.unwrap();

    pubsub.emit(&Removed(7)).await.unwrap();
    pubsub.emit(&Created { sku: "cup".into() }).correlation_id("c").await.unwrap();

    let event = message(&mut created).await;
    assert_eq!(event.payload, Created { sku: "cup".into() });
    assert_eq!((event.kind.as_str(), event.correlation_id.as_deref()), ("created", Some("c")));
    assert_eq!(message(&mut removed).await.payload.0, 7);
}

#[tokio::test]
async fn a_typed_channel_is_written_once_and_used_by_both_sides() {
    let pubsub: PubSub = pubsub("channels").await;
    let (told, mut hears) = tokio::sync::mpsc::channel(8);
    let handler = STOCK.on(&pubsub, move |message| {
        let told = told.clone();
        async move { told.send(message.payload).await.map_err(|_closed| "nobody listens") }
    });
    let handler = handler.await.unwrap();
    let mut stream = STOCK.subscribe(&pubsub).await.unwrap();

    // Of another kind, although over the same channel.
    ALARM.publish(&pubsub, &1).await.unwrap();
    STOCK.publish(&pubsub, &("cup".into(), 3)).await.unwrap();

    assert_eq!(message(&mut stream).await.payload, ("cup".to_owned(), 3));
    assert_eq!(hears.recv().await.unwrap(), ("cup".to_owned(), 3));
    assert_eq!(handler.tally().undecodable, 0);
}
