use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redbrick_cache::{Cache, Error, MEDIUM, Origin};
use redbrick_core_conn::Conn;
use redbrick_testkit::{Server, unique};

use crate::{Gate, never, number, numbers, numbers_below, patient};

#[tokio::test]
async fn every_entry_with_a_tag_goes_with_it_and_no_other() {
    let cache = numbers("tags").await;
    cache.set("a", &1).tags(["red", "round"]).await.unwrap();
    cache.set("b", &2).tags(["red"]).await.unwrap();
    cache.get_or_load("c", || number(3)).tags(["round", "blue"]).await.unwrap();
    cache.set("d", &4).await.unwrap();
    let all = ["a", "b", "c", "d"];
    assert_eq!(cache.get_many(all).await.unwrap(), [Some(1), Some(2), Some(3), Some(4)]);

    assert!(cache.invalidate_tag("red").await.unwrap());
    assert!(!cache.invalidate_tag("red").await.unwrap(), "it is not in use any more");
    assert_eq!(cache.get_many(all).await.unwrap(), [None, None, Some(3), Some(4)]);
    assert_eq!(cache.get("a").await.unwrap(), None);
    assert!(!cache.exists("a").await.unwrap() && cache.exists("c").await.unwrap());

    cache.set("a", &5).tags(["red"]).await.unwrap();
    assert_eq!(cache.get_many(all).await.unwrap(), [Some(5), None, Some(3), Some(4)]);
    assert_eq!(cache.invalidate_tags(["blue", "red", "unknown"]).await.unwrap(), 2);
    assert_eq!(cache.get_many(all).await.unwrap(), [None, None, None, Some(4)]);
}

#[tokio::test]
async fn a_tagged_entry_is_found_with_and_without_naming_its_tags() {
    let cache = numbers("named tags").await;
    cache.get_or_load("a", || number(1)).tags(["t", "u", "t"]).await.unwrap();
    for tags in [vec![], vec!["t"], vec!["t", "u"]] {
        let found = cache.get_or_load("a", never).tags(tags).with_origin().await.unwrap();
        assert_eq!((found.value, found.origin), (1, Origin::Cached));
    }
    cache.invalidate_tag("u").await.unwrap();
    let loaded = cache.get_or_load("a", || number(2)).tags(["t"]).with_origin().await.unwrap();
    assert_eq!((loaded.value, loaded.origin), (2, Origin::Loaded));
    assert_eq!(cache.get("a").await.unwrap(), Some(2));
}

#[tokio::test]
async fn an_entry_without_a_tag_that_is_named_is_loaded_anew() {
    let cache = numbers("lacking tags").await;
    cache.set("a", &1).tags(["t"]).await.unwrap();
    let loaded = cache.get_or_load("a", || number(2)).tags(["t", "u"]).with_origin().await.unwrap();
    assert_eq!((loaded.value, loaded.origin), (2, Origin::Loaded));
    cache.invalidate_tag("u").await.unwrap();
    assert_eq!(cache.get("a").await.unwrap(), None, "it carries both by now");

    let one = std::num::NonZeroUsize::MIN;
    cache.warm(["b"], one, |_| number(3)).tags(["t"]).await;
    assert_eq!(cache.get_or_load("b", never).tags(["t"]).await.unwrap(), 3);
    cache.invalidate_tag("t").await.unwrap();
    assert_eq!(cache.get_or_load("b", || number(4)).tags(["t"]).await.unwrap(), 4);
}

#[tokio::test]
async fn a_value_that_was_loaded_before_its_tag_was_invalidated_does_not_count() {
    let prefix = unique("tag during load");
    let (cache, other) = (numbers_below(&prefix).await, numbers_below(&prefix).await);
    let gate = Arc::new(Gate::default());
    let load = tokio::spawn({
        let (cache, gate) = (cache.clone(), Arc::clone(&gate));
        async move { cache.get_or_load("a", || gate.pass(1)).tags(["t"]).await }
    });
    gate.entered().await;
    other.invalidate_tag("t").await.unwrap();
    gate.open();
    assert_eq!(load.await.unwrap().unwrap(), 1, "it asked before");
    assert_eq!(other.get("a").await.unwrap(), None);
    assert_eq!(cache.get_or_load("a", || number(2)).await.unwrap(), 2);
}

