//! What users may send, and what other programs may leave behind.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use redbrick_core_conn::{Config, Conn, ErrorKind, Pattern};
use redbrick_pubsub::{CloseReport, Error, Joined, Message, PubSub, Received};
use redbrick_testkit::Server;
use serde::{Deserialize, Serialize, Serializer};

use crate::{Texts, message, next, pubsub, server, until};

fn hostile() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "",
        " ",
        "a b",
        "{",
        "}",
        "{}",
        "{a}b",
        "a:b",
        "*",
        "?",
        "[a]",
        "\\",
        "%",
        "a/b/../c",
        "\0",
        "\r\n",
        "\u{e9}\u{1f9f1}",
    ]
    .map(|name| name.as_bytes().to_vec())
    .into();
    all.push(vec![0xff, 0xfe]);
    all.push(vec![b'x'; 64 << 10]);
    all
}

#[tokio::test]
async fn any_bytes_are_a_channel_a_room_and_a_member() {
    let pubsub = pubsub("names").await;
    let lobby: Texts = pubsub.room("lobby");
    for name in hostile() {
        let text = String::from_utf8_lossy(&name).into_owned();
        let mut stream = pubsub.subscribe::<String>().channel(&name).await.unwrap();
        let published = pubsub.publish(&name, &text, &text).correlation_id(&text).await.unwrap();
        assert!(published <= 1);
        let heard = message(&mut stream).await;
        assert_eq!((&heard.payload, &heard.kind, &heard.channel), (&text, &text, &name));
        assert_eq!(heard.correlation_id.as_ref(), Some(&text));

        let room: Texts = pubsub.room(&name);
        let mut said = room.subscribe().await.unwrap();
        assert_eq!(room.join(&name, &text).await.unwrap(), Joined::New);
        assert_eq!(room.count().await.unwrap(), 1, "no two rooms share a key");
        // On Cluster only those at one node are counted.
        assert!(room.broadcast(&text).await.unwrap() <= 1);
        assert_eq!(message(&mut said).await.payload, text);
        assert_eq!(lobby.join(&name, &text).await.unwrap(), Joined::New);
        assert!(lobby.keep(&name).await.unwrap());
    }
    let mut members: Vec<_> =
        lobby.members().await.unwrap().members.into_iter().map(|member| member.id).collect();
    members.sort();
    let mut names = hostile();
    names.sort();
    assert_eq!(members, names);
    for name in names {
        assert!(lobby.leave(&name).await.unwrap());
        assert!(!lobby.leave(&name).await.unwrap());
    }
}

/// Cannot be encoded.
struct Refuses;

impl Serialize for Refuses {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("refused"))
    }
}

/// Panics where it is read.
#[derive(Debug)]
struct Explodes;

impl<'de> Deserialize<'de> for Explodes {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("as it was told")
    }
}

#[tokio::test]
async fn what_cannot_be_encoded_is_an_error_and_nothing_is_sent() {
    let server = server();
    let pubsub = PubSub::new(Conn::connect(server.url()).await.unwrap(), "tests");
    let room = pubsub.room::<Refuses, Refuses>("lobby");
    let before = server.command_counts().unwrap();
    for error in [
        pubsub.publish("a", "k", &Refuses).await.unwrap_err(),
        pubsub.publish_many(["a"], "k", &Refuses).await.unwrap_err(),
        room.join("ada", &Refuses).await.unwrap_err(),
        room.broadcast(&Refuses).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Unencodable(_)), "{error:?}");
        assert!(!error.is_retryable() && !error.is_outcome_unknown() && !error.is_timeout());
    }
    let ran = server.command_counts().unwrap().since(&before);
    assert_eq!((ran.of("publish"), ran.of("evalsha"), ran.of("eval")), (0, 0, 0));
}

