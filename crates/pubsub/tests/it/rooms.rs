use std::time::{Duration, SystemTime};

use redbrick_pubsub::{Joined, Message, Received};
use tokio::sync::mpsc;

use crate::{SHORT, Texts, message, next, pubsub, some, until};

#[tokio::test]
async fn members_join_keep_and_leave() {
    let pubsub = pubsub("members").await;
    let room: Texts = pubsub.room("lobby");
    assert!(!room.keep("ada").await.unwrap());
    assert!(!room.leave("ada").await.unwrap());
    assert_eq!(room.count().await.unwrap(), 0);

    assert_eq!(room.join("ada", &"one".into()).await.unwrap(), Joined::New);
    let first = room.members().await.unwrap().members.remove(0);
    assert_eq!(room.join("bob", &"two".into()).await.unwrap(), Joined::New);
    until("the clock goes on", async || SystemTime::now() > first.joined_at).await;
    assert_eq!(room.join("ada", &"again".into()).await.unwrap(), Joined::Renewed);
    assert!(room.keep("ada").await.unwrap());

    let all = room.members().await.unwrap();
    assert!(all.unreadable.is_empty());
    let ada = all.members.iter().find(|member| member.id_text() == "ada").unwrap();
    assert_eq!((ada.info.as_str(), ada.joined_at), ("again", first.joined_at));
    assert_eq!((all.members.len(), room.count().await.unwrap()), (2, 2));
    let age = SystemTime::now().duration_since(ada.joined_at).unwrap_or_default();
    assert!(age < Duration::from_secs(600), "{age:?}");

    assert!(room.leave("ada").await.unwrap());
    assert!(!room.leave("ada").await.unwrap());
    assert!(!room.keep("ada").await.unwrap());
    let left = room.members().await.unwrap();
    assert_eq!(left.members.len(), 1);
    assert_eq!(left.members[0].id, b"bob");
    assert_eq!(pubsub.room::<String, String>("other").count().await.unwrap(), 0);
}

#[tokio::test]
async fn a_dead_member_vanishes_after_its_lease_and_joins_as_a_new_one() {
    let pubsub = pubsub("dead").await;
    let room: Texts = pubsub.room("lobby");
    let hasty = room.clone().lease(SHORT);
    room.join("lives", &"x".into()).await.unwrap();
    hasty.join("dies", &"x".into()).await.unwrap();
    let first = room.members().await.unwrap();

    until("it is gone", async || room.count().await.unwrap() == 1).await;
    assert!(!room.keep("dies").await.unwrap(), "it does not come back by being kept");
    assert!(!room.leave("dies").await.unwrap());
    hasty.join("dies", &"x".into()).await.unwrap();
    until("it is gone", async || room.members().await.unwrap().members.len() == 1).await;
    assert_eq!(room.join("dies", &"y".into()).await.unwrap(), Joined::New);

    let again = room.members().await.unwrap().members;
    let dies = again.iter().find(|member| member.id == b"dies").unwrap();
    assert!(first.members.iter().all(|member| member.joined_at < dies.joined_at));
}

#[tokio::test]
async fn joining_removes_those_whose_lease_has_ended() {
    let pubsub = pubsub("purge").await;
    let conn = crate::connect("purge-look").await;
    drop(conn);
    let room: Texts = pubsub.room("lobby");
    for n in 0..5 {
        room.clone().lease(SHORT).join(format!("{n}"), &"x".into()).await.unwrap();
    }
    room.join("lives", &"x".into()).await.unwrap();
    until("they are gone", async || room.count().await.unwrap() == 1).await;
    assert_eq!(room.join("0", &"y".into()).await.unwrap(), Joined::New);
    assert_eq!(room.count().await.unwrap(), 2);
}

#[tokio::test]
async fn the_history_holds_the_last_hundred_newest_first() {
    let pubsub = pubsub("history").await;
    let room = pubsub.room::<(), u32>("lobby");
    assert!(room.recent().await.unwrap().messages.is_empty());
    for n in 0..120 {
        room.broadcast(&n).await.unwrap();
    }
    let payloads = |messages: Vec<Message<u32>>| -> Vec<u32> {
        messages.into_iter().map(|message| message.payload).collect()
    };
    let ten = room.recent().await.unwrap();
    assert!(ten.unreadable.is_empty());
    assert_eq!(ten.messages[0].source, "tests");
    assert_eq!(ten.messages[0].channel, room.channel().as_ref());
    assert_eq!(payloads(ten.messages), (110..120).rev().collect::<Vec<_>>());
    let all = room.recent_n(some(1000)).await.unwrap().messages;
    assert_eq!(payloads(all), (20..120).rev().collect::<Vec<_>>());

    room.clone().history(some(3)).broadcast(&120).await.unwrap();
    let all = room.recent_n(some(1000)).await.unwrap().messages;
    assert_eq!(payloads(all), [120, 119, 118]);

    room.clone().history_life(SHORT).broadcast(&121).await.unwrap();
    until("it is forgotten", async || room.recent().await.unwrap().messages.is_empty()).await;
}

#[tokio::test]
async fn what_is_said_comes_as_a_stream_and_to_handlers() {
    let pubsub = pubsub("said").await;
    let room: Texts = pubsub.room("lobby");
    let mut stream = room.subscribe().await.unwrap();
    let (told, mut hears) = mpsc::channel(8);
    let _handler = pubsub.on(room.channel(), move |message: Message<String>| {
        let told = told.clone();
        async move { told.send(message.payload).await.map_err(|_closed| "nobody listens") }
    });
    let _handler = _handler.await.unwrap();

    // One connection has both; on Cluster it may be at another node.
    assert!(room.broadcast(&"hello".into()).await.unwrap() <= 1);

    let said = message(&mut stream).await;
    assert_eq!(said.payload, "hello");
    assert_eq!(hears.recv().await.unwrap(), "hello");
    assert_eq!(room.recent().await.unwrap().messages[0].id, said.id);
}

#[tokio::test]
async fn one_entry_that_cannot_be_read_hides_no_other() {
    let pubsub = pubsub("unreadable").await;
    let texts: Texts = pubsub.room("lobby");
    let numbers = pubsub.room::<u32, u32>("lobby");
    texts.join("text", &"x".into()).await.unwrap();
    numbers.join("number", &7).await.unwrap();
    let mut stream = numbers.subscribe().await.unwrap();
    texts.broadcast(&"x".into()).await.unwrap();
    numbers.broadcast(&8).await.unwrap();

    let members = numbers.members().await.unwrap();
    assert_eq!((members.members.len(), members.unreadable.len()), (1, 1));
    assert_eq!((members.members[0].info, &*members.unreadable[0].id), (7, b"text".as_slice()));
    let recent = numbers.recent().await.unwrap();
    assert_eq!((recent.messages.len(), recent.unreadable.len()), (1, 1));
    assert_eq!(recent.messages[0].payload, 8);
    assert!(matches!(next(&mut stream).await, Received::Undecodable { .. }));
    assert_eq!(message(&mut stream).await.payload, 8);
}
