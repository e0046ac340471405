//! What is read from the process, and for how long.

use std::{sync::Arc, time::Duration};

use redbrick_cache::{Cache, Local, Origin};
use redbrick_core_conn::Conn;
use redbrick_testkit::{Fault, Server, unique};
use tokio::time::Instant;

use super::{builder, connect, keeping, origin, until_is, until_kept};
use crate::{PATIENCE, as_app, connect_below, never, number, silent_server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_asks_nobody() {
    let server = Server::start().unwrap();
    let cache = keeping(connect(&server).await);
    cache.set("plain", &1).await.unwrap();
    cache.set("tagged", &2).tags(["x", "y"]).await.unwrap();
    for key in ["plain", "tagged"] {
        until_kept(&cache, key).await;
    }
    let before = cache.statistics();
    let reads = async {
        for _ in 0..100 {
            assert_eq!(cache.get("plain").await.unwrap(), Some(1));
            assert_eq!(cache.get("tagged").await.unwrap(), Some(2));
            assert_eq!(cache.get_or_load("tagged", never).tags(["y"]).await.unwrap(), 2);
            assert_eq!(cache.get_many(["tagged", "plain"]).await.unwrap(), [Some(2), Some(1)]);
            let many = cache.get_or_load_many(["plain", "tagged"], async |_| {
                Err::<Vec<_>, _>(std::io::Error::other("nothing is to be loaded"))
            });
            assert_eq!(many.await.unwrap(), [Some(1), Some(2)]);
            let tagged = cache.get_or_load_many(["tagged"], async |_| {
                Err::<Vec<_>, _>(std::io::Error::other("nothing is to be loaded"))
            });
            assert_eq!(tagged.tags(["x"]).await.unwrap(), [Some(2)]);
        }
    };
    assert_eq!(server.cost(reads).await.unwrap(), "");
    let after = cache.statistics();
    assert_eq!(after.local_hits - before.local_hits, 800);
    assert_eq!((after.hits, after.misses), (before.hits, before.misses));
    assert!(after.hit_rate().unwrap() > 0.95);
    // A tag that it lacks.
    let loaded = cache.get_or_load("plain", || number(3)).tags(["x"]).with_origin().await.unwrap();
    assert_eq!((loaded.value, loaded.origin), (3, Origin::Loaded));
}

#[tokio::test]
async fn clones_share_what_is_kept_and_what_is_not_there_is_not_kept() {
    let cache = keeping(crate::connect("local_clones").await);
    assert_eq!(cache.local_size().entries, 0);
    cache.set("a", &1).await.unwrap();
    until_kept(&cache, "a").await;
    assert_eq!(origin(&cache.clone(), "a").await, Origin::Local);
    assert_eq!(cache.get_many(["a", "none"]).await.unwrap(), [Some(1), None]);
    assert_eq!((cache.get("none").await.unwrap(), cache.local_size().entries), (None, 1));
}

#[tokio::test]
async fn what_is_large_is_given_as_it_was_decoded_once() {
    let prefix = unique("local_arc");
    let conn = connect_below(&prefix).await;
    let cache: Cache<Arc<String>> =
        Cache::builder(conn, "texts").local(Local::new()).build().unwrap();
    cache.set("a", &Arc::new("text".repeat(1000))).await.unwrap();
    until_kept(&cache, "a").await;
    let first = cache.get("a").await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &cache.get("a").await.unwrap().unwrap()));
    // What it looks like in Redis is no different.
    let plain: Cache<String> = Cache::new(connect_below(&prefix).await, "texts");
    assert_eq!(plain.get("a").await.unwrap(), Some("text".repeat(1000)));
}

#[tokio::test]
async fn keys_are_told_apart_and_each_is_forgotten_by_its_name() {
    let prefix = unique("local_names");
    let cache = keeping(connect_below(&prefix).await);
    let other = crate::numbers_below(&prefix).await;
    let keys: [&[u8]; 9] =
        [b"a", b"a:b", b"a%3Ab", b"{a}", b"}", b"tag:{a}", b"", b"\xFF\x00", "\u{e9}".as_bytes()];
    for (value, key) in (1..).zip(keys) {
        other.set(key, &value).await.unwrap();
    }
    for _ in 0..100 {
        for (value, key) in (1..).zip(keys) {
            assert_eq!(cache.get(key).await.unwrap(), Some(value), "{key:?}");
        }
    }
    assert_eq!(cache.local_size().entries, 9);
    for key in keys {
        let began = Instant::now();
        other.set(key, &0).await.unwrap();
        while cache.get(key).await.unwrap() != Some(0) {
            assert!(began.elapsed() < PATIENCE, "{key:?}");
        }
    }
}

#[tokio::test]
async fn nothing_is_kept_past_its_time_to_live() {
    let life = Duration::from_millis(300);
    // Nobody says that it has ended.
    let (_server, url) = silent_server();
    let local = Local::new().max_staleness(PATIENCE * 10);
    let cache = builder(Conn::connect(&url).await.unwrap()).local(local).build().unwrap();
    for _ in 0..3 {
        let set = Instant::now();
        cache.set("a", &1).time_to_live(life).await.unwrap();
        while cache.get("a").await.unwrap().is_some() {
            assert!(set.elapsed() < PATIENCE);
        }
        // The server's clock is known as well as a round trip is short.
        assert!(set.elapsed() > life / 2);
    }
    assert!(cache.statistics().local_hits > 0);
}

