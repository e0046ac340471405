//! Typed messages, and rooms.

use std::{error::Error, time::Duration};

use redbrick::{
    prelude::*,
    pubsub::{Message, Received},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::steps::Tour;

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Order {
    id: u32,
    total: f64,
}

pub(crate) async fn walk(tour: &mut Tour, conn: &Conn) -> Result<(), Box<dyn Error>> {
    tour.step("pubsub: typed messages, a handler, and a room");
    let pubsub = PubSub::new(conn.clone(), "tour");
    let (handled, mut seen) = mpsc::channel(8);
    let handler = pubsub.on(Pattern::new("order:*")?, move |message: Message<Order>| {
        let handled = handled.clone();
        async move { handled.send(message).await }
    });
    let _handler = handler.await?;
    let mut stream = pubsub.subscribe::<Order>().channel("order:created").await?;

    let order = Order { id: 7, total: 12.5 };
    let receivers =
        pubsub.publish("order:created", "created", &order).correlation_id("r-1").await?;
    tour.say(format_args!("published to {receivers} subscriptions"));
    if let Some(message) = seen.recv().await {
        let (kind, from, belongs) = (message.kind, message.source, message.correlation_id);
        tour.say(format_args!(
            "a handler has {:?}: {kind} by {from} of {belongs:?}",
            message.payload
        ));
    }
    if let Some(Received::Message(message)) = stream.next().await {
        tour.say(format_args!("a stream has order {} too", message.payload.id));
    }

    let lobby = pubsub.room::<String, String>("lobby");
    lobby.join("ada", &"from London".to_owned()).await?;
    lobby.join("charles", &"from Turin".to_owned()).await?;
    for text in ["hello", "is anybody there?"] {
        lobby.broadcast(&text.to_owned()).await?;
    }
    let members: Vec<_> = lobby.members().await?.members.into_iter().map(|m| m.info).collect();
    tour.say(format_args!("in the room: {members:?}"));
    tour.say(format_args!("whoever comes later reads {} messages", {
        lobby.recent().await?.messages.len()
    }));
    for member in ["ada", "charles"] {
        lobby.leave(member).await?;
    }
    let report = pubsub.close(Duration::from_secs(5)).await;
    tour.say(format_args!("closed, and every message was handled: {}", report.is_clean()));
    Ok(())
}
