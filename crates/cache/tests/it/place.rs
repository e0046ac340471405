//! Where a lease lies: in the place of an entry, or beside one that is served meanwhile.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{future::IntoFuture, sync::Arc, time::Duration};

use redbrick_cache::{Cache, Change, Fetched, Origin, Rules, Target};
use redbrick_core_conn::{Bytes, Codec, Config, ConfigBuilder, Conn, Prefix, Ttl};
use redbrick_testkit::{Server, unique};
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    Gate, PATIENCE, connect_below, never, number, numbers_below, race::Load, stale::fails, until,
};

const LOADED: Fetched<u64> = Fetched { value: 2, origin: Origin::Loaded };

/// A refresh that loads a 2, as soon as its gate is open.
pub(crate) async fn refresh(cache: &Cache<u64>) -> (JoinHandle<Fetched<u64>>, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let task = tokio::spawn({
        let (cache, gate) = (cache.clone(), Arc::clone(&gate));
        async move { cache.refresh("a", || gate.pass(2)).with_origin().await.unwrap() }
    });
    gate.entered().await;
    (task, gate)
}

/// Waits until nothing is found.
pub(crate) async fn is_over(cache: &Cache<u64>) {
    let over = async {
        while cache.get("a").await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, over).await.expect("its life is over");
}

