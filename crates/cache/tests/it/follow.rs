//! Tags whose versions are known because their changes are followed.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use redbrick_cache::Cache;
use redbrick_core_conn::Conn;
use redbrick_testkit::{Server, unique};

use crate::{PATIENCE, connect_below, never, number, numbers_below};

fn following(conn: Conn) -> Cache<u64> {
    let cache = Cache::builder(conn, "products").redis_timeout(PATIENCE).follow_tags(true);
    cache.build().unwrap()
}

/// Stores an entry with these tags until they are followed, so that storing it is one plain call.
async fn followed(server: &Server, cache: &Cache<u64>, tags: &[&str]) {
    for _ in 0..10_000 {
        let set = async { cache.set("a", &1).tags(tags).await.unwrap() };
        if server.cost(set).await.unwrap() == "set 1" {
            return;
        }
    }
    panic!("the tags are not followed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_with_tags_cost_what_others_do() {
    let server = Server::start().unwrap();
    let cache = following(Conn::connect(server.url()).await.unwrap());
    followed(&server, &cache, &["x", "y"]).await;
    // The scripts are known to the server from here on.
    cache.get_or_load("first", || number(1)).await.unwrap();
    let cost = async |call: std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>>| {
        server.cost(call).await.unwrap()
    };
    let set = async { cache.set("a", &1).tags(["x", "y"]).await.unwrap() };
    assert_eq!(cost(Box::pin(set)).await, "set 1");
    let get = async { assert_eq!(cache.get("a").await.unwrap(), Some(1)) };
    assert_eq!(cost(Box::pin(get)).await, "get 1");
    let many = async { assert_eq!(cache.get_many(["a", "b"]).await.unwrap(), [Some(1), None]) };
    assert_eq!(cost(Box::pin(many)).await, "mget 1");
    let named = async {
        cache.get_or_load("a", never).tags(["x", "y"]).await.unwrap();
    };
    assert_eq!(cost(Box::pin(named)).await, "get 1");
    let load = async {
        cache.get_or_load("b", || number(1)).tags(["x", "y"]).await.unwrap();
    };
    assert_eq!(cost(Box::pin(load)).await, "evalsha 2, get 2, getrange 1, set 2");
    // Known for less than this entry lives.
    let longer = async {
        let life = std::time::Duration::from_secs(90 * 24 * 3600);
        cache.set("a", &1).tags(["x"]).time_to_live(life).await.unwrap();
    };
    assert_eq!(cost(Box::pin(longer)).await, "evalsha 1, get 1, pexpire 1, pttl 1, set 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_this_process_invalidates_is_a_miss_at_once() {
    let server = Server::start().unwrap();
    let cache = following(Conn::connect(server.url()).await.unwrap());
    for _ in 0..50 {
        followed(&server, &cache, &["x"]).await;
        assert!(cache.invalidate_tag("x").await.unwrap());
        assert_eq!(cache.get("a").await.unwrap(), None);
        assert_eq!(cache.get_or_load("a", || number(2)).tags(["x"]).await.unwrap(), 2);
        assert_eq!(cache.invalidate_tags(["x", "y"]).await.unwrap(), 1);
        assert_eq!(cache.get_or_load("a", || number(3)).tags(["x"]).await.unwrap(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_process_invalidates_is_a_miss_as_soon_as_the_server_has_said_so() {
    let server = Server::start().unwrap();
    let cache = following(Conn::connect(server.url()).await.unwrap());
    let other: Cache<u64> = Cache::new(Conn::connect(server.url()).await.unwrap(), "products");
    followed(&server, &cache, &["x"]).await;
    assert!(other.invalidate_tag("x").await.unwrap());
    while cache.get("a").await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(cache.get_or_load("a", || number(2)).tags(["x"]).await.unwrap(), 2);
    assert_eq!(other.get("a").await.unwrap(), Some(2));
    followed(&server, &cache, &["x"]).await;
    server.command(["FLUSHALL"]).unwrap();
    while cache.get("a").await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    // What is stored counts, under a version that is there.
    loop {
        cache.set("a", &3).tags(["x"]).await.unwrap();
        if other.get("a").await.unwrap() == Some(3) {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn on_every_topology_tags_that_are_followed_say_the_same() {
    let prefix = unique("follow");
    let cache = following(connect_below(&prefix).await);
    let other = numbers_below(&prefix).await;
    for n in 0..20 {
        cache.set("a", &n).tags(["x", "y"]).await.unwrap();
        assert_eq!(cache.get("a").await.unwrap(), Some(n));
        assert_eq!(other.get("a").await.unwrap(), Some(n));
        cache.invalidate_tag("y").await.unwrap();
        assert_eq!((cache.get("a").await.unwrap(), other.get("a").await.unwrap()), (None, None));
    }
}

#[tokio::test]
async fn without_the_right_to_follow_versions_are_asked_for() {
    let server = Server::builder()
        .user("app", "secret", "~* &cache:* +@all")
        .default_user_off()
        .start()
        .unwrap();
    let url = server.url().replace("redis://", "redis://app:secret@");
    let cache = following(Conn::connect(url).await.unwrap());
    for n in 0..20 {
        cache.set("a", &n).tags(["x"]).await.unwrap();
        assert_eq!(cache.get("a").await.unwrap(), Some(n));
    }
    cache.invalidate_tag("x").await.unwrap();
    assert_eq!(cache.get("a").await.unwrap(), None);
}
