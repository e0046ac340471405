//! What others write is known as soon as the server has said so, and within the bound.

use std::time::Duration;

use redbrick_cache::{Local, Origin};
use redbrick_core_conn::{Config, Conn};
use redbrick_testkit::{Server, unique};
use tokio::time::Instant;

use super::{builder, connect, keeping, until_is, until_kept, until_silent};
use crate::{PATIENCE, connect_below, numbers_below, silent_server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_is_known_when_the_server_has_said_so() {
    let prefix = unique("local_others");
    let cache = keeping(connect_below(&prefix).await);
    let other = numbers_below(&prefix).await;
    for n in 1..50 {
        other.set("a", &n).tags(["x"]).await.unwrap();
        until_is(&cache, "a", Some(n)).await;
        until_kept(&cache, "a").await;
        match n % 3 {
            0 => assert!(other.delete("a").await.unwrap()),
            1 => assert!(other.invalidate_tag("x").await.unwrap()),
            _ => assert!(other.clear_all().await.unwrap() > 0),
        }
        until_is(&cache, "a", None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_flush_is_gone() {
    let server = Server::start().unwrap();
    let cache = keeping(connect(&server).await);
    for command in ["FLUSHALL", "FLUSHDB"] {
        cache.set("a", &1).await.unwrap();
        cache.set("b", &1).tags(["x"]).await.unwrap();
        until_kept(&cache, "a").await;
        until_kept(&cache, "b").await;
        server.command([command]).unwrap();
        until_is(&cache, "a", None).await;
        until_is(&cache, "b", None).await;
    }
}

/// What is borne where nobody says what changes is nothing where somebody does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_says_counts_also_where_staleness_is_borne() {
    let server = Server::start().unwrap();
    let local = Local::new().max_staleness(PATIENCE * 10);
    let cache = builder(connect(&server).await).local(local).build().unwrap();
    let other = crate::patient::<u64>(connect(&server).await);
    for n in 1..10 {
        other.set("a", &n).tags(["x"]).await.unwrap();
        other.set("b", &n).await.unwrap();
        for key in ["a", "b"] {
            until_is(&cache, key, Some(n)).await;
            until_kept(&cache, key).await;
        }
        if n % 2 == 0 {
            // Missed, and known when the link is back.
            super::cut_feed(&server);
            other.set("b", &(n + 100)).await.unwrap();
            until_is(&cache, "b", Some(n + 100)).await;
        }
        assert!(other.invalidate_tag("x").await.unwrap());
        until_is(&cache, "a", None).await;
    }
}

/// What was vouched for all the time is as good as what was read just now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staleness_counts_from_when_the_server_was_last_heard() {
    let server = Server::start().unwrap();
    let config = Config::builder().url(server.url()).command_timeout(Duration::from_millis(200));
    let (bound, bearable) = (Duration::from_millis(100), Duration::from_secs(3));
    let conn = Conn::connect(config).await.unwrap();
    let local = || Local::new().bound(bound);
    let strict = builder(conn.clone()).local(local()).build().unwrap();
    let cache = builder(conn).local(local().max_staleness(bearable)).build().unwrap();
    cache.set("a", &1).tags(["x"]).await.unwrap();
    until_kept(&strict, "a").await;
    until_kept(&cache, "a").await;
    // It is read from the process for longer than that.
    let read = Instant::now();
    while read.elapsed() < bearable + bound {
        assert_eq!(cache.get("a").await.unwrap(), Some(1));
        tokio::task::yield_now().await;
    }
    server.kill().unwrap();
    until_silent(&strict, "a").await;
    assert_eq!(cache.get("a").await.unwrap(), Some(1));
    assert_eq!(super::origin(&cache, "a").await, Origin::Local);
    let late = Instant::now() + bearable + PATIENCE;
    while cache.get("a").await.is_ok() {
        assert!(Instant::now() < late, "it is borne for ever");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_silent_nothing_is_given_past_the_bound() {
    let server = Server::start().unwrap();
    let config = Config::builder().url(server.url()).command_timeout(Duration::from_millis(200));
    let conn = Conn::connect(config).await.unwrap();
    let local = || Local::new().bound(Duration::from_millis(100));
    let strict = builder(conn.clone()).local(local()).build().unwrap();
    let lenient = builder(conn).local(local().max_staleness(Duration::from_secs(60)));
    let lenient = lenient.build().unwrap();
    strict.set("a", &1).await.unwrap();
    strict.set("b", &2).tags(["x"]).await.unwrap();
    for key in ["a", "b"] {
        until_kept(&strict, key).await;
        until_kept(&lenient, key).await;
    }
    let other = crate::patient::<u64>(connect(&server).await);
    other.set("c", &3).tags(["y"]).await.unwrap();
    until_kept(&lenient, "c").await;
    // What was heard stays known.
    assert!(other.invalidate_tag("y").await.unwrap());
    until_is(&lenient, "c", None).await;
    let paused = server.pause().unwrap();
    until_silent(&strict, "a").await;
    for (key, value) in [("a", 1), ("b", 2)] {
        let error = strict.get(key).await.unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        assert_eq!(lenient.get(key).await.unwrap(), Some(value));
    }
    lenient.get("c").await.unwrap_err();
    // What is invalidated here counts all the same, and what has the tag.
    lenient.invalidate_tag("x").await.unwrap_err();
    lenient.get("b").await.unwrap_err();
    lenient.delete("a").await.unwrap_err();
    lenient.get("a").await.unwrap_err();
    drop(paused);
    until_is(&lenient, "a", None).await;
    until_is(&lenient, "b", None).await;
    until_is(&strict, "a", None).await;
    until_is(&strict, "b", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_servers_do_not_say_what_changes_they_are_asked() {
    let (_server, url) = silent_server();
    let cache = keeping(Conn::connect(&url).await.unwrap());
    let other = crate::patient::<u64>(Conn::connect(&url).await.unwrap());
    for n in 0..20 {
        other.set("a", &n).tags(["x"]).await.unwrap();
        let before = cache.statistics().revalidated;
        for _ in 0..3 {
            assert_eq!(cache.get("a").await.unwrap(), Some(n));
        }
        assert_eq!(cache.statistics().revalidated, before + 2);
    }
    other.invalidate_tag("x").await.unwrap();
    assert_eq!(cache.get("a").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_servers_do_not_say_what_changes_values_can_be_given_for_a_while() {
    let (_server, url) = silent_server();
    let local = Local::new().max_staleness(Duration::from_secs(2));
    let cache = builder(Conn::connect(&url).await.unwrap()).local(local).build().unwrap();
    let other = crate::patient::<u64>(Conn::connect(&url).await.unwrap());
    for n in 0..3 {
        other.set("a", &n).tags(["x"]).await.unwrap();
        until_is(&cache, "a", Some(n)).await;
        let before = cache.statistics().revalidated;
        let found = cache.get_or_load("a", crate::never).with_origin().await.unwrap();
        assert_eq!((found.value, found.origin), (n, Origin::Local));
        assert_eq!(cache.statistics().revalidated, before, "it is given without a question");
    }
    // What this process invalidates it knows.
    assert!(cache.invalidate_tag("x").await.unwrap());
    assert_eq!(cache.get("a").await.unwrap(), None);
    other.set("a", &9).await.unwrap();
    until_is(&cache, "a", Some(9)).await;
    assert!(cache.delete("a").await.unwrap());
    assert_eq!(cache.get("a").await.unwrap(), None);
}