/// Caches of a user who may not ask for the time, and of one who may, with leases that live for so long.
pub(crate) async fn timeless_and_timely(lease: Duration) -> (Server, Cache<u64>, Cache<u64>) {
    let server = Server::start().unwrap();
    let rights = ["ACL", "SETUSER", "timeless", "on", "nopass", "+@all", "-time", "~*", "&*"];
    server.command(rights).unwrap();
    let cache = async |config: ConfigBuilder| {
        let cache = Cache::builder(Conn::connect(config).await.unwrap(), "products");
        cache.redis_timeout(PATIENCE).lease(lease).build().unwrap()
    };
    let config = || Config::builder().url(server.url());
    let timeless = cache(config().username("timeless").password("any")).await;
    let timely = cache(config()).await;
    (server, timeless, timely)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_being_loaded_is_not_there_for_those_who_read() {
    let prefix = unique("place");
    let cache = numbers_below(&prefix).await;
    let load = Load::begin(&prefix, 1).await;
    assert_eq!(cache.get("a").await.unwrap(), None);
    assert_eq!(cache.get_many(["a"]).await.unwrap(), [None]);
    assert!(!cache.exists("a").await.unwrap());
    assert_eq!(cache.ttl("a").await.unwrap(), Ttl::Missing);
    assert_eq!(cache.statistics().unreadable, 0, "it is nothing foreign");
    load.end().await;
    assert_eq!(cache.get("a").await.unwrap(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_ends_while_it_is_refreshed_is_replaced_all_the_same() {
    // Where the lease is longer than the entry, and where it is renewed in time.
    for (lease, life) in [(60_000, 100), (600, 700)] {
        let cache = Cache::builder(connect_below(&unique("ends")).await, "products");
        let cache = cache.redis_timeout(PATIENCE).lease(Duration::from_millis(lease));
        let cache = cache.build().unwrap();
        cache.set("a", &1).time_to_live(Duration::from_millis(life)).await.unwrap();
        let (refreshing, gate) = refresh(&cache).await;
        is_over(&cache).await;
        // By the server's clock, too, which is known to a millisecond or so.
        cache.set("later", &1).time_to_live(Duration::from_millis(20)).await.unwrap();
        while cache.ttl("later").await.unwrap() != Ttl::Missing {
            tokio::task::yield_now().await;
        }
        assert_eq!(cache.ttl("a").await.unwrap(), Ttl::Expires(Duration::ZERO));
        gate.open();
        assert_eq!(refreshing.await.unwrap(), LOADED);
        assert_eq!(cache.get("a").await.unwrap(), Some(2), "{lease}, {life}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_refresh_is_told_when_it_has_ended_and_no_lease_is_left() {
    let prefix = unique("refresh and wait");
    let long = async || {
        let cache = Cache::builder(connect_below(&prefix).await, "products");
        cache.redis_timeout(PATIENCE).lease(PATIENCE * 3).build().unwrap()
    };
    let (cache, other) = (long().await, long().await);
    cache.set("a", &1).await.unwrap();
    let (refreshing, gate) = refresh(&cache).await;
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { other.refresh("a", never).await.unwrap() }
    });
    until("it waits", move || other.statistics().waits == 1).await;
    gate.open();
    assert_eq!(refreshing.await.unwrap(), LOADED);
    let told = timeout(PATIENCE, waiting).await.expect("somebody tells it");
    assert_eq!(told.unwrap(), 2);
    let lease = Prefix::new("cache").join("products").join("lease").tagged("a");
    assert!(!connect_below(&prefix).await.exists(lease).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_begins_like_a_lease_holds_up_nobody() {
    let prefix = unique("no lease");
    let conn = connect_below(&prefix).await.with_codec(Codec::Plain);
    let key = Prefix::new("cache").join("products").tagged("a");
    let foreign = Bytes::from_static(b"\xCB0 and so on, and so on");
    conn.set(key, &foreign).time_to_live(PATIENCE * 3).await.unwrap();
    let cache = numbers_below(&prefix).await;
    assert_eq!(cache.get("a").await.unwrap(), None);
    let loaded = timeout(PATIENCE, cache.get_or_load("a", || number(1)).into_future()).await;
    assert_eq!(loaded.expect("nobody is waited for").unwrap(), 1);
    assert_eq!(cache.get("a").await.unwrap(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_set_while_it_is_refreshed_stays() {
    let cache = numbers_below(&unique("set and refresh")).await;
    cache.set("a", &1).await.unwrap();
    let (refreshing, gate) = refresh(&cache).await;
    cache.set("a", &3).await.unwrap();
    gate.open();
    assert_eq!(refreshing.await.unwrap(), LOADED);
    assert_eq!(cache.get("a").await.unwrap(), Some(3));
    assert_eq!(cache.statistics().refused_fills, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_of_what_is_there_no_more_holds_up_nobody() {
    let prefix = unique("doomed");
    let (cache, other) = (numbers_below(&prefix).await, numbers_below(&prefix).await);
    for anew in [false, true] {
        cache.set("a", &1).await.unwrap();
        let (refreshing, gate) = refresh(&cache).await;
        other.clear_all().await.unwrap();
        if anew {
            // Another entry is there by now, and the lease beside it is not its own.
            other.set("a", &4).await.unwrap();
            assert_eq!(other.refresh("a", || number(5)).await.unwrap(), 5);
        } else {
            assert_eq!(other.get_or_load("a", || number(5)).await.unwrap(), 5);
        }
        gate.open();
        assert_eq!(refreshing.await.unwrap(), LOADED, "for its caller");
        assert_eq!(cache.get("a").await.unwrap(), Some(5), "anew: {anew}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_that_was_shortened_is_not_made_longer_by_a_refresh() {
    let cache = numbers_below(&unique("shortened")).await;
    cache.set("a", &1).await.unwrap();
    let target = Target::shorten("a", Duration::from_millis(200));
    let rules = Rules::builder().on("x", Change::Update, [target]).build().unwrap();
    assert_eq!(cache.apply(&rules, "x", Change::Update, &[]).await.unwrap().shortened, 1);
    let (refreshing, gate) = refresh(&cache).await;
    is_over(&cache).await;
    gate.open();
    assert_eq!(refreshing.await.unwrap(), LOADED);
    assert_eq!(cache.get("a").await.unwrap(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_without_an_end_has_none_after_a_refresh_that_fails_either() {
    let prefix = unique("endless");
    let cache = Cache::builder(connect_below(&prefix).await, "products").redis_timeout(PATIENCE);
    let cache = cache.lease(Duration::from_millis(300)).build().unwrap();
    cache.set("a", &1).await.unwrap();
    let key = Prefix::new("cache").join("products").tagged("a");
    assert!(connect_below(&prefix).await.persist(key).await.unwrap());
    cache.refresh("a", fails).await.unwrap_err();
    assert_eq!(cache.ttl("a").await.unwrap(), Ttl::Persistent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_does_not_say_when_it_is_over_is_not_kept_longer_by_a_refresh() {
    // Longer than it lives, and so short that it is renewed meanwhile.
    for lease in [PATIENCE * 3, Duration::from_millis(200)] {
        let (_server, timeless, timely) = timeless_and_timely(lease).await;
        timeless.set("a", &1).time_to_live(Duration::from_millis(400)).await.unwrap();
        let (refreshing, gate) = refresh(&timely).await;
        assert_eq!(timely.get("a").await.unwrap(), Some(1), "it is refreshed before its end");
        is_over(&timely).await;
        is_over(&timeless).await;
        gate.open();
        assert_eq!(refreshing.await.unwrap(), LOADED);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_replaced_the_one_that_is_refreshed_lives_as_long_as_it_says() {
    let lease = Duration::from_millis(300);
    let prefixes = [unique("brief"), unique("endless")];
    let mut refreshes = Vec::new();
    for prefix in &prefixes {
        let cache = Cache::builder(connect_below(prefix).await, "products").lease(lease);
        let cache = cache.redis_timeout(PATIENCE).build().unwrap();
        cache.set("a", &1).await.unwrap();
        let (refreshing, gate) = refresh(&cache).await;
        refreshes.push((cache, refreshing, gate));
    }
    let [brief, endless] = [&refreshes[0].0, &refreshes[1].0];
    endless.set("a", &3).await.unwrap();
    let key = Prefix::new("cache").join("products").tagged("a");
    assert!(connect_below(&prefixes[1]).await.persist(key).await.unwrap());
    // For as long as a lease is renewed twice.
    brief.set("a", &3).time_to_live(lease * 2 / 3).await.unwrap();
    let gone = async { while brief.ttl("a").await.unwrap() != Ttl::Missing {} };
    timeout(PATIENCE, gone).await.expect("it expires");
    assert_eq!(endless.ttl("a").await.unwrap(), Ttl::Persistent);
    for (_, refreshing, gate) in refreshes {
        gate.open();
        assert_eq!(refreshing.await.unwrap(), LOADED);
    }
}
