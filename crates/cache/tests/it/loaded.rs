//! What a loader says of its value, and what it is given.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{io, sync::Arc, time::Duration};

use redbrick_cache::{Cache, Error, Fetched, Loaded, Origin};
use redbrick_core_conn::Ttl;
use redbrick_testkit::unique;

use crate::{Gate, PATIENCE, connect_below, never, numbers, numbers_below};

const WINDOW: Duration = Duration::from_secs(60);

async fn with_tag(tag: &str) -> io::Result<Loaded<u64>> {
    Ok(Loaded::new(1).tags([tag]))
}

async fn keeping_what_is_over(prefix: &str) -> Cache<u64> {
    let cache = Cache::builder(connect_below(prefix).await, "products").redis_timeout(PATIENCE);
    cache.stale_if_error(WINDOW).build().unwrap()
}

/// Stores a 1 that is past its time to live.
async fn over(cache: &Cache<u64>) {
    cache.set("a", &1).time_to_live(Duration::from_millis(1)).tags(["t"]).await.unwrap();
    while cache.ttl("a").await.unwrap() != Ttl::Expires(Duration::ZERO)
        || cache.exists("a").await.unwrap()
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_loader_says_how_long_its_value_lives() {
    let cache = numbers("life").await;
    let life = Duration::from_secs(5);
    let load = async |_| Ok::<_, Error>(Loaded::new(1).time_to_live(life));
    assert_eq!(cache.get_or_load_with("a", load).await.unwrap(), 1);
    let Ttl::Expires(left) = cache.ttl("a").await.unwrap() else { panic!("it expires") };
    assert!(left <= life && left > Duration::ZERO, "{left:?}");
    let as_called = async |_| Ok::<_, Error>(2.into());
    cache.get_or_load_with("b", as_called).time_to_live(life * 2).await.unwrap();
    let Ttl::Expires(left) = cache.ttl("b").await.unwrap() else { panic!("it expires") };
    assert!(left > life && left <= life * 2, "{left:?}");
}

#[tokio::test]
async fn a_life_or_tags_that_cannot_be_are_errors_and_nothing_is_stored() {
    let cache = numbers("impossible").await;
    let endless = async |_| Ok::<_, Error>(Loaded::new(1).time_to_live(Duration::MAX));
    let refused = cache.get_or_load_with("a", endless).await.unwrap_err();
    assert!(matches!(refused, Error::InvalidDuration));
    let many = async |_| Ok::<_, Error>(Loaded::new(1).tags((0..1001).map(|n| n.to_string())));
    let refused = cache.get_or_load_with("a", many).await.unwrap_err();
    assert!(matches!(refused, Error::TooManyTags));
    assert!(!cache.exists("a").await.unwrap());
    // And the lease is free.
    assert_eq!(cache.get_or_load("a", async || Ok::<_, Error>(3)).await.unwrap(), 3);
}

#[tokio::test]
async fn tags_of_a_loader_count_once_its_process_knows_them() {
    let prefix = unique("tags");
    let (cache, other) = (numbers_below(&prefix).await, numbers_below(&prefix).await);
    let load = async |cache: &Cache<u64>, key: &'static str| {
        cache.get_or_load_with(key, async |_| with_tag("t").await).with_origin().await.unwrap()
    };
    let loaded = Fetched { value: 1, origin: Origin::Loaded };
    assert_eq!(load(&cache, "a").await, loaded);
    assert!(!cache.exists("a").await.unwrap(), "the tag may have been invalidated meanwhile");
    assert_eq!(cache.statistics().refused_fills, 1);
    assert_eq!(load(&cache, "a").await, loaded);
    assert!(cache.exists("a").await.unwrap(), "it is known by now");
    assert_eq!(load(&cache, "b").await, loaded);
    assert!(cache.exists("b").await.unwrap());
    assert_eq!(other.get_or_load("a", never).await.unwrap(), 1);

    assert!(other.invalidate_tag("t").await.unwrap());
    assert_eq!(cache.get_many(["a", "b"]).await.unwrap(), [None, None]);
    assert_eq!(load(&cache, "a").await, loaded);
    assert!(!cache.exists("a").await.unwrap(), "it is another version");
    assert_eq!(load(&cache, "a").await, loaded);
    assert!(cache.exists("a").await.unwrap());
}

