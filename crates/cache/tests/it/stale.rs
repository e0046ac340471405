//! Serving what is past its time to live, and loading it anew.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redbrick_cache::{Cache, CacheBuilder, Error, Fetched, Origin};
use redbrick_core_conn::{Config, Conn, Ttl};
use redbrick_testkit::{Server, unique};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{Gate, PATIENCE, connect_below, is_long, never, number, until};

pub(crate) const WINDOW: Duration = Duration::from_secs(60);
const CACHED: Fetched<u64> = Fetched { value: 1, origin: Origin::Cached };
pub(crate) const STALE: Fetched<u64> = Fetched { value: 1, origin: Origin::Stale };
const LOADED: Fetched<u64> = Fetched { value: 2, origin: Origin::Loaded };

pub(crate) async fn builder(prefix: &str) -> CacheBuilder<u64> {
    Cache::builder(connect_below(prefix).await, "products").redis_timeout(PATIENCE)
}

/// A cache that serves what is stale while it is loaded anew.
pub(crate) async fn revalidating(prefix: &str) -> Cache<u64> {
    builder(prefix).await.stale_while_revalidate(WINDOW).build().unwrap()
}

/// A cache that serves what is stale when it cannot be loaded anew.
pub(crate) async fn falling_back(prefix: &str) -> Cache<u64> {
    builder(prefix).await.stale_if_error(WINDOW).build().unwrap()
}