#[tokio::test]
async fn a_thousand_tags_are_the_most() {
    let cache = numbers("thousand tags").await;
    let tags: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
    cache.set("a", &1).tags(&tags[..1000]).await.unwrap();
    assert_eq!(cache.get("a").await.unwrap(), Some(1));
    cache.get_or_load("b", || number(2)).tags(&tags[..1000]).await.unwrap();
    cache.invalidate_tag("999").await.unwrap();
    assert_eq!(cache.get_many(["a", "b"]).await.unwrap(), [None, None]);
    let refused = cache.set("a", &1).tags(&tags).await.unwrap_err();
    assert!(matches!(refused, Error::TooManyTags), "{refused:?}");
    let refused = cache.get_or_load("a", never).tags(&tags).await.unwrap_err();
    assert!(matches!(refused, Error::TooManyTags), "{refused:?}");
}

#[tokio::test]
async fn two_tags_cost_an_entry_32_bytes_of_memory_at_most() {
    let server = Server::start().unwrap();
    let cache: Cache<Bytes> = patient(Conn::connect(server.url()).await.unwrap());
    let weight = |key: &str| {
        let key = format!("cache:products:{{{key}}}");
        server.memory_usage(key).unwrap().expect("it is there")
    };
    let value = Bytes::from(vec![b'x'; 100]);
    cache.set("plain", &value).await.unwrap();
    cache.set("tagged", &value).tags(["user:7", "lamps"]).await.unwrap();
    let (plain, tagged) = (weight("plain"), weight("tagged"));
    // Redis 6.2 stores what a script writes in the buffer that the script had, which may be longer.
    let most = if server.version().major < 7 { 64 } else { 32 };
    assert!(tagged - plain <= most, "{plain} and {tagged}");
}

