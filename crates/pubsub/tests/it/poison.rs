//! No reply is taken for something else, whatever words of the protocol users give.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use redbrick_core_conn::Conn;
use redbrick_pubsub::{Joined, Message, PubSub};
use redbrick_testkit::poison;
use tokio::sync::mpsc;

use crate::{Texts, connect, message, some};

async fn every_call(conn: &Conn, words: &[&str]) {
    let word = words[0];
    let pubsub = PubSub::new(conn.clone(), word);
    let mut stream = pubsub.subscribe::<Vec<String>>().channel(word).kind(word).await.unwrap();
    let (told, mut hears) = mpsc::channel(8);
    let handler = pubsub.on(word, move |message: Message<Vec<String>>| {
        let told = told.clone();
        async move { told.send(message.payload).await.map_err(|_closed| "nobody listens") }
    });
    let handler = handler.await.unwrap();
    let payload: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    pubsub.publish(word, word, &payload).correlation_id(word).await.unwrap();
    // On Cluster what was published before may come first.
    let heard = loop {
        let heard = message(&mut stream).await;
        if heard.payload == payload && heard.correlation_id.is_some() {
            break heard;
        }
    };
    assert_eq!(
        (&heard.payload, heard.kind.as_str(), heard.source.as_str()),
        (&payload, word, word)
    );
    while hears.recv().await.unwrap() != payload {}
    assert!(handler.unsubscribe().await);
    pubsub.publish_many(words, word, &payload).await.unwrap().all().unwrap();

    let room: Texts = pubsub.room(words.join("+"));
    for &member in words {
        let joined = room.join(member, &member.into()).await.unwrap();
        // A list may have a word twice.
        assert!(matches!(joined, Joined::New | Joined::Renewed));
        assert!(room.keep(member).await.unwrap());
        room.broadcast(&member.into()).await.unwrap();
    }
    let members = room.members().await.unwrap();
    assert!(members.unreadable.is_empty());
    for member in &members.members {
        assert_eq!(member.id_text(), member.info);
    }
    assert_eq!(room.count().await.unwrap(), members.members.len() as u64);
    let recent = room.recent_n(some(words.len())).await.unwrap();
    let said: Vec<_> = recent.messages.iter().rev().map(|said| said.payload.as_str()).collect();
    assert_eq!(said, words);
    for member in members.members {
        assert!(room.leave(member.id).await.unwrap());
    }
}

#[tokio::test]
async fn no_word_that_users_choose_leads_a_reply_astray() {
    let conn = connect("poison").await;
    for victim in 0..poison::VICTIMS {
        conn.set(format!("victim {victim}"), &poison::answer(victim)).await.unwrap();
    }
    let read = |victim: usize| {
        let conn = conn.clone();
        async move { conn.get::<String>(format!("victim {victim}")).await }
    };
    let attack = async {
        for words in poison::lists() {
            every_call(&conn, &words).await;
        }
    };
    poison::beside("pubsub", attack, read).await;
}
