//! Subscriptions: what arrives, and to whom.

mod faults;
mod load;

use std::{num::NonZeroUsize, time::Duration};

use redbrick_core_conn::{
    Capability, Codec, Config, Conn, ErrorKind, Event, Message, Overflow, Pattern, Subscription,
    fred::interfaces::{ClientLike, EventInterface, PubsubInterface},
};
use redbrick_testkit::{Server, Topology, shared, unique};
use tokio::time::timeout;

use crate::{PATIENCE, connect, connect_named, eventually, server};

/// The next event, which must come.
async fn next(subscription: &mut Subscription) -> Event {
    let event = timeout(PATIENCE, subscription.next()).await.expect("an event");
    event.expect("not the end")
}

/// The next event, which must be a message.
async fn message(subscription: &mut Subscription) -> Message {
    match next(subscription).await {
        Event::Message(message) => message,
        other => panic!("a message was expected: {other:?}"),
    }
}

/// The next event, which must be a message, as its channel and its value.
async fn heard(subscription: &mut Subscription) -> (String, String) {
    let message = message(subscription).await;
    let channel = String::from_utf8_lossy(message.channel()).into_owned();
    (channel, message.value().expect("a text"))
}

/// How many connections are subscribed to a channel at the server.
fn subscribers(server: &Server, channel: &str) -> i64 {
    let reply = server.command(["PUBSUB", "NUMSUB", channel]).expect("the server");
    reply.as_array().expect("a list")[1].as_int().expect("a count")
}

#[tokio::test]
async fn messages_arrive_by_channel_and_by_pattern_in_order() {
    let conn = connect("subscribe").await;
    let pattern = Pattern::new("user:*").unwrap();
    let mut both = conn.subscribe().channel("orders{t}").pattern(pattern).await.unwrap();
    let mut orders = conn.subscribe().channel("orders{t}").await.unwrap();

    for (channel, text) in
        [("orders{t}", "a"), ("user:1{t}", "b"), ("users{t}", "no"), ("orders{t}", "c")]
    {
        conn.publish(channel, text).await.unwrap();
    }
    for expected in [("orders{t}", "a"), ("user:1{t}", "b"), ("orders{t}", "c")] {
        let (channel, text) = heard(&mut both).await;
        assert_eq!((&*channel, &*text), expected);
    }
    for expected in ["a", "c"] {
        assert_eq!(heard(&mut orders).await.1, expected);
    }
}

#[tokio::test]
async fn shard_channels_arrive_on_whichever_master_has_their_slot() {
    let conn = connect("sharded").await;
    let channels: Vec<_> = (0..16).map(|n| format!("room:{n}")).collect();
    let mut rooms = conn.subscribe();
    for channel in &channels {
        rooms = rooms.sharded(channel);
    }
    let opened = rooms.await;
    if !conn.capabilities().await.unwrap().contains(Capability::ShardedPubSub) {
        let err = opened.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Unsupported, "{err:?}");
        assert!(err.to_string().contains("7.0"), "{err}");
        return;
    }
    let mut rooms = opened.unwrap();
    for channel in &channels {
        assert_eq!(conn.publish_sharded(channel, channel).await.unwrap(), 1);
        let (from, text) = heard(&mut rooms).await;
        assert_eq!((&from, &text), (channel, channel));
    }
}

#[tokio::test]
async fn a_message_carries_a_value_in_the_codec_of_who_published_it() {
    let conn = connect("subscribe-codec").await;
    let mut values = conn.subscribe().channel("values").await.unwrap();
    let plain = conn.with_codec(Codec::Plain);
    let mut texts = plain.subscribe().channel("values").await.unwrap();

    conn.publish("values", &(1, "one")).await.unwrap();
    conn.with_codec(Codec::Json).publish("values", &(2, "two")).await.unwrap();
    plain.publish("values", "three").await.unwrap();
    assert_eq!(message(&mut values).await.value::<(i32, String)>().unwrap().0, 1);
    assert_eq!(message(&mut values).await.value::<(i32, String)>().unwrap().0, 2);
    let err = message(&mut values).await.value::<String>().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Codec);

    message(&mut texts).await;
    message(&mut texts).await;
    let three = message(&mut texts).await;
    assert_eq!(three.value::<String>().unwrap(), "three");
    assert_eq!(&three.payload()[..], b"three");
    let shown = format!("{three:?} {texts:?} {:?}", conn.subscribe().channel("values"));
    assert!(!shown.contains("three") && !shown.contains("values"), "{shown}");
}