#[tokio::test]
async fn a_payload_whose_reading_panics_does_not_end_a_handler() {
    let pubsub = pubsub("explodes").await;
    let handler = pubsub.on("a", |_: Message<Explodes>| async {}).await.unwrap();
    pubsub.publish("a", "k", &1).await.unwrap();
    pubsub.publish("a", "k", &2).await.unwrap();
    until("both were met", async || handler.tally().panicked == 2).await;
    assert_eq!(handler.tally().handled, 0);
    assert!(handler.unsubscribe().await, "it still listened");
}

#[tokio::test]
async fn what_other_programs_publish_is_undecodable_and_no_more() {
    let server = server();
    let pubsub = PubSub::new(Conn::connect(server.url()).await.unwrap(), "tests");
    let mut stream = pubsub.subscribe::<u32>().channel("a").kind("k").await.unwrap();
    for garbage in [b"".as_slice(), b"hello", b"\xb5\x01\x01\x00\xc1", &[0xff; 1000]] {
        server.command([b"PUBLISH".as_slice(), b"a", garbage]).unwrap();
    }
    pubsub.publish("a", "another", "kind").await.unwrap();
    pubsub.publish("a", "k", &7).await.unwrap();
    for _ in 0..4 {
        assert!(matches!(next(&mut stream).await, Received::Undecodable { .. }));
    }
    assert_eq!(message(&mut stream).await.payload, 7);
}

fn key(role: &str) -> String {
    format!("pubsub:room:{{lobby}}:{role}")
}

async fn damaged(server: &Arc<Server>) -> Texts {
    let pubsub = PubSub::new(Conn::connect(server.url()).await.unwrap(), "tests");
    pubsub.room("lobby")
}

#[tokio::test]
async fn a_key_of_another_type_is_an_error_and_changes_nothing() {
    let server = server();
    let room = damaged(&server).await;
    let text = "x".to_owned();
    for role in ["members", "leases", "history"] {
        server.command(["FLUSHALL"]).unwrap();
        server.command(["SET", &key(role), "theirs"]).unwrap();
        let errors = match role {
            "history" => {
                vec![room.broadcast(&text).await.unwrap_err(), room.recent().await.unwrap_err()]
            }
            "leases" => vec![
                room.join("ada", &text).await.unwrap_err(),
                room.keep("ada").await.unwrap_err(),
                room.leave("ada").await.unwrap_err(),
                room.members().await.unwrap_err(),
                room.count().await.unwrap_err(),
            ],
            _ => vec![
                room.join("ada", &text).await.unwrap_err(),
                room.leave("ada").await.unwrap_err(),
                room.members().await.unwrap_err(),
            ],
        };
        for error in errors {
            let Error::Conn(source) = &error else { panic!("{error:?}") };
            assert_eq!(source.kind(), ErrorKind::WrongType, "{role}: {error:?}");
        }
        let theirs = server.command(["GET", &key(role)]).unwrap();
        assert_eq!(theirs.as_str(), Some("theirs"));
        assert_eq!(crate::keys(&server), 1, "{role}: nothing else was written");
    }
}

#[tokio::test]
async fn a_broadcast_without_the_right_to_its_channel_is_an_error_and_stores_nothing() {
    let server = Server::builder().user("app", "secret", "~* +@all resetchannels");
    let server = Arc::new(server.start().unwrap());
    let config = Config::builder().url(server.url()).username("app").password("secret");
    let pubsub = PubSub::new(Conn::connect(config).await.unwrap(), "tests");
    let theirs = damaged(&server).await;
    let room: Texts = pubsub.room("lobby").history(NonZeroUsize::MIN);

    room.broadcast(&"refused".into()).await.unwrap_err();
    assert_eq!(crate::keys(&server), 0);
    theirs.broadcast(&"said".into()).await.unwrap();
    let error = room.broadcast(&"refused".into()).await.unwrap_err();

    assert!(!error.is_outcome_unknown() && !error.is_retryable(), "{error:?}");
    let recent = room.recent().await.unwrap().messages;
    assert_eq!(recent.len(), 1);
    assert_eq!(recent[0].payload, "said");
}

