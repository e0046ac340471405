//! What each call does when Redis is away, slow, full, or takes no writes: the README's table.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Config, Conn, ErrorKind};
use redbrick_pubsub::{Error, Joined, Message, Missed, PubSub, Received};
use redbrick_testkit::{Fault, Proxy, Server};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use crate::{PATIENCE, SHORT, Texts, eventually, message, next, pubsub_at, send, server, until};

/// What a slow machine may take on top of a time that is promised.
const SLACK: Duration = Duration::from_secs(2);

fn kind(error: &Error) -> ErrorKind {
    let Error::Conn(source) = error else { panic!("{error:?}") };
    assert_eq!(error.is_retryable(), source.is_retryable());
    assert_eq!(error.is_timeout(), source.is_timeout());
    assert_eq!(error.is_outcome_unknown(), source.is_outcome_unknown());
    source.kind()
}

fn text() -> String {
    "x".to_owned()
}

/// The server has all scripts after this.
async fn warm(room: &Texts) {
    room.join("warm", &text()).await.unwrap();
    room.keep("warm").await.unwrap();
    room.members().await.unwrap();
    room.count().await.unwrap();
    room.broadcast(&text()).await.unwrap();
    room.recent().await.unwrap();
    room.leave("warm").await.unwrap();
}

async fn every_error(pubsub: &PubSub) -> Vec<Error> {
    let room: Texts = pubsub.room("lobby");
    let many = pubsub.publish_many(["a", "b"], "k", &1).await.unwrap();
    let mut errors = vec![
        pubsub.publish("a", "k", &1).await.unwrap_err(),
        room.join("ada", &text()).await.unwrap_err(),
        room.keep("ada").await.unwrap_err(),
        room.leave("ada").await.unwrap_err(),
        room.members().await.unwrap_err(),
        room.count().await.unwrap_err(),
        room.broadcast(&text()).await.unwrap_err(),
        room.recent().await.unwrap_err(),
    ];
    assert_eq!(many.results().len(), 2);
    errors.push(many.all().unwrap_err());
    errors
}

#[tokio::test]
async fn without_a_server_every_call_fails_in_time_and_works_when_it_is_back() {
    let server = server();
    let pubsub = pubsub_at(server.url()).await;
    let (told, mut hears) = mpsc::unbounded_channel();
    let handler = pubsub.on("a", |_: Message<u32>| async {});
    let handler = handler.on_gap(move |missed| told.send(missed).unwrap()).await.unwrap();
    let mut stream = pubsub.subscribe::<u32>().channel("a").await.unwrap();
    server.kill().unwrap();

    let started = Instant::now();
    let mut errors = every_error(&pubsub).await;
    errors.push(pubsub.subscribe::<u32>().channel("b").await.unwrap_err());
    errors.push(pubsub.on("b", |_: Message<u32>| async {}).await.unwrap_err());
    for error in &errors {
        assert!(error.is_retryable(), "{error:?}");
        assert!(matches!(kind(error), ErrorKind::Connect | ErrorKind::Interrupted), "{error:?}");
    }
    // Eleven calls of half a second each.
    assert!(started.elapsed() < Duration::from_millis(5500) + SLACK, "{:?}", started.elapsed());
    let lazy = pubsub.subscribe::<u32>().channel("a").lazy().await;
    let mut lazy = lazy.unwrap();

    server.restart().unwrap();
    for stream in [&mut stream, &mut lazy] {
        assert!(matches!(next(stream).await, Received::Gap { .. }));
        assert!(matches!(next(stream).await, Received::Resumed));
    }
    until("it is back", async || pubsub.publish("a", "k", &1).await.is_ok()).await;
    assert_eq!(message(&mut stream).await.payload, 1);
    assert!(matches!(hears.recv().await, Some(Missed::Gap { .. })));
    assert!(matches!(hears.recv().await, Some(Missed::Resumed)));
    until("it is handled", async || handler.tally().handled == 1).await;
    assert_eq!(pubsub.active().len(), 1);
    warm(&pubsub.room("lobby")).await;
}

async fn proxied() -> (Arc<Server>, Arc<Proxy>, PubSub) {
    let server = server();
    let proxy = Arc::new(server.proxy().expect("a proxy"));
    let config = Config::builder().url(proxy.url()).command_timeout(PATIENCE);
    let conn = Conn::connect(config).await.expect("the server");
    (server, proxy, PubSub::new(conn, "tests"))
}