#[tokio::test]
async fn patterns_and_channels_that_meet_are_told_apart() {
    let conn = connect("subscribe-meet").await;
    let pattern = |text| Pattern::new(text).unwrap();
    let mut first = conn.subscribe().pattern(pattern("a*")).await.unwrap();
    let mut second = conn.subscribe().pattern(pattern("*b{t}")).await.unwrap();
    let mut channel = conn.subscribe().channel("ab{t}").await.unwrap();
    let mut all =
        conn.subscribe().channel("ab{t}").pattern(pattern("a*")).pattern(pattern("*b{t}"));
    all = all.channel("ab{t}");
    let mut all = all.await.unwrap();

    let through = Pattern::new("a*").unwrap();
    conn.publish("a-pattern{t}", "0").await.unwrap();
    let message_of_first = message(&mut first).await;
    assert_eq!(message_of_first.pattern(), Some(&through));
    assert_eq!(message_of_first.channel_text(), "a-pattern{t}");
    assert_eq!(heard(&mut all).await.1, "0");

    conn.publish("ab{t}", "1").await.unwrap();
    conn.publish("xb{t}", "2").await.unwrap();
    conn.publish("ab{t}", "3").await.unwrap();
    for (subscription, expected) in [
        (&mut first, &["1", "3"][..]),
        (&mut second, &["1", "2", "3"]),
        (&mut channel, &["1", "3"]),
        (&mut all, &["1", "1", "1", "2", "3", "3", "3"]),
    ] {
        for expected in expected {
            assert_eq!(heard(subscription).await.1, *expected);
        }
    }
}

#[tokio::test]
async fn channels_of_any_bytes_are_told_apart() {
    let (conn, prefix) = connect_named("subscribe-bytes").await;
    let names: [&[u8]; 5] = [b"", b"\xff\x00\r\n", b"message", b"__redis__:invalidate", b"a*"];
    let mut everything = conn.subscribe().pattern(Pattern::new("*").unwrap()).await.unwrap();
    for name in names {
        let mut one = conn.subscribe().channel(name).await.unwrap();
        conn.publish(name, "x").await.unwrap();
        assert_eq!(message(&mut one).await.channel(), name);
        assert_eq!(message(&mut everything).await.channel(), name);
    }
    // Another tenant of the same server.
    let other = connect("subscribe-bytes-other").await;
    other.publish("elsewhere", "x").await.unwrap();
    shared().command(["PUBLISH".as_bytes(), format!("{prefix}:own").as_bytes(), b"raw"]).unwrap();
    let own = message(&mut everything).await;
    assert_eq!((own.channel(), &own.payload()[..]), (&b"own"[..], &b"raw"[..]));
}

#[tokio::test]
async fn all_subscribers_share_a_link_and_the_last_one_unsubscribes() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let first = conn.subscribe().channel("a").channel("b").await.unwrap();
    let clients = crate::client_list(&server).len();
    let mut second = conn.clone().subscribe().channel("a").await.unwrap();
    assert_eq!(crate::client_list(&server).len(), clients, "one link");
    assert_eq!((subscribers(&server, "a"), subscribers(&server, "b")), (1, 1));

    drop(first);
    let (looked_at, again) = (server.clone(), conn.clone());
    eventually("the last one of b has left", move || subscribers(&looked_at, "b") == 0).await;
    conn.publish("a", "still here").await.unwrap();
    assert_eq!(heard(&mut second).await.1, "still here");
    drop(second);
    let looked_at = server.clone();
    eventually("the last one of a has left", move || subscribers(&looked_at, "a") == 0).await;

    let mut third = again.subscribe().channel("a").await.unwrap();
    again.publish("a", "back").await.unwrap();
    assert_eq!(heard(&mut third).await.1, "back");
    assert_eq!(crate::client_list(&server).len(), clients, "the same link");
}

