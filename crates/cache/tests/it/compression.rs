//! Values that are stored smaller than they are.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use redbrick_cache::{Cache, Compression, Fetched, Origin};
use redbrick_core_conn::{Bytes, Codec, Prefix};
use redbrick_testkit::unique;

use crate::{PATIENCE, connect_below};

const ALL: [Compression; 3] = [Compression::None, Compression::Zstd, Compression::Lz4];

async fn texts(prefix: &str, compression: Compression) -> Cache<String> {
    let cache = Cache::builder(connect_below(prefix).await, "products").redis_timeout(PATIENCE);
    cache.compression(compression).build().unwrap()
}

/// How many bytes are stored for an entry.
async fn weight(prefix: &str, id: &str) -> usize {
    let conn = connect_below(prefix).await.with_codec(Codec::Plain);
    let key = Prefix::new("cache").join("products").tagged(id);
    conn.get::<Bytes>(key).await.unwrap().unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_long_is_stored_smaller_in_every_way_and_read_by_every_cache() {
    let prefix = unique("compression");
    let long = "many words, ".repeat(1000);
    for writes in [Compression::Zstd, Compression::Lz4] {
        let cache = texts(&prefix, writes).await;
        cache.set("set", &long).await.unwrap();
        cache.set("tagged", &long).tags(["t"]).await.unwrap();
        cache.set_many([("one", &long), ("two", &long)]).await.unwrap();
        let load = async || Ok::<_, std::io::Error>(long.clone());
        assert_eq!(cache.get_or_load("loaded", load).await.unwrap(), long);
        for id in ["set", "tagged", "one", "two", "loaded"] {
            assert!(weight(&prefix, id).await < long.len() / 10, "{writes:?}, {id}");
            for reads in ALL {
                let other = texts(&prefix, reads).await;
                assert_eq!(other.get(id).await.unwrap().as_ref(), Some(&long), "{writes:?}, {id}");
                assert_eq!(other.get_many([id]).await.unwrap(), [Some(long.clone())]);
                let fetched = other.get_or_load(id, load).with_origin().await.unwrap();
                assert_eq!(fetched, Fetched { value: long.clone(), origin: Origin::Cached });
            }
        }
        cache.clear_all().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_compressed_can_be_refreshed_and_what_is_damaged_is_replaced() {
    let prefix = unique("compressed and damaged");
    let cache = texts(&prefix, Compression::Zstd).await;
    let (first, second) = ("first ".repeat(1000), "second ".repeat(1000));
    cache.set("a", &first).await.unwrap();
    let load = async || Ok::<_, std::io::Error>(second.clone());
    let fetched = cache.refresh("a", load).with_origin().await.unwrap();
    assert_eq!(fetched, Fetched { value: second.clone(), origin: Origin::Loaded });
    assert_eq!(cache.get("a").await.unwrap().as_ref(), Some(&second));

    let conn = connect_below(&prefix).await.with_codec(Codec::Plain);
    let key = Prefix::new("cache").join("products").tagged("a");
    let mut stored = conn.get::<Bytes>(&key).await.unwrap().unwrap().to_vec();
    // The length of the value, behind the header.
    stored[21] ^= 0x10;
    conn.set(&key, &Bytes::from(stored)).await.unwrap();
    assert_eq!(cache.get("a").await.unwrap(), None);
    assert_eq!(cache.statistics().unreadable, 1);
    assert_eq!(cache.get_or_load("a", load).await.unwrap(), second);
    assert_eq!(cache.get("a").await.unwrap().as_ref(), Some(&second));
}
