//! What comes of each call while Redis is away, slow, full or read-only, as the README's table says.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redbrick_cache::{Cache, CacheBuilder, Error, OnError, Origin};
use redbrick_core_conn::{Config, Conn, ErrorKind, Ttl};
use redbrick_testkit::{Fault, Server};
use tokio::{sync::Barrier, time::Instant};

use crate::{PATIENCE, connect, never, number, patient, until};

/// What the calls of these tests wait at most; asserted bounds allow ten times as much and more on a busy machine.
const SHORT: Duration = Duration::from_millis(200);
const SLACK: Duration = Duration::from_secs(10);

async fn builder(url: String) -> CacheBuilder<u64> {
    let config = Config::builder().url(url).command_timeout(SHORT);
    let conn = Conn::connect(config).await.unwrap();
    Cache::builder(conn, "products").redis_timeout(SHORT)
}

fn kind(error: Error) -> ErrorKind {
    match error {
        Error::Conn(error) => error.kind(),
        other => panic!("{other:?}"),
    }
}

/// All calls but `get_or_load` say that they could not ask.
async fn all_fail(cache: &Cache<u64>, expected: &[ErrorKind]) {
    let began = Instant::now();
    for error in [
        cache.get("a").await.map(drop).unwrap_err(),
        cache.get_many(["a"]).await.map(drop).unwrap_err(),
        cache.exists("a").await.map(drop).unwrap_err(),
        cache.ttl("a").await.map(drop).unwrap_err(),
        cache.count("a").await.map(drop).unwrap_err(),
        cache.set("a", &1).await.unwrap_err(),
        cache.set_many([("a", &1), ("b", &2)]).await.unwrap_err(),
        cache.delete("a").await.map(drop).unwrap_err(),
        cache.delete_many(["a"]).await.map(drop).unwrap_err(),
        cache.increment("a", 1).await.map(drop).unwrap_err(),
        cache.invalidate_tag("a").await.map(drop).unwrap_err(),
        cache.invalidate_tags(["a"]).await.map(drop).unwrap_err(),
        cache.clear_all().await.map(drop).unwrap_err(),
        cache.publish_statistics().await.unwrap_err(),
        cache.fleet_statistics().await.map(drop).unwrap_err(),
        cache.server_statistics().await.map(drop).unwrap_err(),
    ] {
        assert!(error.is_retryable(), "{error:?}");
        let kind = kind(error);
        assert!(expected.contains(&kind), "{kind:?}");
    }
    assert!(began.elapsed() < SLACK * 3, "{:?}", began.elapsed());
}