#[tokio::test]
async fn coming_and_going_never_loses_what_is_published_after_it_came() {
    let conn = connect("subscribe-churn").await;
    for n in 0..200 {
        let mut subscription = conn.subscribe().channel("a").await.unwrap();
        conn.publish("a", &n).await.unwrap();
        assert_eq!(message(&mut subscription).await.value::<i32>().unwrap(), n);
    }
}

#[tokio::test]
async fn a_right_that_is_missing_is_an_error_and_harms_nobody() {
    let server =
        Server::builder().user("limited", "pw", "+@all ~* resetchannels &open:*").start().unwrap();
    let config = Config::builder().url(server.url()).username("limited").password("pw");
    let conn = Conn::connect(config).await.unwrap();
    let mut open = conn.subscribe().channel("open:1").await.unwrap();
    for refused in [
        conn.subscribe().channel("secret").await,
        conn.subscribe().channel("open:2").channel("secret").await,
        conn.subscribe().pattern(Pattern::new("*").unwrap()).await,
    ] {
        let err = refused.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Denied, "{err:?}");
        assert!(err.to_string().contains("SUBSCRIBE"), "{err}");
        assert!(!err.to_string().contains("secret"), "{err}");
    }
    assert_eq!(conn.publish("open:1", "x").await.unwrap(), 1);
    assert_eq!(heard(&mut open).await.1, "x");
    assert_eq!(subscribers(&server, "open:2"), 0);
    assert_eq!(conn.publish("secret", "x").await.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn nothing_to_subscribe_to_is_an_error() {
    let conn = connect("subscribe-nothing").await;
    let err = conn.subscribe().await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidArgument);
    conn.close(PATIENCE).await;
    let err = conn.subscribe().channel("a").await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn closing_the_connection_ends_subscriptions_and_dropping_it_does_not() {
    let conn = connect("subscribe-close").await;
    let mut kept = Conn::clone(&conn).subscribe().channel("a").await.unwrap();
    let mut witness = conn.subscribe().channel("a").await.unwrap();
    conn.publish("a", "last").await.unwrap();
    heard(&mut witness).await;
    conn.close(PATIENCE).await;
    assert_eq!(heard(&mut kept).await.1, "last", "what came before the end is read");
    assert!(timeout(PATIENCE, kept.next()).await.unwrap().is_none());
    assert!(kept.next().await.is_none());

    let conn = connect("subscribe-drop").await;
    let again = conn.clone();
    let mut kept = conn.subscribe().channel("a").await.unwrap();
    drop(conn);
    again.publish("a", "x").await.unwrap();
    drop(again);
    assert_eq!(heard(&mut kept).await.1, "x");
}

#[tokio::test]
async fn subscribing_in_vain_ends_with_the_timeout_and_leaves_nothing() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let hasty = conn.with_command_timeout(Duration::from_millis(300));
    let paused = server.pause().unwrap();
    let err = hasty.subscribe().channel("a").await.unwrap_err();
    assert!(matches!(err.kind(), ErrorKind::Timeout | ErrorKind::Connect), "{err:?}");
    assert!(err.is_retryable());
    paused.resume();
    let kept = conn.subscribe().channel("b").await.unwrap();
    assert_eq!((subscribers(&server, "a"), subscribers(&server, "b")), (0, 1));

    // Given up at any point.
    for polls in 0..20 {
        let given_up = conn.subscribe().channel("c").into_future();
        tokio::pin!(given_up);
        for _ in 0..polls {
            tokio::select! {
                biased;
                _ = &mut given_up => break,
                () = tokio::task::yield_now() => {}
            }
        }
    }
    let looked_at = server.clone();
    eventually("nobody is subscribed", move || subscribers(&looked_at, "c") == 0).await;
    drop(kept);
}