#[tokio::test]
async fn garbage_within_a_room_hides_nobody_else() {
    let server = server();
    let room = damaged(&server).await;
    room.join("ada", &"x".into()).await.unwrap();
    room.broadcast(&"x".into()).await.unwrap();
    let garbage = ["", "garbage", "12 ", "x y", "99999999999999999999999 x", " ", "-1 x"];
    for (n, garbage) in garbage.iter().enumerate() {
        let member = format!("garbage {n}");
        server.command(["HSET", &key("members"), &member, garbage]).unwrap();
        server.command(["ZADD", &key("leases"), "inf", &member]).unwrap();
        server.command(["LPUSH", &key("history"), garbage]).unwrap();
    }
    // One without a lease, and one with nothing but a lease.
    server.command(["HSET", &key("members"), "no lease", "x"]).unwrap();
    server.command(["ZADD", &key("leases"), "inf", "no entry"]).unwrap();

    let all = room.members().await.unwrap();
    assert_eq!((all.members.len(), all.unreadable.len()), (1, garbage.len() + 1));
    assert!(all.unreadable.iter().all(|it| matches!(it.error, Error::Undecodable(_))));
    let recent = room.recent().await.unwrap();
    assert_eq!((recent.messages.len(), recent.unreadable.len()), (1, garbage.len()));
    assert!(!room.keep("no entry").await.unwrap());
    assert!(!room.keep("no lease").await.unwrap());

    // Whoever joins over garbage is readable, and a lease without end gives the keys none.
    assert_eq!(room.join("garbage 1", &"y".into()).await.unwrap(), Joined::Renewed);
    assert_eq!(room.join("no lease", &"y".into()).await.unwrap(), Joined::New);
    assert_eq!(room.members().await.unwrap().members.len(), 3);
    assert!(server.command(["PTTL", &key("members")]).unwrap().as_int().unwrap() > 0);
}

#[tokio::test]
async fn durations_and_counts_of_any_size_are_legal() {
    let pubsub = pubsub("sizes").await;
    let room: Texts = pubsub.room("huge");
    let room = room.lease(Duration::MAX).history_life(Duration::MAX).history(NonZeroUsize::MAX);
    room.join("ada", &"x".into()).await.unwrap();
    assert!(room.keep("ada").await.unwrap());
    room.broadcast(&"x".into()).await.unwrap();
    assert_eq!(room.recent_n(NonZeroUsize::MAX).await.unwrap().messages.len(), 1);
    assert_eq!(room.count().await.unwrap(), 1);

    let room: Texts = pubsub.room("tiny");
    let room = room.lease(Duration::ZERO).history_life(Duration::ZERO).history(NonZeroUsize::MIN);
    room.join("ada", &"x".into()).await.unwrap();
    room.broadcast(&"x".into()).await.unwrap();
    until("both are over", async || {
        room.count().await.unwrap() == 0 && room.recent().await.unwrap().messages.is_empty()
    })
    .await;
    assert_eq!(pubsub.close(Duration::MAX).await, CloseReport::default());
    assert_eq!(pubsub.close(Duration::ZERO).await, CloseReport::default());
}

#[tokio::test]
async fn a_subscription_to_nothing_is_an_error() {
    let pubsub = pubsub("nothing").await;
    let error = pubsub.subscribe::<u8>().await.unwrap_err();
    let Error::Conn(source) = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), ErrorKind::InvalidArgument);
    // The same channel twice is once; by a pattern too, it is twice.
    let pattern = Pattern::new("a*").unwrap();
    let twice = pubsub.subscribe::<u8>().channel("a").channel("a").pattern(pattern);
    let mut twice = twice.await.unwrap();
    pubsub.publish("a", "k", &1).await.unwrap();
    pubsub.publish("a", "k", &2).await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(message(&mut twice).await.payload);
    }
    assert_eq!(heard, [1, 1, 2, 2]);
}
