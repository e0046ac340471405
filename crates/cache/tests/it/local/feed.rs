//! After the link on which the server says what changes was lost, nothing is dropped, and nothing is given unasked.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use redbrick_cache::{Cache, Local, Origin};
use redbrick_core_conn::Conn;
use redbrick_testkit::{Proxy, Server};
use tokio::{task::JoinSet, time::Instant};

use super::{builder, connect, cut_feed, keeping, origin, until_is, until_kept};
use crate::{PATIENCE, is_long, never, number, silent_server};

/// Reads a key once more after the link was lost, as soon as that is known here.
async fn asked_again(cache: &Cache<u64>, key: &str) {
    let (before, late) = (cache.statistics().revalidated, Instant::now() + PATIENCE);
    while cache.statistics().revalidated == before {
        assert_eq!(origin(cache, key).await, Origin::Local);
        assert!(Instant::now() < late, "the link is not known to be lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_asked_for_once_after_the_link_was_lost() {
    let server = Server::start().unwrap();
    let cache = keeping(connect(&server).await);
    for key in ["a", "b"] {
        cache.set(key, &1).tags(["x"]).await.unwrap();
        until_kept(&cache, key).await;
    }
    // The script is known to the server from here on.
    cut_feed(&server);
    asked_again(&cache, "a").await;
    for _ in 0..5 {
        until_kept(&cache, "a").await;
        until_kept(&cache, "b").await;
        let before = cache.statistics();
        cut_feed(&server);
        asked_again(&cache, "a").await;
        until_kept(&cache, "a").await;
        assert_eq!(cache.get_many(["a", "b"]).await.unwrap(), [Some(1), Some(1)]);
        let after = cache.statistics();
        assert_eq!((after.hits, after.misses), (before.hits, before.misses), "none is read anew");
        assert_eq!(cache.local_size().entries, 2);
    }
    let reads = async { assert_eq!(cache.get("b").await.unwrap(), Some(1)) };
    until_kept(&cache, "b").await;
    assert_eq!(server.cost(reads).await.unwrap(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_while_the_link_was_lost_is_read_in_the_same_round_trip() {
    for follow in [false, true] {
        let server = Server::start().unwrap();
        let proxy = server.proxy().unwrap();
        let conn = Conn::connect(proxy.url()).await.unwrap();
        let cache = builder(conn).follow_tags(follow).local(Local::new()).build().unwrap();
        let other = crate::patient::<u64>(connect(&server).await);
        changes_while_the_link_is_lost(&server, &proxy, &cache, &other).await;
    }
}

async fn changes_while_the_link_is_lost(
    server: &Server,
    proxy: &Proxy,
    cache: &Cache<u64>,
    other: &Cache<u64>,
) {
    for n in 0..20 {
        cache.set("a", &n).await.unwrap();
        cache.set("b", &n).tags(["x"]).await.unwrap();
        cache.set("other", &n).await.unwrap();
        for key in ["a", "b", "other"] {
            until_kept(cache, key).await;
        }
        // It does not come back before all has changed.
        proxy.refuse();
        cut_feed(server);
        match n % 4 {
            0 => other.set("a", &(n + 100)).await.unwrap(),
            1 => drop(other.delete("a").await.unwrap()),
            2 => drop(other.invalidate_tag("x").await.unwrap()),
            _ => drop(server.command(["FLUSHALL"]).unwrap()),
        }
        proxy.accept().unwrap();
        let (a, b) = match n % 4 {
            0 => (Some(n + 100), Some(n)),
            1 => (None, Some(n)),
            2 => (Some(n), None),
            _ => (None, None),
        };
        if n % 4 < 3 {
            // As soon as it is said again what changes, all that changed meanwhile is known.
            asked_again(cache, "other").await;
            until_kept(cache, "other").await;
            assert_eq!(cache.get("b").await.unwrap(), b, "{n}");
            assert_eq!(cache.get("a").await.unwrap(), a, "{n}");
        }
        until_is(cache, "a", a).await;
        until_is(cache, "b", b).await;
        assert_eq!(cache.get_many(["b", "a"]).await.unwrap(), [b, a]);
    }
}

#[tokio::test]
async fn what_is_of_another_type_by_now_is_a_miss() {
    let (server, url) = silent_server();
    let cache = keeping(Conn::connect(url).await.unwrap());
    cache.set("a", &1).await.unwrap();
    assert_eq!(cache.get("a").await.unwrap(), Some(1));
    let key = cache.prefix().tagged("a").to_string();
    server.command(["DEL", &key]).unwrap();
    server.command(["RPUSH", &key, "message"]).unwrap();
    for _ in 0..2 {
        assert_eq!(cache.get("a").await.unwrap(), None);
        assert_eq!(cache.get_many(["a"]).await.unwrap(), [None]);
    }
}

#[tokio::test]
async fn a_cache_that_keeps_nothing_has_nobody_say_what_changes() {
    let server = Server::start().unwrap();
    let cache = crate::patient::<u64>(connect(&server).await);
    for _ in 0..2 {
        let many = cache.get_or_load_many(["a", "b"], async |missing| {
            Ok::<_, std::io::Error>(missing.into_iter().map(|key| (key, 1)).collect())
        });
        assert_eq!(many.tags(["x"]).await.unwrap(), [Some(1), Some(1)]);
        cache.get_or_load("c", || number(1)).tags(["x"]).await.unwrap();
        cache.get("c").await.unwrap();
        cache.invalidate_tag("x").await.unwrap();
    }
    let clients = server.command(["CLIENT", "LIST", "TYPE", "pubsub"]).unwrap();
    assert_eq!(clients.as_str().map(str::trim), Some(""));
}

#[test]
fn who_hears_what_changes_can_end_with_its_runtime() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let (lasting, passing) = (runtime(), runtime());
    let server = Server::start().unwrap();
    let (conn, other) =
        lasting.block_on(async { (connect(&server).await, connect(&server).await) });
    let (cache, other) = (keeping(conn), crate::patient::<u64>(other));
    passing.block_on(async {
        cache.set("a", &1).await.unwrap();
        until_kept(&cache, "a").await;
    });
    drop(passing);
    lasting.block_on(async {
        other.set("a", &2).await.unwrap();
        assert_eq!(cache.get("a").await.unwrap(), Some(2));
        until_kept(&cache, "a").await;
        other.set("a", &3).await.unwrap();
        until_is(&cache, "a", Some(3)).await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_costs_one_round_trip_to_find_out() {
    // Each read asks.
    let (server, url) = silent_server();
    let cache = keeping(Conn::connect(&url).await.unwrap());
    let other = crate::patient::<u64>(connect(&server).await);
    // The scripts are known to the server from here on.
    cache.get_or_load("first", || number(1)).await.unwrap();
    other.set("a", &0).await.unwrap();
    for _ in 0..2 {
        assert_eq!(cache.get("a").await.unwrap(), Some(0));
    }
    let same = async { assert_eq!(cache.get("a").await.unwrap(), Some(0)) };
    assert_eq!(server.cost(same).await.unwrap(), "evalsha 1, getrange 1");
    other.set("a", &1).await.unwrap();
    let changed = async { assert_eq!(cache.get("a").await.unwrap(), Some(1)) };
    assert_eq!(server.cost(changed).await.unwrap(), "evalsha 1, get 1, getrange 1");
    other.delete("a").await.unwrap();
    let gone = async { assert_eq!(cache.get("a").await.unwrap(), None) };
    assert_eq!(server.cost(gone).await.unwrap(), "evalsha 1, get 1, getrange 1");
    let loaded = async {
        assert_eq!(cache.get_or_load("a", || number(2)).await.unwrap(), 2);
    };
    assert_eq!(server.cost(loaded).await.unwrap(), "evalsha 2, get 2, getrange 1, set 2");
    assert_eq!(cache.get_or_load("a", never).await.unwrap(), 2);
}

/// With names as long as usual.
fn name(n: u32) -> String {
    format!("product:{n:06}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_are_kept_are_asked_for_in_short_and_nothing_is_loaded() {
    let many: u32 = if is_long() { 100_000 } else { 20_000 };
    let server = Server::start().unwrap();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let local = Local::new().max_entries(1_000_000).max_bytes(1 << 30);
    let cache: Cache<Arc<String>> =
        Cache::builder(conn, "p").local(local).redis_timeout(PATIENCE).build().unwrap();
    let value = Arc::new("x".repeat(200));
    let names: Vec<String> = (0..many).map(name).collect();
    for some in names.chunks(5000) {
        cache.set_many(some.iter().map(|name| (name, &value))).await.unwrap();
    }
    // Until what was written here was said, and all is kept.
    let late = Instant::now() + PATIENCE;
    loop {
        let asked = cache.statistics();
        for some in names.chunks(5000) {
            assert!(cache.get_many(some).await.unwrap().iter().all(Option::is_some));
        }
        let after = cache.statistics();
        if (after.hits, after.revalidated) == (asked.hits, asked.revalidated) {
            break;
        }
        assert!(Instant::now() < late, "not all is kept");
    }
    assert_eq!(cache.local_size().entries, u64::from(many));
    let (before, late) = (cache.statistics().revalidated, Instant::now() + PATIENCE);
    cut_feed(&server);
    while cache.statistics().revalidated == before {
        cache.get(name(0)).await.unwrap();
        assert!(Instant::now() < late, "the link is not known to be lost");
    }
    // The server says again what changes.
    until_kept(&cache, &name(0)).await;
    let (before, sent, answered) = (cache.statistics(), proxy.request_bytes(), proxy.reply_bytes());
    let (loads, mut readers) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for reader in 0..256 {
        let (cache, loads) = (cache.clone(), Arc::clone(&loads));
        readers.spawn(async move {
            for n in (1..many).filter(|n| n % 256 == reader) {
                let load = async || {
                    loads.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, std::io::Error>(Arc::default())
                };
                let found = cache.get_or_load(name(n), load).with_origin().await.unwrap();
                assert_eq!((found.value.len(), found.origin), (200, Origin::Local));
            }
        });
    }
    readers.join_all().await;
    let bytes = proxy.request_bytes() - sent + proxy.reply_bytes() - answered;
    let after = cache.statistics();
    assert_eq!(after.revalidated - before.revalidated, u64::from(many - 1));
    assert_eq!(
        (after.hits, after.misses, loads.load(Ordering::SeqCst)),
        (before.hits, before.misses, 0)
    );
    assert_eq!(cache.local_size().entries, u64::from(many));
    let each = bytes / u64::from(many - 1);
    tell(&format!("{each} bytes for each of {many}, whose keys have 18 bytes"));
    assert!(each <= 60, "{each} bytes each");
}

#[expect(clippy::print_stdout, reason = "a figure for those who look at it")]
fn tell(text: &str) {
    println!("{text}");
}
