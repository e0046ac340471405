use std::sync::Arc;

use redbrick_core_conn::{Conn, Pattern};
use redbrick_pubsub::{Message, PubSub};
use tokio::runtime::Handle;

use crate::{SHORT, Texts, eventually, keys, server, until};

#[tokio::test]
async fn nothing_is_left_of_a_room_that_is_over() {
    let server = server();
    let pubsub = PubSub::new(Conn::connect(server.url()).await.unwrap(), "tests");
    let room: Texts = pubsub.room("lobby").history_life(SHORT);
    room.broadcast(&"x".into()).await.unwrap();
    room.join("leaves", &"x".into()).await.unwrap();
    room.leave("leaves").await.unwrap();
    let all = Arc::clone(&server);
    eventually("only the history was there", move || keys(&all) == 0).await;

    let hasty = room.clone().lease(SHORT);
    hasty.join("dies", &"x".into()).await.unwrap();
    hasty.keep("dies").await.unwrap();
    let all = Arc::clone(&server);
    eventually("an empty server", move || keys(&all) == 0).await;
}

#[tokio::test]
async fn every_key_there_is_has_a_time_to_live() {
    let server = server();
    let pubsub = PubSub::new(Conn::connect(server.url()).await.unwrap(), "tests");
    let room: Texts = pubsub.room("lobby");
    let life = |role: &str| {
        let key = format!("pubsub:room:{{lobby}}:{role}");
        server.command(["PTTL", &key]).unwrap().as_int().unwrap()
    };
    let hour = 60 * 60 * 1000;
    room.join("ada", &"x".into()).await.unwrap();
    room.broadcast(&"x".into()).await.unwrap();
    // A shorter lease of another one does not shorten what the first one has.
    room.clone().lease(SHORT).join("bob", &"x".into()).await.unwrap();
    room.clone().lease(SHORT).keep("bob").await.unwrap();
    assert_eq!(keys(&server), 3);
    for role in ["members", "leases"] {
        let left = life(role);
        assert!(left > hour - 60_000 && left <= hour, "{role}: {left}");
    }
    assert!(life("history") > 23 * hour && life("history") <= 24 * hour);
    room.clone().lease(2 * redbrick_pubsub::DEFAULT_LEASE).keep("ada").await.unwrap();
    assert!(life("members") > hour && life("leases") > hour);
}

#[tokio::test]
async fn nothing_is_subscribed_and_no_task_runs_after_the_end() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    // The link for messages stays a while: it is part of the base.
    let first = conn.subscribe().channel("first").await.unwrap();
    let base = Handle::current().metrics().num_alive_tasks();
    let pubsub = PubSub::new(conn.clone(), "tests");
    for n in 0..3 {
        pubsub.on("a", |_: Message<u8>| async {}).await.unwrap();
        let pattern = Pattern::new(&format!("{n}*")).unwrap();
        pubsub.on(pattern, |_: Message<u8>| std::future::pending::<()>()).await.unwrap();
    }
    let stream = pubsub.subscribe::<u8>().channel("b").await.unwrap();
    pubsub.publish("1", "k", &1).await.unwrap();
    assert!(Handle::current().metrics().num_alive_tasks() >= base + 6);

    drop((stream, pubsub, first));

    let runtime = Handle::current();
    until("no task more than before", async || runtime.metrics().num_alive_tasks() <= base).await;
    let all = Arc::clone(&server);
    eventually("no channel and no pattern", move || {
        let patterns = all.command(["PUBSUB", "NUMPAT"]).unwrap().as_int();
        let counts = all.command(["PUBSUB", "NUMSUB", "a", "b", "first"]).unwrap();
        let text = format!("{counts:?}");
        patterns == Some(0) && !text.contains("Int(1)")
    })
    .await;
    drop(conn);
    let all = Arc::clone(&server);
    eventually("no channel at all", move || {
        format!("{:?}", all.command(["PUBSUB", "CHANNELS"]).unwrap()).contains("[]")
    })
    .await;
}