fn few(messages: usize) -> NonZeroUsize {
    NonZeroUsize::new(messages).expect("more than none")
}

#[tokio::test]
async fn a_full_queue_drops_the_oldest_and_says_how_many() {
    let conn = connect("subscribe-lag").await;
    let mut slow = conn.subscribe().channel("a").queue_messages(few(3)).await.unwrap();
    let mut small = conn.subscribe().channel("a").queue_bytes(40).await.unwrap();
    let mut quick = conn.subscribe().channel("a").await.unwrap();
    for n in 0..10 {
        conn.publish("a", &format!("{n:010}")).await.unwrap();
        message(&mut quick).await;
    }
    assert!(matches!(next(&mut slow).await, Event::Lagged(7)));
    for n in 7..10 {
        assert_eq!(heard(&mut slow).await.1, format!("{n:010}"));
    }
    // 16 bytes each: a header, its length, and the text, and the channel.
    assert!(matches!(next(&mut small).await, Event::Lagged(8)));
    for n in 8..10 {
        assert_eq!(heard(&mut small).await.1, format!("{n:010}"));
    }
    // One message has room in any case, and the count starts anew.
    conn.publish("a", &"x".repeat(100)).await.unwrap();
    assert_eq!(heard(&mut small).await.1.len(), 100);
}