/// Lets `call` run while the first reply to it is lost with its connection; the next connection is a good one.
async fn whose_reply_is_lost<T: Send + 'static>(
    proxy: &Arc<Proxy>,
    room: &Texts,
    call: impl Future<Output = T> + Send + 'static,
) -> T {
    // The connection that is to lose a reply is open after this.
    room.count().await.expect("the server");
    let (watched, before) = (Arc::clone(proxy), proxy.dropped_bytes());
    proxy.set_for_open(Fault::DropReplies);
    let call = tokio::spawn(send(call));
    eventually("a lost reply", move || watched.dropped_bytes() > before).await;
    proxy.reset();
    proxy.clear();
    timeout(PATIENCE, call).await.expect("it ends").expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_once_is_not_said_twice_when_the_reply_is_lost() {
    let (server, proxy, pubsub) = proxied().await;
    let room: Texts = pubsub.room("lobby");
    warm(&room).await;
    let before = server.command_counts().unwrap();

    let publishing = pubsub.clone();
    let error = whose_reply_is_lost(&proxy, &room, async move {
        publishing.publish("a", "k", &1).await.unwrap_err()
    })
    .await;
    assert!(error.is_outcome_unknown(), "{error:?}");
    let publishing = pubsub.clone();
    let many = whose_reply_is_lost(&proxy, &room, async move {
        publishing.publish_many(["a", "b"], "k", &1).await.unwrap()
    })
    .await;
    assert!(many.all().unwrap_err().is_outcome_unknown());
    let said = room.clone();
    let error =
        whose_reply_is_lost(
            &proxy,
            &room,
            async move { said.broadcast(&text()).await.unwrap_err() },
        )
        .await;
    assert!(error.is_outcome_unknown(), "{error:?}");

    let ran = server.command_counts().unwrap().since(&before);
    assert_eq!(ran.of("publish"), 4);
    assert_eq!(ran.of("lpush"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joining_and_leaving_say_that_the_outcome_is_unknown_and_the_rest_is_repeated() {
    let (_server, proxy, pubsub) = proxied().await;
    let room: Texts = pubsub.room("lobby");
    warm(&room).await;

    let other = room.clone();
    let error =
        whose_reply_is_lost(
            &proxy,
            &room,
            async move { other.join("ada", &text()).await.unwrap_err() },
        )
        .await;
    assert!(error.is_outcome_unknown(), "{error:?}");
    assert_eq!(room.join("ada", &text()).await.unwrap(), Joined::Renewed, "it had joined");

    let other = room.clone();
    assert!(
        whose_reply_is_lost(&proxy, &room, async move { other.keep("ada").await.unwrap() }).await
    );
    let other = room.clone();
    let all =
        whose_reply_is_lost(&proxy, &room, async move { other.members().await.unwrap() }).await;
    assert_eq!(all.members.len(), 1);
    let other = room.clone();
    assert_eq!(
        whose_reply_is_lost(&proxy, &room, async move { other.count().await.unwrap() }).await,
        1
    );
    let other = room.clone();
    let recent =
        whose_reply_is_lost(&proxy, &room, async move { other.recent().await.unwrap() }).await;
    assert_eq!(recent.messages.len(), 1);

    let other = room.clone();
    let error =
        whose_reply_is_lost(&proxy, &room, async move { other.leave("ada").await.unwrap_err() })
            .await;
    assert!(error.is_outcome_unknown(), "{error:?}");
    assert!(!room.leave("ada").await.unwrap(), "it had left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_costs_the_timeout_and_is_a_gap() {
    let server = server();
    let pubsub = pubsub_at(server.url()).await;
    let room: Texts = pubsub.room("lobby");
    warm(&room).await;
    let mut stream = pubsub.subscribe::<u32>().channel("a").await.unwrap();
    let paused = server.pause().unwrap();

    let started = Instant::now();
    for error in every_error(&pubsub).await {
        assert!(matches!(kind(&error), ErrorKind::Timeout | ErrorKind::Connect), "{error:?}");
        assert!(error.is_retryable());
    }
    // Nine calls of half a second each.
    assert!(started.elapsed() < Duration::from_millis(4500) + SLACK, "{:?}", started.elapsed());
    assert!(matches!(next(&mut stream).await, Received::Gap { .. }));

    paused.resume();
    until("it is back", async || room.count().await.is_ok()).await;
    loop {
        // What was published meanwhile may come, before or after the end of the gap.
        if matches!(next(&mut stream).await, Received::Resumed) {
            break;
        }
    }
}

#[tokio::test]
async fn a_full_server_takes_no_member_and_no_history_and_still_publishes() {
    let server = server();
    let pubsub = pubsub_at(server.url()).await;
    let room: Texts = pubsub.room("lobby");
    warm(&room).await;
    room.join("ada", &text()).await.unwrap();
    let mut stream = room.subscribe().await.unwrap();
    server.command(["CONFIG", "SET", "maxmemory", "1"]).unwrap();

    for error in [
        room.join("bob", &text()).await.unwrap_err(),
        room.keep("ada").await.unwrap_err(),
        room.broadcast(&"lost".into()).await.unwrap_err(),
    ] {
        assert_eq!(kind(&error), ErrorKind::OutOfMemory, "{error:?}");
    }
    assert_eq!(pubsub.publish(room.channel(), "k", "x").await.unwrap(), 1);
    assert_eq!(message(&mut stream).await.payload, "x", "what was refused was not published");
    assert_eq!(room.members().await.unwrap().members.len(), 1);
    assert_eq!(room.count().await.unwrap(), 1);
    assert_eq!(room.recent().await.unwrap().messages.len(), 1);
    assert!(room.leave("ada").await.unwrap());
}

#[tokio::test]
async fn a_read_only_server_answers_what_only_reads() {
    let server = server();
    let pubsub = pubsub_at(server.url()).await;
    let room: Texts = pubsub.room("lobby");
    warm(&room).await;
    room.join("ada", &text()).await.unwrap();
    // A replica of a master that is not there.
    server.command(["CONFIG", "SET", "replica-serve-stale-data", "yes"]).unwrap();
    server.command(["REPLICAOF", "127.0.0.1", "1"]).unwrap();

    for error in [
        room.join("bob", &text()).await.unwrap_err(),
        room.keep("ada").await.unwrap_err(),
        room.leave("ada").await.unwrap_err(),
        room.broadcast(&text()).await.unwrap_err(),
    ] {
        let kind = kind(&error);
        assert!(
            matches!(kind, ErrorKind::ReadOnly | ErrorKind::Timeout | ErrorKind::Connect),
            "{error:?}"
        );
    }
    assert_eq!(room.count().await.unwrap(), 1);
    assert_eq!(room.members().await.unwrap().members.len(), 1);
    assert_eq!(room.recent().await.unwrap().messages.len(), 1);
    pubsub.publish("a", "k", &1).await.unwrap();

    server.command(["REPLICAOF", "NO", "ONE"]).unwrap();
    until("it is a master", async || room.keep("ada").await.is_ok_and(|kept| kept)).await;
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_told_again() {
    let server = server();
    let pubsub = pubsub_at(server.url()).await;
    let room: Texts = pubsub.room("lobby");
    warm(&room).await;
    server.command(["SCRIPT", "FLUSH"]).unwrap();
    warm(&room).await;
}

#[tokio::test]
async fn without_a_server_an_optional_connection_has_nobody_and_joins_nobody() {
    let server = server();
    server.kill().unwrap();
    let config = Config::builder().url(server.url()).optional(true);
    let pubsub = PubSub::new(Conn::connect(config).await.unwrap(), "tests");
    let room: Texts = pubsub.room("lobby");

    let started = Instant::now();
    assert_eq!(pubsub.publish("a", "k", &1).await.unwrap(), 0);
    assert_eq!(pubsub.publish_many(["a", "b"], "k", &1).await.unwrap().all().unwrap(), [0, 0]);
    assert_eq!(room.broadcast(&text()).await.unwrap(), 0);
    assert!(room.members().await.unwrap().members.is_empty());
    assert_eq!(room.count().await.unwrap(), 0);
    assert!(room.recent().await.unwrap().messages.is_empty());
    assert!(!room.leave("ada").await.unwrap());
    for error in [room.join("ada", &text()).await.unwrap_err(), room.keep("ada").await.unwrap_err()]
    {
        assert_eq!(kind(&error), ErrorKind::Connect, "{error:?}");
    }
    let mut stream = pubsub.subscribe::<u32>().channel("a").await.unwrap();
    let handler = pubsub.on("a", |_: Message<u32>| async {}).await.unwrap();
    assert!(matches!(next(&mut stream).await, Received::Gap { .. }));
    assert!(started.elapsed() < SLACK, "at once, all of them: {:?}", started.elapsed());
    until("a gap", async || handler.tally().gaps == 1).await;

    server.restart().unwrap();
    assert!(matches!(next(&mut stream).await, Received::Resumed));
    until("it is heard", async || pubsub.publish("a", "k", &1).await.unwrap() == 1).await;
    assert_eq!(message(&mut stream).await.payload, 1);
}

#[tokio::test]
async fn a_closed_connection_ends_what_listens_and_says_so() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let pubsub = PubSub::new(conn.clone(), "tests");
    let _handler = pubsub.on("a", |_: Message<u32>| async {}).await.unwrap();
    let mut stream = pubsub.subscribe::<u32>().channel("a").await.unwrap();
    conn.close(SHORT).await;

    assert!(timeout(PATIENCE, stream.next()).await.expect("it ends").is_none());
    until("the handler has ended", async || pubsub.active().is_empty()).await;
    let error = pubsub.publish("a", "k", &1).await.unwrap_err();
    assert_eq!(kind(&error), ErrorKind::Closed, "{error:?}");
    assert!(pubsub.close(SHORT).await.is_clean());
}
