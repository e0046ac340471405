//! The invalidation feed: what it says, and when it does not know.

mod faults;
mod mirror;

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{
    Codec, Config, Conn, ErrorKind, Freshness, Invalidation, Script, Tracking,
};
use redbrick_testkit::{Server, poison};
use tokio::time::{Instant, timeout};

use crate::{PATIENCE, connect, connect_named, eventually, server, shared_config};

/// What the feed says next, which must come.
async fn next(feed: &mut Tracking) -> Invalidation {
    let next = timeout(PATIENCE, feed.next()).await.expect("something is said");
    next.expect("not the end")
}

/// The key that the feed names next.
async fn key(feed: &mut Tracking) -> String {
    match next(feed).await {
        Invalidation::Key(key) => String::from_utf8_lossy(&key).into_owned(),
        other => panic!("a key was expected: {other:?}"),
    }
}

/// Reads on until the feed is known to be complete up to now; returns the keys.
async fn until_now(feed: &mut Tracking) -> Vec<String> {
    let (freshness, now) = (feed.freshness(), std::time::Instant::now());
    let mut keys = Vec::new();
    let reading = async {
        while freshness.complete_until().is_none_or(|until| until < now) {
            // What is proven is known once the feed was read again.
            let said = timeout(Duration::from_millis(10), feed.next()).await;
            if let Ok(Some(Invalidation::Key(key))) = said {
                keys.push(String::from_utf8_lossy(&key).into_owned());
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("the feed becomes complete");
    keys
}

/// A feed whose first word was read.
async fn begun(
    feed: impl IntoFuture<Output = Result<Tracking, redbrick_core_conn::Error>>,
) -> Tracking {
    let mut feed = feed.await.expect("a feed");
    assert_eq!(next(&mut feed).await, Invalidation::Gap, "at first");
    until_now(&mut feed).await;
    feed
}

async fn is_current(freshness: &Freshness) {
    let freshness = freshness.clone();
    eventually("the feed is current", move || freshness.is_current()).await;
}

#[tokio::test]
async fn every_change_of_a_key_is_said_whoever_makes_it() {
    let (conn, prefix) = connect_named("track").await;
    let mut feed = begun(conn.track().prefix("user:")).await;
    conn.set("user:1", "mine").await.unwrap();
    assert_eq!(key(&mut feed).await, "user:1");
    let other = Conn::connect(shared_config("track-other").key_prefix(&prefix)).await.unwrap();
    other.set("user:2", "theirs").await.unwrap();
    assert_eq!(key(&mut feed).await, "user:2");
    other.delete("user:2").await.unwrap();
    assert_eq!(key(&mut feed).await, "user:2");
    other.set("user:3", "short").time_to_live(Duration::from_millis(20)).await.unwrap();
    assert_eq!(key(&mut feed).await, "user:3");
    assert_eq!(key(&mut feed).await, "user:3", "it has expired");
    // Of others nothing is said.
    other.set("session:1", "x").await.unwrap();
    let stranger = connect("track-stranger").await;
    stranger.set("user:4", "x").await.unwrap();
    other.increment("user:5", 1).await.unwrap();
    assert_eq!(until_now(&mut feed).await, ["user:5"]);
}

#[tokio::test]
async fn feeds_overlap_and_each_hears_its_own() {
    let conn = connect("track-overlap").await;
    let mut all = begun(conn.track().prefix("")).await;
    let mut users = begun(conn.track().prefix("user:").prefix("user:1")).await;
    let mut one = begun(conn.track().key("user:1").key("config")).await;
    for name in ["user:1", "user:10", "config", "configs"] {
        conn.set(name, "x").await.unwrap();
    }
    let mut heard = until_now(&mut all).await;
    heard.sort();
    assert_eq!(heard, ["config", "configs", "user:1", "user:10"]);
    let mut heard = until_now(&mut users).await;
    heard.sort();
    assert_eq!(heard, ["user:1", "user:10"]);
    let mut heard = until_now(&mut one).await;
    heard.sort();
    assert_eq!(heard, ["config", "user:1"]);
    drop((all, users));
    conn.set("config", "y").await.unwrap();
    assert_eq!(key(&mut one).await, "config", "the others' end changes nothing");
}

/// A new feed wants more than the link says; the others go on without a hole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_feeds_come_and_go() {
    let conn = connect("track-churn").await;
    let mut feed = begun(conn.track().prefix("a:")).await;
    let freshness = feed.freshness();
    let writer = conn.clone();
    let writing = tokio::spawn(async move {
        for n in 0..2000 {
            writer.set(format!("a:{n}"), "x").await.unwrap();
        }
    });
    for n in 0..20 {
        let other = conn.track().prefix(format!("b{n}:")).await.unwrap();
        assert!(freshness.complete_until().is_some(), "the first one is not disturbed");
        drop(other);
    }
    writing.await.unwrap();
    let mut heard = until_now(&mut feed).await;
    heard.sort();
    heard.dedup();
    assert_eq!(heard.len(), 2000);
}

#[tokio::test]
async fn keys_of_the_protocols_words_are_named_as_all_others() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let mut feed = begun(conn.track().prefix("")).await;
    for three in poison::WORDS.windows(3) {
        let pairs = three.iter().flat_map(|word| [*word, "x"]);
        server.command(std::iter::once("MSET").chain(pairs).collect::<Vec<_>>()).unwrap();
        let mut expected: Vec<_> = three.iter().map(|word| word.as_bytes().to_vec()).collect();
        expected.sort();
        expected.dedup();
        let mut heard = Vec::new();
        for _ in &expected {
            let Invalidation::Key(key) = next(&mut feed).await else { panic!("a key") };
            heard.push(key.to_vec());
        }
        heard.sort();
        assert_eq!(heard, expected);
    }
    // Anybody may publish there.
    server.command(["PUBLISH", "__redis__:invalidate", "k"]).unwrap();
    assert_eq!(until_now(&mut feed).await, [""; 0]);
}

#[tokio::test]
async fn emptying_the_database_says_to_forget_everything() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let mut feed = begun(conn.track().prefix("a")).await;
    for command in ["FLUSHALL", "FLUSHDB"] {
        server.command(["SET", "b", "x"]).unwrap();
        server.command([command]).unwrap();
        assert_eq!(next(&mut feed).await, Invalidation::Flush, "{command}");
        until_now(&mut feed).await;
        is_current(&feed.freshness()).await;
    }
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_to_forget_everything() {
    let conn = connect("track-lag").await;
    let mut feed = begun(conn.track().prefix("a").queue_keys(3.try_into().unwrap())).await;
    let mut witness = begun(conn.track().prefix("a")).await;
    let freshness = feed.freshness();
    for n in 0..5 {
        conn.set(format!("a{n}"), "x").await.unwrap();
        key(&mut witness).await;
    }
    assert_eq!(freshness.complete_until(), None, "at once");
    assert_eq!(next(&mut feed).await, Invalidation::Flush);
    assert_eq!(until_now(&mut feed).await.last().map(String::as_str), Some("a4"));
    is_current(&freshness).await;
}

#[tokio::test]
async fn a_feed_that_is_not_read_is_not_current() {
    let conn = connect("track-unread").await;
    let bound = Duration::from_millis(200);
    let mut feed = begun(conn.track().prefix("a").bound(bound)).await;
    let freshness = feed.freshness();
    is_current(&freshness).await;
    conn.set("a", "x").await.unwrap();
    // While this key was not read, nothing later can be known to have been.
    let unread = freshness.clone();
    eventually("it is behind", move || !unread.is_current()).await;
    assert!(freshness.complete_until().is_some(), "it is known how far");
    assert_eq!(key(&mut feed).await, "a");
    let reading = tokio::spawn(async move {
        while feed.next().await.is_some() {}
        feed
    });
    is_current(&freshness).await;
    let started = Instant::now();
    while started.elapsed() < 3 * bound {
        assert!(freshness.is_current(), "it stays so");
        tokio::task::yield_now().await;
    }
    reading.abort();
}

static WRITE: Script = Script::new("test.write", "return redis.call('SET', KEYS[1], 'x')");

#[tokio::test]
async fn own_writes_can_be_left_out() {
    let (conn, prefix) = connect_named("track-own").await;
    let mut feed = begun(conn.track().prefix("a").without_own_writes()).await;
    let mut all = begun(conn.track().prefix("a")).await;
    conn.set("a1", "mine").await.unwrap();
    conn.with_codec(Codec::Plain).set("a2", "mine").await.unwrap();
    conn.script(&WRITE).key("a3").run::<()>().await.unwrap();
    let mut pipeline = conn.pipeline();
    let _ = pipeline.add(conn.set("a4", "mine"));
    pipeline.send().await.check().unwrap();
    let other = Conn::connect(shared_config("track-own-other").key_prefix(&prefix)).await.unwrap();
    other.set("a5", "theirs").await.unwrap();
    conn.set("a6", "mine").await.unwrap();
    let mut heard = until_now(&mut feed).await;
    // A script is nobody's client to some servers.
    heard.retain(|key| key != "a3");
    assert_eq!(heard, ["a5"]);
    assert_eq!(until_now(&mut all).await.len(), 6);

    // A wider feed makes the link anew.
    let mut wider = begun(conn.track().prefix("").without_own_writes()).await;
    conn.set("b1", "mine").await.unwrap();
    other.set("b2", "theirs").await.unwrap();
    other.set("a7", "theirs").await.unwrap();
    let mut heard = until_now(&mut wider).await;
    heard.sort();
    assert_eq!(heard, ["a7", "b2"]);
    assert!(until_now(&mut feed).await.contains(&"a7".to_owned()));
}

/// Both write the same key before the server comes to say so: whoever wrote last decides who is told.
#[tokio::test]
async fn an_own_write_hides_no_other() {
    let server = server();
    let proxy = Arc::new(server.proxy().unwrap());
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let other = Conn::connect(server.url()).await.unwrap();
    let mut feed = begun(conn.track().prefix("k").without_own_writes()).await;
    let write = |conn: &Conn, text: &'static str| {
        let conn = conn.clone();
        tokio::spawn(async move { conn.set("k", text).await })
    };
    let mut last = 0;
    for _ in 0..10 {
        let paused = server.pause().unwrap();
        let (before, watched) = (proxy.request_bytes(), Arc::clone(&proxy));
        let own = write(&conn, "mine");
        eventually("the own one is on its way", move || watched.request_bytes() > before).await;
        let others = write(&other, "theirs");
        tokio::task::yield_now().await;
        paused.resume();
        own.await.unwrap().unwrap();
        others.await.unwrap().unwrap();
        let heard = until_now(&mut feed).await;
        if other.get::<String>("k").await.unwrap().as_deref() == Some("theirs") {
            last += 1;
            assert!(heard.contains(&"k".to_owned()), "the copy would be wrong");
        }
    }
    assert!(last > 0, "theirs was the last one at least once");
}