#[tokio::test]
async fn a_full_queue_can_end_the_subscription() {
    let conn = connect("subscribe-end").await;
    let limits = conn.subscribe().channel("a").queue_messages(few(2)).overflow(Overflow::Close);
    let mut slow = limits.await.unwrap();
    let mut quick = conn.subscribe().channel("a").await.unwrap();
    for n in 0..5 {
        conn.publish("a", &n).await.unwrap();
        message(&mut quick).await;
    }
    for n in 0..2 {
        assert_eq!(message(&mut slow).await.value::<i32>().unwrap(), n);
    }
    assert!(matches!(next(&mut slow).await, Event::Lagged(1)));
    assert!(timeout(PATIENCE, slow.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_full_queue_can_be_waited_for_and_nobody_else_waits() {
    let conn = connect("subscribe-wait").await;
    let patient = |longest| {
        conn.subscribe().channel("a").queue_messages(few(2)).overflow(Overflow::Wait(longest))
    };
    let mut slow = patient(PATIENCE).await.unwrap();
    let mut stalled = patient(Duration::from_millis(100)).await.unwrap();
    let mut quick = conn.subscribe().channel("a").await.unwrap();
    for n in 0..50 {
        conn.publish("a", &n).await.unwrap();
        assert_eq!(message(&mut quick).await.value::<i32>().unwrap(), n);
    }
    for n in 0..50 {
        assert_eq!(message(&mut slow).await.value::<i32>().unwrap(), n, "nothing was dropped");
    }
    // It was waited for once, and then the oldest were dropped.
    let last = loop {
        match next(&mut stalled).await {
            Event::Message(message) if message.value::<i32>().unwrap() == 49 => break 49,
            Event::Message(_) | Event::Lagged(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(last, 49);
}

#[tokio::test]
async fn what_waits_can_be_read_after_unsubscribing_and_nothing_comes_behind_it() {
    let conn = connect("unsubscribe").await;
    let mut other = conn.subscribe().channel("a").channel("b").await.unwrap();
    // One of them has a link of its own.
    for (channel, overflow) in [("a", Overflow::DropOldest), ("b", Overflow::Wait(PATIENCE))] {
        let subscribe = conn.subscribe().channel(channel).overflow(overflow);
        let mut subscription = subscribe.await.unwrap();
        for n in 0..3 {
            conn.publish(channel, &n).await.unwrap();
            message(&mut other).await;
        }
        let came = timeout(PATIENCE, async {
            while subscription.waiting() < 3 {
                tokio::task::yield_now().await;
            }
        });
        came.await.expect("they come");

        subscription.unsubscribe();

        conn.publish(channel, &3).await.unwrap();
        assert_eq!(message(&mut other).await.value::<i32>().unwrap(), 3, "others go on");
        subscription.unsubscribe();
        for n in 0..3 {
            assert_eq!(message(&mut subscription).await.value::<i32>().unwrap(), n);
        }
        assert_eq!(subscription.waiting(), 0);
        assert!(timeout(PATIENCE, subscription.next()).await.expect("the end").is_none());
    }
}

#[tokio::test]
async fn a_subscription_works_on_every_topology() {
    let conn = connect("subscribe-topology").await;
    let mut subscription = conn.subscribe().channel("a").await.unwrap();
    // On Cluster each is published at another node.
    for n in 0..9 {
        conn.publish("a", &n).await.unwrap();
        assert_eq!(message(&mut subscription).await.value::<i32>().unwrap(), n);
    }
    if shared().topology() != Topology::Cluster {
        let raw = unique("raw");
        let bare = Conn::connect(crate::shared_config(&raw)).await.unwrap();
        assert_eq!(bare.publish("a", "nobody").await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_pattern_for_everything_finds_no_probes() {
    let server = server();
    let config = Config::builder().url(server.url()).probe_interval(Duration::from_millis(100));
    let conn = Conn::connect(config).await.unwrap();
    let mut everything = conn.subscribe().pattern(Pattern::new("*").unwrap()).await.unwrap();
    let looked_at = server.clone();
    eventually("there were probes", move || looked_at.command_counts().unwrap().of("publish") >= 5)
        .await;
    conn.publish("a", "x").await.unwrap();
    assert_eq!(heard(&mut everything).await.0, "a", "the first thing that is heard");
}

/// Why links that listen are read here: the same words through fred alone.
#[tokio::test]
async fn raw_fred_loses_what_arrives_here() {
    let server = Server::builder().user("limited", "pw", "+@all ~* resetchannels &p*").start();
    let server = server.unwrap();
    let config = Config::builder().url(server.url()).username("limited").password("pw");
    let conn = Conn::connect(config).await.unwrap();
    let everything = Pattern::new("p*").unwrap();
    let mut subscription = conn.subscribe().pattern(everything).await.unwrap();
    let raw = conn.fred().await.unwrap();
    let mut messages = raw.message_rx();
    raw.psubscribe("p*").await.unwrap();
    raw.ping::<()>(None).await.unwrap();

    // A name that is no UTF-8.
    let bytes = b"p\xff";
    assert_eq!(conn.publish(bytes, "x").await.unwrap(), 2);
    conn.publish("p", "next").await.unwrap();
    assert_eq!(message(&mut subscription).await.channel(), bytes);
    assert_eq!(heard(&mut subscription).await.1, "next");
    let first = timeout(PATIENCE, messages.recv()).await.unwrap().unwrap();
    assert_eq!(first.channel, "p", "fred has not seen the first one");

    // More at once than a channel holds.
    let mut pipeline = conn.pipeline();
    for n in 0..500 {
        let _ = pipeline.add(conn.publish("p", &n));
    }
    pipeline.send().await.check().unwrap();
    for n in 0..500 {
        assert_eq!(message(&mut subscription).await.value::<i32>().unwrap(), n);
    }
    let lagged = timeout(PATIENCE, messages.recv()).await.unwrap();
    assert!(lagged.is_err(), "fred has dropped some");

    // A refusal.
    assert_eq!(conn.subscribe().channel("secret").await.unwrap_err().kind(), ErrorKind::Denied);
    raw.subscribe("secret").await.expect("fred does not wait for the answer");
}