#[tokio::test]
async fn what_was_loaded_while_a_tag_of_its_loader_was_invalidated_is_not_stored() {
    let prefix = unique("meanwhile");
    let (cache, other) = (numbers_below(&prefix).await, numbers_below(&prefix).await);
    let load = async |_| with_tag("t").await;
    cache.get_or_load_with("a", load).await.unwrap();
    for is_used_again in [false, true] {
        // The tag is known.
        cache.get_or_load_with("b", load).await.unwrap();
        cache.get_or_load_with("b", load).await.unwrap();
        let invalidating = async |_| {
            assert!(other.invalidate_tag("t").await.unwrap());
            if is_used_again {
                other.set("c", &3).tags(["t"]).await.unwrap();
            }
            with_tag("t").await
        };
        assert_eq!(cache.get_or_load_with("a", invalidating).await.unwrap(), 1);
        assert!(!cache.exists("a").await.unwrap());
    }
}

#[tokio::test]
async fn a_loader_may_name_what_its_call_names() {
    let cache = numbers("both").await;
    let load = async |_| with_tag("t").await;
    cache.get_or_load_with("a", load).tags(["t"]).await.unwrap();
    assert_eq!(cache.get_or_load("a", never).tags(["t"]).await.unwrap(), 1);
    assert!(cache.invalidate_tag("t").await.unwrap());
    assert_eq!(cache.get("a").await.unwrap(), None);
}

#[tokio::test]
async fn a_loader_is_given_what_is_past_its_time_and_can_return_it() {
    let cache = keeping_what_is_over(&unique("previous")).await;
    over(&cache).await;
    let unchanged = async |previous: Option<u64>| Ok::<_, Error>(Loaded::new(previous.unwrap()));
    let fetched = cache.get_or_load_with("a", unchanged).with_origin().await.unwrap();
    assert_eq!(fetched, Fetched { value: 1, origin: Origin::Loaded });
    assert_eq!(cache.get_or_load("a", never).await.unwrap(), 1, "it is fresh once more");
}

#[tokio::test]
async fn a_loader_is_not_given_what_was_invalidated() {
    let cache = keeping_what_is_over(&unique("invalidated")).await;
    let new = async |previous: Option<u64>| {
        assert_eq!(previous, None);
        Ok::<_, Error>(Loaded::new(2))
    };
    over(&cache).await;
    cache.invalidate_tag("t").await.unwrap();
    assert_eq!(cache.get_or_load_with("a", new).await.unwrap(), 2);
    over(&cache).await;
    cache.delete("a").await.unwrap();
    assert_eq!(cache.get_or_load_with("a", new).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_takes_longer_than_its_soft_timeout_goes_on_while_what_is_there_is_served() {
    let cache = keeping_what_is_over(&unique("soft")).await;
    over(&cache).await;
    let gate = Arc::new(Gate::default());
    let slow = {
        let gate = Arc::clone(&gate);
        async move || gate.pass(2).await
    };
    let load = cache.get_or_load("a", slow);
    let fetched = load.soft_timeout(Duration::from_millis(20)).with_origin().await.unwrap();
    assert_eq!(fetched, Fetched { value: 1, origin: Origin::Stale });
    gate.entered().await;
    let load = cache.get_or_load("a", never);
    let fetched = load.soft_timeout(WINDOW).with_origin().await.unwrap();
    assert_eq!(fetched, Fetched { value: 1, origin: Origin::Stale }, "it is under way");
    gate.open();
    while cache.get("a").await.unwrap() != Some(2) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_is_in_time_is_waited_for() {
    let cache = keeping_what_is_over(&unique("in_time")).await;
    over(&cache).await;
    let load = cache.get_or_load("a", async || Ok::<_, Error>(2));
    let fetched = load.soft_timeout(PATIENCE).with_origin().await.unwrap();
    assert_eq!(fetched, Fetched { value: 2, origin: Origin::Loaded });
    over(&cache).await;
    let fails = async || Err::<u64, _>(io::Error::other("no luck"));
    let load = cache.get_or_load("a", fails);
    let fetched = load.soft_timeout(PATIENCE).with_origin().await.unwrap();
    assert_eq!(fetched, Fetched { value: 1, origin: Origin::Stale });
}
