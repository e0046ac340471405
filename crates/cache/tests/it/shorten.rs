//! Lives that were shortened.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::time::Duration;

use redbrick_cache::{Cache, Change, Error, Fetched, Origin, Rules, Target};
use redbrick_core_conn::{Conn, Ttl};
use redbrick_testkit::{Server, unique};
use tokio::time::{Instant, timeout};

use crate::{
    PATIENCE, connect_below, never,
    place::{is_over, refresh, timeless_and_timely},
    stale::{STALE, WINDOW, builder, fails, revalidating, stale},
    until,
};

const LIFE: Duration = Duration::from_millis(200);

async fn shorten(cache: &Cache<u64>) {
    let rules = Rules::builder().on("x", Change::Update, [Target::shorten("a", LIFE)]);
    let applied = cache.apply(&rules.build().unwrap(), "x", Change::Update, &[]).await.unwrap();
    assert_eq!(applied.shortened, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shortened_life_that_ends_while_it_is_refreshed_is_not_followed_by_a_window() {
    let prefix = unique("shortened and refreshed");
    // With the lease, the entry is kept for long.
    let cache = builder(&prefix).await.stale_while_revalidate(WINDOW).lease(PATIENCE * 3);
    let (cache, other) = (cache.build().unwrap(), revalidating(&prefix).await);
    cache.set("a", &1).await.unwrap();
    shorten(&cache).await;
    let (refreshing, gate) = refresh(&cache).await;
    is_over(&other).await;
    let asking = tokio::spawn({
        let other = other.clone();
        async move { other.get_or_load("a", never).with_origin().await.unwrap() }
    });
    let waits = other.clone();
    until("it has asked", move || {
        let now = waits.statistics();
        now.waits + now.served_stale == 1
    })
    .await;
    gate.open();
    assert_eq!(asking.await.unwrap(), Fetched { value: 2, origin: Origin::Cached });
    assert_eq!(refreshing.await.unwrap().value, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stale_is_served_no_longer_than_its_shortened_life_while_its_loads_fail() {
    let prefix = unique("shortened and stale");
    let cache = builder(&prefix).await.stale_while_revalidate(WINDOW).lease(PATIENCE * 3);
    let cache = cache.build().unwrap();
    stale(&cache).await;
    shorten(&cache).await;
    let began = Instant::now();
    let served_until_its_end = async {
        loop {
            let asked = began.elapsed();
            match cache.get_or_load("a", fails).with_origin().await {
                Ok(served) => assert!(served == STALE && asked < LIFE * 2, "{asked:?}"),
                Err(error) => break assert!(matches!(error, Error::Load(_)), "{error:?}"),
            }
        }
    };
    timeout(PATIENCE, served_until_its_end).await.expect("it is served no more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_shortened_by_who_may_not_ask_for_the_time_is_not_made_longer_by_a_refresh() {
    let (_server, timeless, timely) = timeless_and_timely(PATIENCE * 3).await;
    timely.set("a", &1).await.unwrap();
    shorten(&timeless).await;
    let (refreshing, gate) = refresh(&timely).await;
    is_over(&timely).await;
    gate.open();
    assert_eq!(refreshing.await.unwrap().value, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_loaded_anew_while_a_life_is_shortened_is_not_stored() {
    let prefix = unique("shortened meanwhile");
    let (cache, other) = (revalidating(&prefix).await, revalidating(&prefix).await);
    cache.set("a", &1).await.unwrap();
    let (refreshing, gate) = refresh(&cache).await;
    shorten(&other).await;
    gate.open();
    assert_eq!(refreshing.await.unwrap().value, 2);
    assert_eq!(cache.statistics().refused_fills, 1);
    is_over(&other).await;
}

#[tokio::test]
async fn what_a_full_server_cannot_mark_as_shortened_is_deleted() {
    let server = Server::start().unwrap();
    let cache: Cache<u64> = Cache::new(Conn::connect(server.url()).await.unwrap(), "products");
    // Its life is as short already, so that nothing else is to be written.
    cache.set("a", &1).time_to_live(PATIENCE).await.unwrap();
    server.command(["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let rules = Rules::builder().on("x", Change::Update, [Target::shorten("a", PATIENCE * 2)]);
    cache.apply(&rules.build().unwrap(), "x", Change::Update, &[]).await.unwrap();
    assert_eq!(cache.get("a").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_without_an_end_is_given_one() {
    let prefix = unique("endless and shortened");
    let cache = revalidating(&prefix).await;
    cache.set("a", &1).await.unwrap();
    assert!(connect_below(&prefix).await.persist(cache.prefix().tagged("a")).await.unwrap());
    shorten(&cache).await;
    let gone = async { while cache.ttl("a").await.unwrap() != Ttl::Missing {} };
    timeout(PATIENCE, gone).await.expect("it expires");
}