#[tokio::test]
async fn what_ends_while_the_server_is_asked_is_not_given() {
    // Each read asks.
    let (server, _) = silent_server();
    let proxy = server.proxy().unwrap();
    let cache = keeping(Conn::connect(as_app(&proxy.url())).await.unwrap());
    let life = Duration::from_secs(1);
    // The second one makes the script known to the server.
    for _ in 0..2 {
        cache.set("a", &1).time_to_live(life).await.unwrap();
        assert_eq!(cache.get("a").await.unwrap(), Some(1));
        assert_eq!(cache.get("a").await.unwrap(), Some(1));
    }
    proxy.set(Fault::Latency { up: Duration::ZERO, down: life });
    let before = proxy.request_bytes();
    assert_eq!(cache.get("a").await.unwrap(), None);
    assert!(proxy.request_bytes() > before, "it had ended before");
}

#[tokio::test]
async fn what_has_no_known_end_is_not_kept() {
    let rights = "~* &* +@all -time";
    let server = Server::builder().user("app", "secret", rights).start().unwrap();
    let timeless = crate::patient::<u64>(Conn::connect(as_app(&server.url())).await.unwrap());
    let cache = keeping(connect(&server).await);
    cache.set("known", &1).await.unwrap();
    until_kept(&cache, "known").await;
    timeless.set("unknown", &2).time_to_live(Duration::from_secs(60)).await.unwrap();
    let before = cache.statistics().local_hits;
    for _ in 0..10 {
        assert_eq!(cache.get("unknown").await.unwrap(), Some(2));
    }
    assert_eq!(cache.statistics().local_hits, before);
}

#[tokio::test]
async fn what_is_to_be_loaded_anew_is_so() {
    let conn = crate::connect("local_stale").await;
    let stale = builder(conn).stale_while_revalidate(Duration::from_secs(60)).local(Local::new());
    let cache = stale.build().unwrap();
    cache.set("a", &1).time_to_live(Duration::from_millis(50)).await.unwrap();
    let set = Instant::now();
    let loaded = loop {
        let found = cache.get_or_load("a", || number(2)).with_origin().await.unwrap();
        if found.origin == Origin::Loaded {
            break found.value;
        }
        assert!(found.value == 1 && set.elapsed() < PATIENCE, "{found:?}");
    };
    assert_eq!(loaded, 2);
    until_is(&cache, "a", Some(2)).await;
}

/// A cache whose values are loaded anew before their end, and given for so long without a question.
async fn early(url: &str, max_staleness: Duration) -> Cache<u64> {
    let local = Local::new().max_staleness(max_staleness);
    let cache = builder(Conn::connect(url).await.unwrap()).early_refresh(true).local(local);
    cache.build().unwrap()
}

/// Loads something that lives little longer than it takes to load it.
async fn load_slowly(cache: &Cache<u64>, value: u64) {
    let load = || async move {
        crate::rest(Duration::from_millis(200)).await;
        number(value).await
    };
    let load = cache.refresh("a", load).time_to_live(Duration::from_secs(1));
    assert_eq!(load.await.unwrap(), value);
}

#[tokio::test]
async fn whether_it_is_time_to_load_anew_is_asked_once() {
    let (_server, url) = silent_server();
    let [asking, bearing] = [Duration::ZERO, PATIENCE * 10];
    for (n, staleness) in (0..).zip([asking, bearing, asking, bearing]) {
        let cache = early(&url, staleness).await;
        load_slowly(&cache, n).await;
        until_is(&cache, "a", Some(n)).await;
        let before = cache.statistics().misses;
        loop {
            let loaded = cache.get_or_load("a", || number(n + 100)).with_origin().await.unwrap();
            match loaded.origin {
                Origin::Local => assert_eq!(loaded.value, n),
                origin => break assert_eq!((origin, loaded.value), (Origin::Loaded, n + 100)),
            }
        }
        assert_eq!(cache.statistics().misses, before, "it was loaded before its end");
    }
}

#[tokio::test]
async fn who_loads_nothing_is_given_what_is_to_be_loaded_anew() {
    let (_server, url) = silent_server();
    let cache = early(&url, Duration::ZERO).await;
    load_slowly(&cache, 1).await;
    until_is(&cache, "a", Some(1)).await;
    let before = cache.statistics().hits;
    while cache.get("a").await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(cache.statistics().hits, before, "it was read anew");
}

#[tokio::test]
async fn what_another_process_has_loaded_anew_is_not_loaded_once_more() {
    let (_server, url) = silent_server();
    let [asking, bearing] = [Duration::ZERO, PATIENCE * 10];
    let other = early(&url, asking).await;
    for (n, staleness) in (0..).zip([asking, bearing, asking, bearing]) {
        let cache = early(&url, staleness).await;
        load_slowly(&other, n).await;
        until_is(&cache, "a", Some(n)).await;
        other.set("a", &(n + 100)).await.unwrap();
        loop {
            let found = cache.get_or_load("a", never).with_origin().await.unwrap();
            match (found.origin, found.value) {
                (Origin::Local, value) if value == n => {}
                found => break assert_eq!(found, (Origin::Cached, n + 100)),
            }
        }
        assert_eq!(cache.get("a").await.unwrap(), Some(n + 100));
        assert!(cache.delete("a").await.unwrap());
    }
}

#[tokio::test]
async fn another_type_is_read_from_redis() {
    let cache = keeping(crate::connect("local_of").await);
    cache.set("a", &1).await.unwrap();
    until_kept(&cache, "a").await;
    let texts = cache.of::<String>();
    assert_eq!(texts.get("a").await.unwrap(), None, "it is a number");
    texts.set("a", &"text".to_owned()).await.unwrap();
    assert_eq!(cache.get("a").await.unwrap(), None, "it is a text by now");
    assert_eq!(texts.get("a").await.unwrap().as_deref(), Some("text"));
}
