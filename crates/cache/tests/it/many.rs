//! Many keys at once, and one load for those that are missing.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use redbrick_cache::{Cache, Error, Loaded};
use redbrick_core_conn::{Conn, Ttl};
use redbrick_testkit::{Server, unique};

use crate::{Gate, PATIENCE, connect_below, never, number, numbers, numbers_below, patient};

/// A loader that returns the number that a key is, and remembers what it was asked for.
#[derive(Default)]
struct Source(Mutex<Vec<Vec<String>>>);

impl Source {
    async fn load(&self, keys: Vec<&str>) -> io::Result<Vec<(String, u64)>> {
        self.0.lock().unwrap().push(keys.iter().map(ToString::to_string).collect());
        let numbers = keys.into_iter().filter_map(|key| Some((key.to_owned(), key.parse().ok()?)));
        Ok(numbers.collect())
    }

    /// What it was asked for since this was asked.
    fn asked(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

async fn get(cache: &Cache<u64>, source: &Source, keys: &[&str]) -> Vec<Option<u64>> {
    let keys = keys.iter().map(ToString::to_string);
    let load =
        async |keys: Vec<String>| source.load(keys.iter().map(String::as_str).collect()).await;
    cache.get_or_load_many(keys, load).await.unwrap()
}

#[tokio::test]
async fn what_is_missing_is_loaded_together_and_once() {
    let (cache, source) = (numbers("together").await, Source::default());
    cache.set("2", &22).await.unwrap();
    let got = get(&cache, &source, &["1", "2", "none", "3", "1"]).await;
    assert_eq!(got, [Some(1), Some(22), None, Some(3), Some(1)]);
    assert_eq!(source.asked(), [["1", "none", "3"]]);
    // Of a key without a value nothing is stored.
    let got = get(&cache, &source, &["3", "none", "1", "none"]).await;
    assert_eq!(got, [Some(3), None, Some(1), None]);
    assert_eq!(source.asked(), [["none"]]);
    assert_eq!(get(&cache, &source, &["1", "2", "3"]).await, [Some(1), Some(22), Some(3)]);
    assert!(source.asked().is_empty());
    assert_eq!(get(&cache, &source, &[]).await, []);
    // Nothing is in the way of others.
    assert_eq!(cache.get_or_load("none", || number(4)).await.unwrap(), 4);
}

#[tokio::test]
async fn they_cost_what_one_costs_in_round_trips() {
    let server = Server::start().unwrap();
    let cache: Cache<u64> = patient(Conn::connect(server.url()).await.unwrap());
    let source = Source::default();
    get(&cache, &source, &["0"]).await;
    let cost = async |keys: &[&str]| {
        server.cost(async { drop(get(&cache, &source, keys).await) }).await.unwrap()
    };
    // A script each, which leave together.
    assert_eq!(cost(&["1", "2"]).await, "evalsha 4, get 2, getrange 2, mget 1, set 4");
    assert_eq!(cost(&["1", "2"]).await, "mget 1");
}

#[tokio::test]
async fn a_thousand_are_loaded_at_once() {
    let (cache, source) = (numbers("thousand").await, Source::default());
    let keys: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let expected: Vec<Option<u64>> = (0..1000).map(Some).collect();
    assert_eq!(get(&cache, &source, &keys).await, expected);
    assert_eq!(source.asked().len(), 1);
    assert_eq!(get(&cache, &source, &keys).await, expected);
    assert!(source.asked().is_empty());
}

#[tokio::test]
async fn life_and_tags_are_those_of_the_call() {
    let prefix = unique("life_many");
    let (cache, other) = (numbers_below(&prefix).await, numbers_below(&prefix).await);
    let life = Duration::from_secs(5);
    let load = async |keys: Vec<&'static str>| {
        Ok::<_, Error>(keys.into_iter().map(|key| (key, 1)).collect())
    };
    let get = async |cache: &Cache<u64>| {
        let got = cache.get_or_load_many(["a", "b"], load).time_to_live(life).tags(["t"]);
        got.await.unwrap()
    };
    // One without the tag does not count.
    cache.set("a", &2).await.unwrap();
    assert_eq!(get(&cache).await, [Some(1), Some(1)]);
    assert!(matches!(cache.ttl("a").await.unwrap(), Ttl::Expires(left) if left <= life));
    assert_eq!(get(&other).await, [Some(1), Some(1)]);
    assert_eq!(other.statistics().loads, 0);
    assert!(other.invalidate_tag("t").await.unwrap());
    assert_eq!(cache.get_many(["a", "b"]).await.unwrap(), [None, None]);
    let refused = cache.get_or_load_many(["a"], load).time_to_live(Duration::ZERO).await;
    assert!(matches!(refused, Err(Error::InvalidDuration)));
}

#[tokio::test]
async fn a_loader_says_of_each_value_how_long_it_lives_and_what_its_tags_are() {
    let cache = numbers("each").await;
    let life = Duration::from_secs(5);
    let load = async |keys: Vec<&'static str>| {
        let loaded = keys.into_iter().map(|key| match key {
            "a" => (key, Loaded::new(1).time_to_live(life)),
            tag => (key, Loaded::new(2).tags([tag])),
        });
        Ok::<_, Error>(loaded.collect())
    };
    let get = async || cache.get_or_load_many_with(["a", "b", "c"], load).await.unwrap();
    assert_eq!(get().await, [Some(1), Some(2), Some(2)]);
    assert!(matches!(cache.ttl("a").await.unwrap(), Ttl::Expires(left) if left <= life));
    // Tags that are new here may have been invalidated meanwhile.
    assert_eq!(cache.get_many(["b", "c"]).await.unwrap(), [None, None]);
    assert_eq!(get().await, [Some(1), Some(2), Some(2)]);
    assert!(cache.invalidate_tag("b").await.unwrap());
    assert_eq!(cache.get_many(["a", "b", "c"]).await.unwrap(), [Some(1), None, Some(2)]);
    let endless = async |_| Ok::<_, Error>(vec![("d", Loaded::new(1).time_to_live(Duration::MAX))]);
    let refused = cache.get_or_load_many_with(["d"], endless).await;
    assert!(matches!(refused, Err(Error::InvalidDuration)));
    assert_eq!(cache.get_or_load("d", || number(4)).await.unwrap(), 4, "nothing is in the way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_load_is_waited_for_after_the_rest() {
    let prefix = unique("others");
    let (cache, other) = (numbers_below(&prefix).await, numbers_below(&prefix).await);
    for cache_of_other in [cache.clone(), other] {
        let gate = Arc::new(Gate::default());
        let loading = {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { cache_of_other.get_or_load("1", || gate.pass(11)).await })
        };
        gate.entered().await;
        let source = Arc::new(Source::default());
        let getting = {
            let (cache, source) = (cache.clone(), Arc::clone(&source));
            tokio::spawn(async move { get(&cache, &source, &["1", "2"]).await })
        };
        while cache.get("2").await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        assert!(!getting.is_finished());
        gate.open();
        assert_eq!(getting.await.unwrap(), [Some(11), Some(2)]);
        assert_eq!(loading.await.unwrap().unwrap(), 11);
        assert_eq!(source.asked(), [["2"]]);
        cache.delete_many(["1", "2"]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_fail_to_load_is_loaded() {
    let prefix = unique("others_fail");
    let (cache, other) = (numbers_below(&prefix).await, numbers_below(&prefix).await);
    let gate = Arc::new(Gate::default());
    let loading = {
        let gate = Arc::clone(&gate);
        let load = async move || gate.pass(0).await.and(Err::<u64, _>(io::Error::other("no luck")));
        tokio::spawn(async move { other.get_or_load("1", load).await })
    };
    gate.entered().await;
    let source = Arc::new(Source::default());
    let getting = {
        let (cache, source) = (cache.clone(), Arc::clone(&source));
        tokio::spawn(async move { get(&cache, &source, &["1", "2"]).await })
    };
    let looking = numbers_below(&prefix).await;
    while looking.get("2").await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    gate.open();
    assert!(loading.await.unwrap().is_err());
    assert_eq!(getting.await.unwrap(), [Some(1), Some(2)]);
    let counted = cache.statistics();
    assert_eq!((counted.hits, counted.misses), (0, 2), "each is counted once");
    let asked: BTreeSet<Vec<String>> = source.asked().into_iter().collect();
    assert_eq!(asked, BTreeSet::from([vec!["1".to_owned()], vec!["2".to_owned()]]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_want_the_same_in_any_order_load_each_once() {
    let prefix = unique("orders");
    let caches = [numbers_below(&prefix).await, numbers_below(&prefix).await];
    for round in 0..20 {
        let source = Arc::new(Source::default());
        let keys: Vec<String> = (0..20).map(|n| (round * 20 + n).to_string()).collect();
        let calls: Vec<_> = (0..8)
            .map(|n| {
                let (cache, source) = (caches[n % 2].clone(), Arc::clone(&source));
                let mut keys = keys.clone();
                keys.rotate_left(n * 2);
                if n % 3 == 0 {
                    keys.reverse();
                }
                tokio::spawn(async move {
                    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                    let got = get(&cache, &source, &keys).await;
                    assert!(got.iter().zip(keys).all(|(got, key)| *got == key.parse().ok()));
                })
            })
            .collect();
        for call in calls {
            tokio::time::timeout(PATIENCE, call).await.expect("nobody waits for ever").unwrap();
        }
        let mut asked: Vec<String> = source.asked().concat();
        asked.sort_unstable();
        let mut each = keys;
        each.sort_unstable();
        assert_eq!(asked, each);
    }
}

#[tokio::test]
async fn an_error_is_told_and_leaves_nothing_in_the_way() {
    let prefix = unique("fails_many");
    let (cache, other) = (numbers_below(&prefix).await, numbers_below(&prefix).await);
    let fails = async |_| Err::<Vec<(&str, u64)>, _>(io::Error::other("no luck"));
    let failed = cache.get_or_load_many(["a", "b"], fails).await.unwrap_err();
    assert_eq!(failed.loader_error().unwrap().to_string(), "no luck");
    assert_eq!(other.get_or_load("a", || number(1)).await.unwrap(), 1);
    assert_eq!(cache.get_or_load("b", || number(2)).await.unwrap(), 2);
    // Dropped, as well.
    let hangs = async |_| std::future::pending::<Result<Vec<(&str, u64)>, io::Error>>().await;
    let call = cache.get_or_load_many(["c", "d"], hangs).into_future();
    assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
    assert_eq!(other.get_or_load("c", || number(3)).await.unwrap(), 3);
    assert_eq!(cache.get_or_load("d", || number(4)).await.unwrap(), 4);
}

#[tokio::test]
async fn what_is_invalidated_meanwhile_is_not_stored() {
    let prefix = unique("meanwhile_many");
    let (cache, other) = (numbers_below(&prefix).await, numbers_below(&prefix).await);
    let load = async |keys: Vec<&'static str>| {
        assert!(!other.delete("a").await?);
        Ok::<_, Error>(keys.into_iter().map(|key| (key, 1)).collect())
    };
    assert_eq!(cache.get_or_load_many(["a", "b"], load).await.unwrap(), [Some(1), Some(1)]);
    assert_eq!(other.get_many(["a", "b"]).await.unwrap(), [None, Some(1)]);
    assert_eq!(cache.statistics().refused_fills, 1);
}

#[tokio::test]
async fn what_is_past_its_time_is_loaded_with_the_rest_or_served() {
    let prefix = unique("stale_many");
    let window = Duration::from_secs(60);
    let cache = Cache::builder(connect_below(&prefix).await, "products").redis_timeout(PATIENCE);
    let cache: Cache<u64> = cache.stale_while_revalidate(window).build().unwrap();
    let stale = async || {
        cache.set("a", &1).time_to_live(Duration::from_millis(1)).await.unwrap();
        while cache.exists("a").await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    let all = async |number: u64, keys: Vec<&'static str>| {
        Ok::<_, Error>(keys.into_iter().map(|key| (key, number)).collect::<Vec<_>>())
    };
    stale().await;
    let both = cache.get_or_load_many(["a", "b"], async |keys| all(2, keys).await);
    assert_eq!(both.await.unwrap(), [Some(2), Some(2)]);
    assert_eq!(cache.get_or_load("a", never).await.unwrap(), 2);
    assert_eq!(cache.statistics().loads, 1);
    stale().await;
    let fails = async |_| Err::<Vec<(&str, u64)>, _>(io::Error::other("no luck"));
    let served = cache.get_or_load_many(["a", "b"], fails).await.unwrap();
    assert_eq!(served, [Some(1), Some(2)]);
    // And it is left alone for a while.
    let never = async |_| -> Result<Vec<(&str, u64)>, Error> { panic!("it has just failed") };
    let served = cache.get_or_load_many(["a", "b"], never);
    assert_eq!(served.await.unwrap(), [Some(1), Some(2)]);
}

#[tokio::test]
async fn without_redis_one_load_brings_all() {
    let server = Server::start().unwrap();
    let conn = Conn::connect(server.url()).await.unwrap();
    let cache: Cache<u64> = Cache::new(conn, "products");
    let source = Source::default();
    cache.set("1", &11).await.unwrap();
    server.kill().unwrap();
    assert_eq!(get(&cache, &source, &["1", "2", "none"]).await, [Some(1), Some(2), None]);
    assert_eq!(source.asked(), [["1", "2", "none"]]);
}

#[tokio::test]
async fn what_is_filled_in_the_background_is_waited_for_by_who_comes_next() {
    let cache = Cache::builder(connect_below(&unique("background_fill")).await, "products");
    let cache = cache.redis_timeout(PATIENCE).fill_in_background(true).build().unwrap();
    for n in 0..50 {
        let key = n.to_string();
        assert_eq!(cache.get_or_load(&key, || number(n)).await.unwrap(), n);
        assert_eq!(cache.get_or_load(&key, never).await.unwrap(), n);
        assert_eq!(cache.get(&key).await.unwrap(), Some(n));
    }
    let source = Source::default();
    assert_eq!(get(&cache, &source, &["100", "101"]).await, [Some(100), Some(101)]);
    assert_eq!(get(&cache, &source, &["100", "101"]).await, [Some(100), Some(101)]);
    assert_eq!(source.asked().len(), 1);
}
