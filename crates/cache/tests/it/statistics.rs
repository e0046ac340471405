use redbrick_cache::{Cache, Statistics};
use redbrick_testkit::unique;

use crate::{PATIENCE, connect, never, number, numbers, numbers_below};

#[tokio::test]
async fn reads_and_loads_of_this_process_are_counted() {
    let cache = numbers("statistics").await;
    assert_eq!(cache.statistics(), Statistics::default());
    assert_eq!(cache.statistics().hit_rate(), None);
    cache.get("a").await.unwrap();
    cache.get_or_load("a", || number(1)).await.unwrap();
    cache.get_or_load("a", never).await.unwrap();
    cache.clone().get_many(["a", "b"]).await.unwrap();
    let failed = cache.get_or_load("c", async || Err::<u64, _>(std::io::Error::other("no"))).await;
    failed.unwrap_err();
    let now = cache.statistics();
    assert_eq!((now.hits, now.misses, now.loads, now.load_failures), (2, 4, 1, 1), "{now:?}");
    assert_eq!(now.hit_rate(), Some(2.0 / 6.0));
    assert_eq!((now.coalesced, now.refused_fills, now.bypassed, now.unreadable), (0, 0, 0, 0));
}

#[tokio::test]
async fn the_fleet_knows_what_its_processes_published() {
    let prefix = unique("fleet");
    let (one, other) = (numbers_below(&prefix).await, numbers_below(&prefix).await);
    assert_eq!(one.fleet_statistics().await.unwrap(), Statistics::default());
    for cache in [&one, &other] {
        cache.get_or_load("a", || number(1)).await.unwrap();
        cache.get("a").await.unwrap();
        cache.publish_statistics().await.unwrap();
    }
    one.publish_statistics().await.unwrap();
    let fleet = other.fleet_statistics().await.unwrap();
    assert_eq!((fleet.hits, fleet.misses, fleet.loads), (3, 1, 1), "{fleet:?}");
    assert_eq!(fleet.hit_rate(), Some(0.75));
}

#[tokio::test]
async fn a_count_of_another_program_gives_way_and_nothing_is_counted_twice() {
    // No number, not written as one is, too large for a server, and too large to add to.
    for foreign in ["no number", "007", "9223372036854775808", "9223372036854775807"] {
        let prefix = unique("foreign fleet");
        let (conn, cache) = (crate::connect_below(&prefix).await, numbers_below(&prefix).await);
        cache.get("a").await.unwrap();
        let fields = conn.with_codec(redbrick_core_conn::Codec::Plain);
        let fields = fields.hash("cache:products:statistics");
        // Whichever is added last, those before it are added once.
        for name in ["misses", "unreadable"] {
            fields.set(name, foreign).await.unwrap();
        }
        cache.publish_statistics().await.unwrap();
        cache.publish_statistics().await.unwrap();
        let fleet = cache.fleet_statistics().await.unwrap();
        assert_eq!((fleet.misses, fleet.hits), (1, 0), "{foreign}");
    }
}

#[tokio::test]
async fn what_was_deleted_here_and_is_found_all_the_same_is_a_hit() {
    let prefix = unique("deleted and found");
    let (here, other) = (numbers_below(&prefix).await, numbers_below(&prefix).await);
    here.delete("a").await.unwrap();
    other.set("a", &1).await.unwrap();
    assert_eq!(here.get_or_load("a", never).await.unwrap(), 1);
    let now = here.statistics();
    assert_eq!((now.hits, now.misses), (1, 0));
}

#[tokio::test]
async fn entries_on_the_servers_are_counted_and_weighed() {
    let conn = connect("weight").await;
    let cache = Cache::<String>::builder(conn, "a").redis_timeout(PATIENCE).build().unwrap();
    assert_eq!((cache.server_statistics().await.unwrap().keys), 0);
    let (long, count) = ("x".repeat(10_000), 300_u64);
    let keys: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    cache.set_many(keys.iter().map(|key| (key, &long))).tags(["t"]).await.unwrap();
    cache.increment("a", 1).await.unwrap();
    let found = cache.server_statistics().await.unwrap();
    // A walk may meet a key twice where the table of keys changes under it.
    assert!((count..count + 50).contains(&found.keys), "{found:?}");
    let each = found.bytes / found.keys;
    assert!((10_000..20_000).contains(&each), "{found:?}");
}