#[tokio::test]
async fn without_its_server_it_loads_or_fails_as_it_was_told_and_works_when_it_is_back() {
    let server = Server::start().unwrap();
    let loading = builder(server.url()).await.build().unwrap();
    let failing = builder(server.url()).await.on_error(OnError::Fail).build().unwrap();
    loading.set("a", &1).await.unwrap();
    server.kill().unwrap();

    let away = [ErrorKind::Connect, ErrorKind::Interrupted, ErrorKind::Timeout];
    all_fail(&loading, &away).await;
    let began = Instant::now();
    let loaded = loading.get_or_load("a", || number(2)).tags(["t"]).with_origin().await.unwrap();
    assert_eq!((loaded.value, loaded.origin), (2, Origin::Bypassed));
    assert!(began.elapsed() < SLACK, "{:?}", began.elapsed());
    assert!(away.contains(&kind(failing.get_or_load("a", never).await.unwrap_err())));
    let failed =
        loading.get_or_load("a", async || Err::<u64, _>(std::io::Error::other("no"))).await;
    assert!(matches!(failed.unwrap_err(), Error::Load(_)));
    assert_eq!(loading.statistics().bypassed, 1);

    server.restart().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while loading.get_or_load("a", || number(3)).with_origin().await.unwrap().origin
        != Origin::Cached
    {
        assert!(Instant::now() < deadline, "it does not come back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_callers_of_one_key_cause_one_load_also_without_a_server() {
    let server = Server::start().unwrap();
    let cache = builder(server.url()).await.redis_timeout(Duration::from_secs(1)).build().unwrap();
    server.kill().unwrap();
    let (loads, barrier) = (Arc::new(AtomicU64::new(0)), Arc::new(Barrier::new(100)));
    let gate = Arc::new(crate::Gate::default());
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let (cache, loads, barrier, gate) =
                (cache.clone(), Arc::clone(&loads), Arc::clone(&barrier), Arc::clone(&gate));
            tokio::spawn(async move {
                barrier.wait().await;
                let load = async || {
                    loads.fetch_add(1, Ordering::SeqCst);
                    gate.pass(7).await
                };
                cache.get_or_load("a", load).with_origin().await.unwrap()
            })
        })
        .collect();
    gate.entered().await;
    // As long as a call waits for its server, twice over: by then all of them wait for the one load.
    let began = std::time::Instant::now();
    until("all wait", move || began.elapsed() > Duration::from_secs(2)).await;
    gate.open();
    for caller in callers {
        let fetched = caller.await.unwrap();
        assert_eq!((fetched.value, fetched.origin), (7, Origin::Bypassed));
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert_eq!(cache.statistics().coalesced, 99);
}

#[tokio::test]
async fn a_server_that_stands_still_costs_the_redis_timeout() {
    let server = Server::start().unwrap();
    let cache = builder(server.url()).await.build().unwrap();
    cache.set("a", &1).await.unwrap();
    let paused = server.pause().unwrap();
    let began = Instant::now();
    let loaded = cache.get_or_load("a", || number(2)).with_origin().await.unwrap();
    assert_eq!((loaded.value, loaded.origin), (2, Origin::Bypassed));
    assert!(began.elapsed() < SLACK, "{:?}", began.elapsed());
    all_fail(&cache, &[ErrorKind::Timeout, ErrorKind::Interrupted, ErrorKind::Connect]).await;
    paused.resume();
    let deadline = Instant::now() + PATIENCE;
    while cache.get("b").await.is_err() {
        assert!(Instant::now() < deadline, "it does not come back");
    }
}

#[tokio::test]
async fn a_count_whose_reply_is_lost_counts_once_and_says_that_it_is_unclear() {
    let server = Server::start().unwrap();
    let proxy = server.proxy().unwrap();
    let cache = builder(proxy.url()).await.build().unwrap();
    cache.increment("n", 1).await.unwrap();
    cache.publish_statistics().await.unwrap();
    cache.get("missing").await.unwrap();
    proxy.set(Fault::DropReplies);
    let error = cache.increment("n", 1).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
    let error = cache.publish_statistics().await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
    proxy.clear();
    let deadline = Instant::now() + PATIENCE;
    while cache.count("n").await.is_err() {
        assert!(Instant::now() < deadline, "it does not come back");
    }
    assert_eq!(cache.count("n").await.unwrap(), Some(2));
    cache.publish_statistics().await.unwrap();
    assert_eq!(cache.fleet_statistics().await.unwrap().misses, 1, "counted once");
}

#[tokio::test]
async fn a_server_that_may_not_write_is_no_reason_to_fail() {
    let server = Server::start().unwrap();
    let cache = builder(server.url()).await.build().unwrap();
    server.command(["CONFIG", "SET", "min-replicas-to-write", "1"]).unwrap();
    let loaded = cache.get_or_load("a", || number(2)).with_origin().await.unwrap();
    assert_eq!((loaded.value, loaded.origin), (2, Origin::Bypassed));
    assert_eq!(kind(cache.set("a", &1).await.unwrap_err()), ErrorKind::NoReplicas);
}

#[tokio::test]
async fn a_set_is_not_sent_twice() {
    let server = Server::start().unwrap();
    let proxy = server.proxy().unwrap();
    let (cache, other) = (builder(proxy.url()).await, builder(server.url()).await);
    let (cache, other) = (cache.build().unwrap(), other.build().unwrap());
    cache.set("b", &0).await.unwrap();
    proxy.set_for_open(Fault::CutAfterReplyBytes(0));
    let error = cache.set("a", &1).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
    other.delete("a").await.unwrap();
    assert_eq!(other.get("a").await.unwrap(), None);
}

#[tokio::test]
async fn a_delete_whose_reply_was_lost_has_deleted() {
    let server = Server::start().unwrap();
    let proxy = server.proxy().unwrap();
    let cache = builder(proxy.url()).await.build().unwrap();
    cache.set("a", &1).await.unwrap();
    cache.delete("first").await.unwrap();
    proxy.set(Fault::DropReplies);
    let error = cache.delete("a").await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
    assert_eq!(server.command(["EXISTS", "cache:products:{a}"]).unwrap().as_int(), Some(0));
}

#[tokio::test]
async fn a_count_is_not_sent_twice() {
    let server = Server::start().unwrap();
    let proxy = server.proxy().unwrap();
    let cache = patient::<u64>(Conn::connect(proxy.url()).await.unwrap());
    cache.increment("n", 1).await.unwrap();
    proxy.set_for_open(Fault::CutAfterReplyBytes(0));
    let error = cache.increment("n", 1).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
    assert_eq!(cache.count("n").await.unwrap(), Some(2));
}

#[tokio::test]
async fn a_new_version_of_a_tag_is_not_sent_twice() {
    let server = Server::start().unwrap();
    let proxy = server.proxy().unwrap();
    let cache = patient::<u64>(Conn::connect(proxy.url()).await.unwrap());
    cache.set("a", &1).tags(["first"]).await.unwrap();
    proxy.set_for_open(Fault::CutAfterReplyBytes(0));
    let error = cache.set("a", &1).tags(["t"]).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
    // What may be repeated is, over the next link.
    cache.set("a", &2).await.unwrap();
    assert_eq!(cache.get("a").await.unwrap(), Some(2));
}

#[tokio::test]
async fn a_server_that_is_full_stores_nothing_and_still_invalidates() {
    let server = Server::start().unwrap();
    let cache = patient::<u64>(Conn::connect(server.url()).await.unwrap());
    cache.set("a", &1).tags(["t"]).await.unwrap();
    cache.set("b", &1).await.unwrap();
    server.command(["CONFIG", "SET", "maxmemory", "1"]).unwrap();

    assert_eq!(kind(cache.set("c", &1).await.unwrap_err()), ErrorKind::OutOfMemory);
    assert_eq!(kind(cache.increment("n", 1).await.unwrap_err()), ErrorKind::OutOfMemory);
    let loaded = cache.get_or_load("c", || number(2)).with_origin().await.unwrap();
    assert_eq!((loaded.value, loaded.origin), (2, Origin::Bypassed));
    assert_eq!(cache.get_or_load("b", never).await.unwrap(), 1);
    assert!(cache.invalidate_tag("t").await.unwrap());
    assert_eq!(cache.get("a").await.unwrap(), None);
    assert!(cache.delete("b").await.unwrap());
    assert_eq!(cache.clear_all().await.unwrap(), 1);

    server.command(["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    cache.set("c", &1).await.unwrap();
}

#[tokio::test]
async fn a_replica_is_read_and_loads_go_past_it() {
    let (master, replica) = (Server::start().unwrap(), Server::start().unwrap());
    let cache = builder(replica.url()).await.build().unwrap();
    cache.set("a", &1).await.unwrap();
    let (host, port) = (master.host().to_owned(), master.port().to_string());
    let before = patient::<u64>(Conn::connect(master.url()).await.unwrap());
    before.set("a", &5).await.unwrap();
    replica.command(["REPLICAOF", &host, &port]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while cache.get("a").await.ok() != Some(Some(5)) {
        assert!(Instant::now() < deadline, "the replica does not follow");
    }
    let loaded = cache.get_or_load("b", || number(2)).with_origin().await.unwrap();
    assert_eq!((loaded.value, loaded.origin), (2, Origin::Bypassed));
    let refused = [cache.set("b", &1).await.unwrap_err(), cache.delete("a").await.unwrap_err()];
    for error in refused {
        assert!(error.is_retryable(), "{error:?}");
    }
}

#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let server = Server::start().unwrap();
    let cache = patient::<u64>(Conn::connect(server.url()).await.unwrap());
    for round in 0..3 {
        cache.delete("a").await.unwrap();
        assert_eq!(cache.get_or_load("a", || number(round)).tags(["t", "u"]).await.unwrap(), round);
        cache.set_many([("b", &1), ("c", &2)]).tags(["t", "u"]).await.unwrap();
        assert_eq!(cache.get_many(["a", "b"]).await.unwrap(), [Some(round), Some(1)]);
        server.command(["SCRIPT", "FLUSH"]).unwrap();
    }
}

#[tokio::test]
async fn an_optional_connection_without_a_server_finds_nothing_and_loads() {
    let server = Server::start().unwrap();
    server.kill().unwrap();
    let config = Config::builder().url(server.url()).optional(true);
    let config = config.connect_timeout(SHORT).command_timeout(SHORT);
    let conn = Conn::connect_lazy(config).unwrap();
    for on_error in [OnError::Load, OnError::Fail] {
        let cache = Cache::<u64>::builder(conn.clone(), "a").on_error(on_error).build().unwrap();
        assert_eq!(cache.get("a").await.unwrap(), None);
        cache.set("a", &1).tags(["t"]).await.unwrap();
        assert_eq!(cache.get_many(["a"]).await.unwrap(), [None]);
        assert_eq!(cache.ttl("a").await.unwrap(), Ttl::Missing);
        let loaded = cache.get_or_load("a", || number(2)).tags(["t", "u"]).with_origin().await;
        assert_eq!(loaded.unwrap().origin, Origin::Bypassed);
        assert!(!cache.delete("a").await.unwrap() && !cache.invalidate_tag("t").await.unwrap());
        assert_eq!(cache.increment("n", 1).await.unwrap(), 0);
        assert_eq!(cache.clear_all().await.unwrap(), 0);
        cache.publish_statistics().await.unwrap_err();
    }
}

#[tokio::test]
async fn a_closed_connection_is_an_error_also_where_there_is_a_loader() {
    let conn = connect("closed").await;
    let cache = patient::<u64>(conn.clone());
    conn.close(PATIENCE).await;
    assert_eq!(kind(cache.get_or_load("a", never).await.unwrap_err()), ErrorKind::Closed);
}