/// Stores a 1 that is past its time to live.
pub(crate) async fn stale(cache: &Cache<u64>) {
    cache.set("a", &1).time_to_live(Duration::from_millis(1)).tags(["t"]).await.unwrap();
    while cache.ttl("a").await.unwrap() != Ttl::Expires(Duration::ZERO) {
        tokio::task::yield_now().await;
    }
    // The clock is known to a millisecond or so.
    while cache.exists("a").await.unwrap() {
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn fails() -> Result<u64, std::io::Error> {
    Err(std::io::Error::other("no luck"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stale_is_served_while_it_is_loaded_anew_in_the_background() {
    let prefix = unique("background");
    let (cache, other) = (revalidating(&prefix).await, revalidating(&prefix).await);
    stale(&cache).await;
    let gate = Arc::new(Gate::default());
    let load = {
        let gate = Arc::clone(&gate);
        async move || gate.pass(2).await
    };
    assert_eq!(
        cache.get_or_load("a", load).refresh_in_background().with_origin().await.unwrap(),
        STALE
    );
    gate.entered().await;
    for cache in [&cache, &other] {
        let served =
            cache.get_or_load("a", never).refresh_in_background().with_origin().await.unwrap();
        assert_eq!(served, STALE, "somebody loads it");
        let served = cache.get_or_load("a", never).with_origin().await.unwrap();
        assert_eq!(served, STALE, "nobody else waits for that");
    }
    gate.open();
    let stored = cache.clone();
    while stored.get("a").await.unwrap() != Some(2) {
        tokio::task::yield_now().await;
    }
    let served = other.get_or_load("a", never).with_origin().await.unwrap();
    assert_eq!(served, Fetched { value: 2, origin: Origin::Cached });
    let counted = cache.statistics();
    assert_eq!((counted.loads, counted.served_stale, counted.hits), (1, 3, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loader_that_borrows_loads_within_the_one_call_that_finds_out() {
    let prefix = unique("foreground");
    let (cache, other) = (revalidating(&prefix).await, revalidating(&prefix).await);
    stale(&cache).await;
    let gate = Arc::new(Gate::default());
    let loading = tokio::spawn({
        let (cache, gate) = (cache.clone(), Arc::clone(&gate));
        async move { cache.get_or_load("a", || gate.pass(2)).with_origin().await.unwrap() }
    });
    gate.entered().await;
    for cache in [&cache, &other] {
        assert_eq!(cache.get_or_load("a", never).with_origin().await.unwrap(), STALE);
    }
    gate.open();
    assert_eq!(loading.await.unwrap(), LOADED);
    assert_eq!(other.get("a").await.unwrap(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_get_or_load_finds_what_is_stale() {
    let prefix = unique("plain reads");
    let cache = revalidating(&prefix).await;
    stale(&cache).await;
    assert_eq!(cache.get("a").await.unwrap(), None);
    assert_eq!(cache.get_many(["a", "b"]).await.unwrap(), [None, None]);
    assert!(!cache.exists("a").await.unwrap());
    // A cache that knows of no windows reads until when it is fresh, too.
    let plain = builder(&prefix).await.build().unwrap();
    assert_eq!(plain.get("a").await.unwrap(), None);
    cache.set("a", &1).time_to_live(Duration::from_secs(5)).await.unwrap();
    let Ttl::Expires(left) = cache.ttl("a").await.unwrap() else { panic!("it has a life") };
    assert!(left > Duration::ZERO && left <= Duration::from_secs(5), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_invalidated_is_never_served_stale() {
    let prefix = unique("stale and invalidated");
    for cache in [revalidating(&prefix).await, falling_back(&prefix).await] {
        for way in 0..3 {
            stale(&cache).await;
            match way {
                0 => drop(cache.delete("a").await.unwrap()),
                1 => drop(cache.invalidate_tag("t").await.unwrap()),
                _ => drop(cache.clear(["a"]).await.unwrap()),
            }
            let error = cache.get_or_load("a", fails).await.unwrap_err();
            assert!(matches!(error, Error::Load(_)), "{way}: {error:?}");
            let loaded = cache.get_or_load("a", || number(2)).with_origin().await.unwrap();
            assert_eq!(loaded, LOADED, "{way}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_fails_is_not_tried_again_at_once_by_anybody() {
    let prefix = unique("failed refresh");
    let short = Duration::from_millis(500);
    let quick = async || {
        let cache = builder(&prefix).await.lease(short);
        cache.stale_while_revalidate(WINDOW).build().unwrap()
    };
    let (cache, other) = (quick().await, quick().await);
    stale(&cache).await;
    let began = Instant::now();
    assert_eq!(cache.get_or_load("a", fails).with_origin().await.unwrap(), STALE);
    let mut asked = 0;
    let tried = AtomicU64::new(0);
    while tried.load(Ordering::SeqCst) == 0 {
        for cache in [&cache, &other] {
            let load = async || {
                tried.fetch_add(1, Ordering::SeqCst);
                fails().await
            };
            assert_eq!(cache.get_or_load("a", load).with_origin().await.unwrap(), STALE);
            asked += 1;
        }
    }
    assert!(began.elapsed() >= short, "it was left alone for {:?}", began.elapsed());
    assert!(asked > 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stale_is_served_when_its_loader_fails_or_takes_too_long() {
    let prefix = unique("fallback");
    let (cache, other) = (falling_back(&prefix).await, falling_back(&prefix).await);
    assert!(matches!(cache.get_or_load("a", fails).await, Err(Error::Load(_))), "nothing is there");
    stale(&cache).await;
    assert_eq!(cache.get_or_load("a", fails).with_origin().await.unwrap(), STALE);
    assert_eq!(other.get_or_load("a", never).with_origin().await.unwrap(), STALE, "left alone");
    assert_eq!(cache.statistics().served_stale, 1);

    cache.delete("a").await.unwrap();
    stale(&cache).await;
    let loaded = cache.get_or_load("a", || number(2)).with_origin().await.unwrap();
    assert_eq!(loaded, LOADED, "it is loaded where that works");

    let impatient = builder(&prefix).await.stale_if_error(WINDOW);
    let impatient = impatient.load_timeout(Duration::from_millis(20)).build().unwrap();
    stale(&impatient).await;
    let hangs = async || std::future::pending::<Result<u64, std::io::Error>>().await;
    assert_eq!(impatient.get_or_load("a", hangs).with_origin().await.unwrap(), STALE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_wait_for_a_load_that_fails_are_each_served_what_is_stale() {
    let prefix = unique("fallback of many");
    let cache = falling_back(&prefix).await;
    stale(&cache).await;
    let gate = Arc::new(Gate::default());
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let (cache, gate) = (cache.clone(), Arc::clone(&gate));
            let load = async move || match gate.pass(0).await {
                Ok(_) => fails().await,
                error => error,
            };
            tokio::spawn(async move { cache.get_or_load("a", load).with_origin().await.unwrap() })
        })
        .collect();
    let missed = cache.clone();
    until("all have missed", move || missed.statistics().misses == 10).await;
    gate.open();
    for task in tasks {
        assert_eq!(task.await.unwrap(), STALE);
    }
    assert_eq!(cache.statistics().load_failures, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_is_loaded_anew_before_its_end() {
    let prefix = unique("early");
    let cache = builder(&prefix).await.early_refresh(true).time_to_live(WINDOW).build().unwrap();
    let takes = |millis| {
        async move || {
            let takes = Duration::from_millis(millis);
            crate::rest(takes).await;
            number(2).await
        }
    };
    // It took so long to load that the rest of its life is short beside it.
    let first = cache.get_or_load("a", takes(300)).time_to_live(Duration::from_millis(600));
    assert_eq!(first.with_origin().await.unwrap(), LOADED);
    let mut reads = 0;
    loop {
        reads += 1;
        match cache.get_or_load("a", || number(3)).with_origin().await.unwrap() {
            Fetched { value: 2, origin: Origin::Cached } => {}
            other => break assert_eq!(other, Fetched { value: 3, origin: Origin::Loaded }),
        }
    }
    assert!(reads > 0 && cache.statistics().misses == 1, "it was there still, after {reads} reads");
    // It took no time now, so it is not loaded anew.
    assert_eq!(cache.get_or_load("a", never).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_say_what_time_it_is_has_fresh_entries_only() {
    let server = Server::start().unwrap();
    let rights = ["ACL", "SETUSER", "timeless", "on", "nopass", "+@all", "-time", "~*", "&*"];
    server.command(rights).unwrap();
    let config = Config::builder().url(server.url()).username("timeless").password("any");
    let cache = |conn| {
        let cache = Cache::<u64>::builder(conn, "products").redis_timeout(PATIENCE);
        cache.stale_while_revalidate(WINDOW).build().unwrap()
    };
    let timely = cache(Conn::connect(server.url()).await.unwrap());
    stale(&timely).await;
    let timeless = cache(Conn::connect(config).await.unwrap());
    let before = server.command_counts().unwrap();
    assert_eq!(timeless.get_or_load("a", never).with_origin().await.unwrap(), CACHED);
    assert_eq!(timeless.get_many(["a", "a", "a"]).await.unwrap(), [Some(1); 3]);
    let after = server.command_counts().unwrap();
    assert_eq!(after.of("time") - before.of("time"), 0, "it was refused");
    // What such a user stores is fresh until it is gone, whoever reads it.
    for tags in [vec![], vec!["t"]] {
        timeless.set("b", &2).time_to_live(WINDOW).tags(&tags).await.unwrap();
        assert_eq!(timely.get("b").await.unwrap(), Some(2));
    }
    let loaded = timeless.get_or_load("c", || number(2)).with_origin().await.unwrap();
    assert_eq!(loaded, LOADED);
    assert_eq!(timely.get("c").await.unwrap(), Some(2));
}

/// Readers in three processes, each of whom reads every three milliseconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_read_all_the_time_is_loaded_once_in_its_life_and_nobody_waits() {
    const TAKES: Duration = Duration::from_millis(50);
    let (life, lives) = match is_long() {
        true => (Duration::from_secs(2), 20),
        false => (Duration::from_millis(500), 6),
    };
    let prefix = unique("storm");
    let loads = Arc::new(AtomicU64::new(0));
    let load = || {
        let loads = Arc::clone(&loads);
        async move || {
            loads.fetch_add(1, Ordering::SeqCst);
            crate::rest(TAKES).await;
            number(1).await
        }
    };
    let mut caches = Vec::new();
    for _ in 0..3 {
        let cache = builder(&prefix).await.stale_while_revalidate(WINDOW).time_to_live(life);
        caches.push(cache.build().unwrap());
    }
    caches[0].get_or_load("a", load()).await.unwrap();
    let began = Instant::now();
    let readers: Vec<_> = caches
        .iter()
        .map(|cache| {
            let (cache, load) = (cache.clone(), load());
            let mut ticks = interval(Duration::from_millis(3));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            tokio::spawn(async move {
                let mut served = [0, 0];
                while began.elapsed() < life * lives {
                    ticks.tick().await;
                    let read = cache
                        .get_or_load("a", load.clone())
                        .refresh_in_background()
                        .with_origin()
                        .await
                        .unwrap();
                    match read.origin {
                        Origin::Cached => served[0] += 1,
                        Origin::Stale => served[1] += 1,
                        other => panic!("a read has waited: {other:?}"),
                    }
                }
                served
            })
        })
        .collect();
    let mut served = [0, 0];
    for reader in readers {
        let own = reader.await.unwrap();
        served = [served[0] + own[0], served[1] + own[1]];
    }
    let loads = loads.load(Ordering::SeqCst);
    // One at first, and then at most one in each life.
    assert!((2..=u64::from(lives) + 1).contains(&loads), "{loads} loads");
    assert!(served.iter().all(|count| *count > 0), "{served:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_invalidated_while_its_load_failed_is_not_served() {
    let prefix = unique("stale and deleted meanwhile");
    for (all, errs) in [(false, false), (false, true), (true, false), (true, true)] {
        let cache = if errs { falling_back(&prefix).await } else { revalidating(&prefix).await };
        stale(&cache).await;
        let gate = Arc::new(Gate::default());
        let failing = tokio::spawn({
            let (cache, gate) = (cache.clone(), Arc::clone(&gate));
            let loader = async move || match gate.pass(0).await {
                Ok(_) => fails().await,
                error => error,
            };
            async move { cache.get_or_load("a", loader).await }
        });
        gate.entered().await;
        match all {
            true => assert_eq!(cache.clear_all().await.unwrap(), 1),
            false => assert!(cache.delete("a").await.unwrap()),
        }
        gate.open();
        assert!(matches!(failing.await.unwrap(), Err(Error::Load(_))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_is_served_stale_only_where_a_setting_says_so() {
    let prefix = unique("stale by setting");
    stale(&falling_back(&prefix).await).await;
    let brief = builder(&prefix).await.stale_while_revalidate(Duration::from_millis(1));
    for other in [brief, builder(&prefix).await.early_refresh(true)] {
        let other = other.build().unwrap();
        assert!(matches!(other.get_or_load("a", fails).await, Err(Error::Load(_))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_nothing_to_go_on_with_loads_although_others_have_just_failed() {
    let prefix = unique("failed and nothing");
    let (cache, other) = (falling_back(&prefix).await, falling_back(&prefix).await);
    for round in 0..20 {
        stale(&cache).await;
        assert_eq!(cache.get_or_load("a", fails).with_origin().await.unwrap(), STALE);
        let spare = other.get_or_load("a", never).with_origin().into_future();
        // There is no entry with this tag.
        let bare = other.get_or_load("a", || number(2)).tags(["other"]).with_origin();
        let (spare, bare) = tokio::join!(spare, bare.into_future());
        assert_eq!(bare.unwrap().value, 2, "{round}");
        // By then, the other one may have loaded.
        assert!([1, 2].contains(&spare.unwrap().value));
        cache.delete("a").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_cannot_be_stored_says_so_and_is_left_alone() {
    let server = Arc::new(Server::start().unwrap());
    let cache = Cache::builder(Conn::connect(server.url()).await.unwrap(), "products");
    let cache = cache.redis_timeout(PATIENCE).stale_while_revalidate(WINDOW).build().unwrap();
    stale(&cache).await;
    let full = Arc::clone(&server);
    let load = async move || {
        full.command(["CONFIG", "SET", "maxmemory", "1"]).unwrap();
        number(2).await
    };
    let loaded = cache.get_or_load("a", load).with_origin().await.unwrap();
    assert_eq!(loaded, Fetched { value: 2, origin: Origin::Bypassed });
    assert_eq!(cache.statistics().bypassed, 1);
    assert_eq!(cache.get_or_load("a", never).with_origin().await.unwrap(), STALE);

    // Nor can it be noted that a load has failed: then it is as if none had begun.
    server.command(["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    let cache = Cache::builder(Conn::connect(server.url()).await.unwrap(), "products");
    let cache = cache.redis_timeout(PATIENCE).stale_if_error(WINDOW).lease(PATIENCE * 3);
    let cache = cache.build().unwrap();
    cache.delete("a").await.unwrap();
    stale(&cache).await;
    let full = Arc::clone(&server);
    let load = async move || {
        full.command(["CONFIG", "SET", "maxmemory", "1"]).unwrap();
        fails().await
    };
    assert_eq!(cache.get_or_load("a", load).with_origin().await.unwrap(), STALE);
    server.command(["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    let loading = cache.get_or_load("a", || number(2)).with_origin().into_future();
    let loaded = tokio::time::timeout(PATIENCE, loading).await.expect("no lease is left").unwrap();
    assert_eq!(loaded, LOADED);
}