#[tokio::test]
async fn an_entry_and_its_tags_are_stored_at_once_where_they_lie_together() {
    let cache = numbers("together").await;
    // On a cluster these have the slot of the entry, and those that follow have not.
    for tags in [vec!["a"], vec!["a", "b", "c"]] {
        cache.set("a", &1).tags(&tags).await.unwrap();
        for tag in &tags {
            assert_eq!(cache.get("a").await.unwrap(), Some(1));
            assert!(cache.invalidate_tag(tag).await.unwrap());
            assert_eq!(cache.get("a").await.unwrap(), None, "{tag}");
            cache.set("a", &1).tags(&tags).await.unwrap();
        }
        // Versions that are there stay: what else has the tags goes on counting.
        cache.set("b", &2).tags(&tags).await.unwrap();
        cache.set("a", &1).tags(&tags).await.unwrap();
        assert_eq!(cache.get("b").await.unwrap(), Some(2));
    }
    let at_once = (10..60).map(|n| {
        let cache = cache.clone();
        tokio::spawn(async move { cache.set("a", &n).tags(["a"]).await })
    });
    for set in at_once.collect::<Vec<_>>() {
        set.await.unwrap().unwrap();
    }
    let stored = cache.get("a").await.unwrap();
    assert!(stored.is_some_and(|n| (10..60).contains(&n)), "{stored:?}");
    assert!(cache.invalidate_tag("a").await.unwrap());
    assert_eq!(cache.get("a").await.unwrap(), None);
    let long = vec![b'x'; 300];
    cache.set("a", &3).tags([&*long, b"", b"\xFF\0"]).await.unwrap();
    assert_eq!(cache.get("a").await.unwrap(), Some(3));
    assert!(cache.invalidate_tag(&long).await.unwrap());
    assert_eq!(cache.get("a").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_are_stored_at_the_same_time_share_a_run_and_each_has_its_own_tags_and_life() {
    const ENTRIES: u64 = 200;
    const LONG: Duration = Duration::from_secs(200 * 24 * 60 * 60);
    let server = Server::start().unwrap();
    let cache = patient::<u64>(Conn::connect(server.url()).await.unwrap());
    // The server knows the script from here on.
    cache.set("first", &0).tags(["first", "tags"]).await.unwrap();
    // A tag of another type counts as missing.
    server.command(["RPUSH", "cache:products:tag:{t0}", "x"]).unwrap();
    let before = server.command_counts().unwrap();
    let sets = (0..ENTRIES).map(|n| {
        let cache = cache.clone();
        tokio::spawn(async move {
            let life = if n == ENTRIES - 1 { LONG } else { MEDIUM + Duration::from_secs(n) };
            let tags = [format!("t{}", n % 3), format!("own{n}")];
            cache.set(n.to_string(), &n).tags(tags).time_to_live(life).await
        })
    });
    for set in sets.collect::<Vec<_>>() {
        set.await.unwrap().unwrap();
    }
    let cost = server.command_counts().unwrap().since(&before);
    assert!(cost.of("evalsha") < ENTRIES / 2, "{cost:?}");
    assert!(cost.of("get") < ENTRIES * 2, "a tag is read once in a run: {cost:?}");

    let ttl = |key: &str| server.command(["PTTL", key]).unwrap().as_int().unwrap();
    let long = i64::try_from(LONG.as_millis()).unwrap();
    assert!(ttl(&format!("cache:products:tag:{{t{}}}", (ENTRIES - 1) % 3)) > long);
    assert!(ttl("cache:products:tag:{own0}") > ttl("cache:products:{0}"));
    assert!(ttl(&format!("cache:products:{{{}}}", ENTRIES - 1)) > long - 60_000);
    let there = async || {
        let all: Vec<u64> = (0..ENTRIES).collect();
        let found = cache.get_many(all.iter().map(u64::to_string)).await.unwrap();
        all.into_iter()
            .zip(found)
            .filter_map(|(n, found)| {
                assert!(found.is_none_or(|found| found == n));
                found
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(there().await, (0..ENTRIES).collect::<Vec<_>>());
    cache.invalidate_tag("t1").await.unwrap();
    cache.invalidate_tag("own6").await.unwrap();
    let left: Vec<u64> = (0..ENTRIES).filter(|n| n % 3 != 1 && *n != 6).collect();
    assert_eq!(there().await, left);
}

#[tokio::test]
async fn a_tag_lives_as_long_as_the_longest_lived_of_those_that_are_stored_together() {
    let server = Server::start().unwrap();
    let cache = patient::<u64>(Conn::connect(server.url()).await.unwrap());
    cache.set("known", &0).tags(["known"]).await.unwrap();
    let tag = "cache:products:tag:{t}";
    server.command(["SET", tag, "version1", "PX", "60000"]).unwrap();
    let long = MEDIUM * 24 * 200;
    // Two go by themselves, and on a server that is near the rest is one run.
    let lives = [None, None, Some(long)].into_iter().chain([Some(MEDIUM); 10]);
    let sets = (0..).zip(lives).map(|(n, life): (u64, _)| {
        let cache = cache.clone();
        tokio::spawn(async move {
            let set = cache.set(n.to_string(), &n);
            let set = match life {
                Some(life) => set.tags(["t"]).time_to_live(life),
                None => set.tags(["other"]),
            };
            set.await
        })
    });
    for set in sets.collect::<Vec<_>>() {
        set.await.unwrap().unwrap();
    }
    let left = server.command(["PTTL", tag]).unwrap().as_int().unwrap();
    assert!(left > i64::try_from(long.as_millis()).unwrap());
}