#[tokio::test]
async fn a_server_that_does_not_track_says_so() {
    let server = Server::builder()
        .user("limited", "pw", "+@all -client ~* &*")
        .user("deaf", "pw", "+@all ~* resetchannels &other")
        .start()
        .unwrap();
    for user in ["limited", "deaf"] {
        let config = Config::builder().url(server.url()).username(user).password("pw");
        let conn = Conn::connect(config).await.unwrap();
        for feed in [conn.track().prefix("a"), conn.track().prefix("a").without_own_writes()] {
            let started = Instant::now();
            let err = feed.await.unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Denied, "{err:?}");
            assert!(started.elapsed() < Duration::from_secs(3), "at once");
        }
        assert_eq!(conn.get::<String>("a").await.unwrap(), None, "all else works");
    }
    let renamed = Server::builder().config("rename-command", "CLIENT \"\"").start();
    if let Ok(server) = renamed {
        let conn = Conn::connect(server.url()).await.unwrap();
        let err = conn.track().prefix("a").await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Unsupported, "{err:?}");
        assert!(err.to_string().contains("times to live"), "{err}");
    }
}

#[tokio::test]
async fn a_feed_of_nothing_and_of_a_closed_connection_are_errors() {
    let conn = connect("track-nothing").await;
    assert_eq!(conn.track().await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    let mut feed = begun(conn.track().prefix("a")).await;
    let freshness = feed.freshness();
    conn.close(PATIENCE).await;
    assert!(timeout(PATIENCE, feed.next()).await.unwrap().is_none());
    assert!(!freshness.is_current());
    assert_eq!(conn.track().prefix("a").await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn feeds_share_a_link_and_leave_nothing() {
    let server = server();
    let before = crate::client_list(&server).len();
    let conn = Conn::connect(server.url()).await.unwrap();
    let first = begun(conn.track().prefix("a")).await;
    let clients = crate::client_list(&server).len();
    let second = begun(conn.track().prefix("ab")).await;
    assert_eq!(crate::client_list(&server).len(), clients, "one link for both");
    let shown = format!("{first:?} {:?} {:?}", conn.track().prefix("secret"), first.freshness());
    assert!(!shown.contains("secret"), "{shown}");
    assert!(conn.health().await.tracking.unwrap().live);
    drop(first);
    drop(conn);
    drop(second);
    let looked_at = server.clone();
    eventually("no connection is left", move || crate::client_list(&looked_at).len() == before)
        .await;
    let metrics = tokio::runtime::Handle::current().metrics();
    eventually("no task is left", move || metrics.num_alive_tasks() == 0).await;
}
