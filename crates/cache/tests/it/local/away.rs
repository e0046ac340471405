//! What is given where Redis cannot be asked, and that nothing is taken back which was found out.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use redbrick_cache::{Cache, Local};
use redbrick_core_conn::{Config, Conn};
use redbrick_testkit::Server;
use tokio::time::Instant;

use super::{builder, connect, origin, until_is, until_kept};
use crate::{Gate, PATIENCE, never, number, rest, silent_server};

const BOUND: Duration = Duration::from_millis(100);
const QUICK: Duration = Duration::from_millis(200);

/// A cache that gives what it keeps for long where nobody says what changes.
async fn lenient(url: &str) -> Cache<u64> {
    let config = Config::builder().url(url).command_timeout(QUICK);
    let local = Local::new().bound(BOUND).max_staleness(PATIENCE * 10);
    let cache = Cache::builder(Conn::connect(config).await.unwrap(), "products").local(local);
    cache.build().unwrap()
}

async fn other(url: &str) -> Cache<u64> {
    crate::patient(Conn::connect(url).await.unwrap())
}

async fn fails() -> Result<u64, io::Error> {
    Err(io::Error::other("the source is away too"))
}

/// The keys of these that are loaded, and their values.
async fn many(
    cache: &Cache<u64>,
    keys: &[&'static str],
    tags: &[&str],
) -> (Vec<&'static str>, Vec<Option<u64>>) {
    let loaded = Mutex::new(Vec::new());
    let load = async |missing: Vec<&'static str>| {
        loaded.lock().unwrap().extend(missing.clone());
        Ok::<_, io::Error>(missing.into_iter().map(|key| (key, 2)).collect())
    };
    let values = cache.get_or_load_many(keys.to_vec(), load).tags(tags).await.unwrap();
    (loaded.into_inner().unwrap(), values)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_keys_those_that_are_kept_are_given_while_the_server_is_away() {
    let server = Server::start().unwrap();
    let cache = lenient(&server.url()).await;
    let local = Local::new().bound(BOUND);
    let strict = builder(
        Conn::connect(Config::builder().url(server.url()).command_timeout(QUICK)).await.unwrap(),
    );
    let strict = strict.local(local).build().unwrap();
    cache.set("plain", &1).await.unwrap();
    cache.set("tagged", &1).tags(["x"]).await.unwrap();
    for key in ["plain", "tagged"] {
        until_kept(&cache, key).await;
    }
    until_kept(&strict, "plain").await;
    server.kill().unwrap();
    super::until_silent(&strict, "plain").await;
    let (kept, loaded) = (Some(1), Some(2));
    assert_eq!(many(&cache, &["plain"], &[]).await, (vec![], vec![kept]));
    assert_eq!(many(&cache, &["tagged"], &["x"]).await, (vec![], vec![kept]));
    let some = many(&cache, &["missing", "plain"], &[]).await;
    assert_eq!(some, (vec!["missing"], vec![loaded, kept]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_left_alone_whatever_is_kept() {
    let server = Server::start().unwrap();
    let proxy = server.proxy().unwrap();
    // So long that nobody asks whether the server is there.
    let local = Local::new().bound(PATIENCE * 10);
    let cache = Cache::builder(Conn::connect(proxy.url()).await.unwrap(), "products").local(local);
    let cache = cache.redis_timeout(Duration::from_millis(50)).build().unwrap();
    cache.set("a", &1).await.unwrap();
    until_kept(&cache, "a").await;
    let _paused = server.pause().unwrap();
    for n in 0..6 {
        cache.get_or_load(format!("first {n}"), || number(1)).await.unwrap();
    }
    // Once a second it is asked all the same.
    let (began, mut asked) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_millis(1500) {
        let before = proxy.request_bytes();
        assert_eq!(many(&cache, &["a"], &[]).await, (vec![], vec![Some(1)]));
        cache.get_or_load(format!("then {asked}"), || number(1)).await.unwrap();
        asked += u64::from(proxy.request_bytes() > before);
        tokio::task::yield_now().await;
    }
    // What is kept is no answer of the server's. The link and the clock ask for themselves.
    assert!(asked < 8, "it is asked {asked} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_fresh_is_given_where_it_cannot_be_loaded_anew() {
    let server = Server::start().unwrap();
    let config = Config::builder().url(server.url()).command_timeout(QUICK);
    let local = Local::new().max_staleness(PATIENCE * 10);
    let cache = Cache::builder(Conn::connect(config).await.unwrap(), "products");
    let cache = cache.early_refresh(true).local(local).build().unwrap();
    let life = Duration::from_secs(3);
    let load = || async {
        rest(Duration::from_millis(500)).await;
        number(1).await
    };
    let stored = Instant::now();
    assert_eq!(cache.get_or_load("a", load).time_to_live(life).await.unwrap(), 1);
    until_kept(&cache, "a").await;
    server.kill().unwrap();
    let (mut tried, tries) = (0, Mutex::new(0));
    while stored.elapsed() < life / 2 {
        let load = || async {
            *tries.lock().unwrap() += 1;
            fails().await
        };
        assert_eq!(cache.get_or_load("a", load).await.unwrap(), 1, "it is fresh");
        tried += 1;
        tokio::task::yield_now().await;
    }
    assert!(*tries.lock().unwrap() > 0, "it was never time to load it anew, of {tried} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_all_was_flushed_stays_known_while_the_server_is_away() {
    let server = Server::start().unwrap();
    let cache = lenient(&server.url()).await;
    for key in ["a", "b"] {
        cache.set(key, &1).await.unwrap();
        until_kept(&cache, key).await;
    }
    server.command(["FLUSHALL"]).unwrap();
    until_is(&cache, "b", None).await;
    cache.set("c", &3).await.unwrap();
    until_kept(&cache, "c").await;
    server.kill().unwrap();
    let away = Instant::now();
    while away.elapsed() < BOUND * 5 {
        assert_ne!(cache.get("a").await.ok().flatten(), Some(1), "it was flushed");
        assert_eq!(cache.get("c").await.unwrap(), Some(3), "it was stored after that");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_found_to_be_gone_or_replaced_is_not_given_any_more() {
    let (_server, url) = silent_server();
    let (cache, other) = (lenient(&url).await, other(&url).await);
    let keep = async || {
        other.set("a", &1).await.unwrap();
        until_is(&cache, "a", Some(1)).await;
    };
    // A tag that it lacks has whoever names it look in Redis.
    keep().await;
    assert!(other.delete("a").await.unwrap());
    cache.get_or_load("a", fails).tags(["x"]).await.unwrap_err();
    assert_eq!(cache.get("a").await.unwrap(), None);

    keep().await;
    assert!(other.delete("a").await.unwrap());
    let none = async |_| Ok::<_, io::Error>(Vec::new());
    assert_eq!(cache.get_or_load_many(["a"], none).tags(["x"]).await.unwrap(), [None]);
    assert_eq!(cache.get("a").await.unwrap(), None);

    keep().await;
    other.set("a", &2).tags(["x"]).await.unwrap();
    assert_eq!(cache.get_or_load("a", never).tags(["x"]).await.unwrap(), 2);
    assert_eq!(origin(&cache, "a").await, redbrick_cache::Origin::Local);
    assert_eq!(cache.get("a").await.unwrap(), Some(2));

    // After a delete nobody looks before asking for the lease.
    assert!(cache.delete("a").await.unwrap());
    keep().await;
    other.set("a", &2).tags(["x"]).await.unwrap();
    assert_eq!(cache.get_or_load("a", never).tags(["x"]).await.unwrap(), 2);
    assert_eq!(cache.get("a").await.unwrap(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_process_has_loaded_meanwhile_is_given_from_then_on() {
    let (_server, url) = silent_server();
    let (cache, other) = (lenient(&url).await, other(&url).await);
    other.set("a", &1).await.unwrap();
    until_is(&cache, "a", Some(1)).await;
    let gate = Arc::new(Gate::default());
    let loading = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { other.get_or_load("a", || gate.pass(3)).tags(["y"]).await.unwrap() }
    });
    gate.entered().await;
    let waits = cache.clone();
    let (waited, ()) =
        tokio::join!(cache.get_or_load("a", never).tags(["y"]).into_future(), async {
            crate::until("it waits for the load", move || waits.statistics().waits == 1).await;
            gate.open();
        });
    assert_eq!((loading.await.unwrap(), waited.unwrap()), (3, 3));
    assert_eq!(cache.get("a").await.unwrap(), Some(3));
}

#[test]
fn somebody_listens_anew_where_values_are_given_all_the_time() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let (lasting, passing) = (runtime(), runtime());
    let server = Server::start().unwrap();
    let (cache, other) = lasting.block_on(async {
        (lenient(&server.url()).await, crate::patient::<u64>(connect(&server).await))
    });
    passing.block_on(async {
        cache.set("a", &1).await.unwrap();
        until_kept(&cache, "a").await;
    });
    drop(passing);
    lasting.block_on(async {
        other.set("a", &2).await.unwrap();
        until_is(&cache, "a", Some(2)).await;
    });
}
