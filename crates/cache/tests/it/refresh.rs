//! Loading anew on purpose, and lives that differ a little.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use redbrick_cache::{Cache, Error, Fetched, Origin};
use redbrick_core_conn::Ttl;
use redbrick_testkit::unique;

use crate::{Gate, connect_below, never, number, numbers_below, race::Load, until};

const LOADED: Fetched<u64> = Fetched { value: 2, origin: Origin::Loaded };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_loads_also_what_is_there_and_others_have_that_meanwhile() {
    let prefix = unique("refresh");
    let cache = numbers_below(&prefix).await;
    assert_eq!(cache.refresh("a", || number(1)).await.unwrap(), 1, "nothing was there");
    let gate = Arc::new(Gate::default());
    let refreshing = tokio::spawn({
        let (cache, gate) = (cache.clone(), Arc::clone(&gate));
        async move { cache.refresh("a", || gate.pass(2)).with_origin().await.unwrap() }
    });
    gate.entered().await;
    assert_eq!(cache.get_or_load("a", never).await.unwrap(), 1);
    gate.open();
    assert_eq!(refreshing.await.unwrap(), LOADED);
    assert_eq!(numbers_below(&prefix).await.get("a").await.unwrap(), Some(2));

    let fails = async || Err::<u64, _>(std::io::Error::other("no luck"));
    assert!(matches!(cache.refresh("a", fails).await, Err(Error::Load(_))));
    assert_eq!(cache.get("a").await.unwrap(), Some(2), "what was there stays");
    assert_eq!(cache.statistics().misses, 0, "nobody has missed anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_waits_for_the_load_of_another_process_and_takes_what_it_stores() {
    let prefix = unique("refresh of two");
    let (cache, other) = (numbers_below(&prefix).await, numbers_below(&prefix).await);
    cache.set("a", &1).await.unwrap();
    let gate = Arc::new(Gate::default());
    let loading = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { other.refresh("a", || gate.pass(2)).await.unwrap() }
    });
    gate.entered().await;
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.refresh("a", never).with_origin().await.unwrap() }
    });
    until("it waits", move || cache.statistics().waits == 1).await;
    gate.open();
    assert_eq!(loading.await.unwrap(), 2);
    assert_eq!(waiting.await.unwrap(), Fetched { value: 2, origin: Origin::Cached });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_deleted_while_it_is_refreshed_stays_away() {
    let prefix = unique("refresh and delete");
    let cache = numbers_below(&prefix).await;
    cache.set("a", &1).await.unwrap();
    let gate = Arc::new(Gate::default());
    let refreshing = tokio::spawn({
        let (cache, gate) = (cache.clone(), Arc::clone(&gate));
        async move { cache.refresh("a", || gate.pass(2)).await.unwrap() }
    });
    gate.entered().await;
    assert!(cache.delete("a").await.unwrap());
    gate.open();
    assert_eq!(refreshing.await.unwrap(), 2);
    assert_eq!(cache.get("a").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_here_and_loaded_elsewhere_is_found() {
    let prefix = unique("deleted here");
    let cache = numbers_below(&prefix).await;
    cache.delete("a").await.unwrap();
    assert_eq!(Load::begin(&prefix, 1).await.end().await.value, 1);
    let found = cache.get_or_load("a", never).with_origin().await.unwrap();
    assert_eq!(found, Fetched { value: 1, origin: Origin::Cached });
}

#[tokio::test]
async fn entries_that_are_stored_together_do_not_end_together_where_that_is_wanted() {
    let conn = connect_below(&unique("jitter")).await;
    let (life, jitter) = (Duration::from_secs(100), Duration::from_secs(1000));
    let cache: Cache<u64> =
        Cache::builder(conn, "products").time_to_live(life).jitter(jitter).build().unwrap();
    let keys: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    cache.set_many(keys.iter().map(|key| (key, &1))).tags(["t"]).await.unwrap();
    let mut lives = BTreeSet::new();
    for key in &keys {
        let Ttl::Expires(left) = cache.ttl(key).await.unwrap() else { panic!("it has a life") };
        assert!(left > life - Duration::from_secs(20) && left <= life + jitter, "{left:?}");
        lives.insert(left.as_secs());
    }
    assert!(lives.len() > 10, "{lives:?}");
}
