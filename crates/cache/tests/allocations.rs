//! A hit allocates nothing. The only test of its program: what others throw away would be swept up by the reads here.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use allocation_counter::{AllocationInfo, measure};
use redbrick_cache::{Cache, Local};
use redbrick_core_conn::Conn;
use redbrick_testkit::Server;
use tokio::runtime::Runtime;

#[test]
fn a_hit_allocates_nothing() {
    // All runs on this thread, the only one whose allocations are counted.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::start().unwrap();
    let cache = runtime.block_on(async {
        let conn = Conn::connect(server.url()).await.unwrap();
        let cache: Cache<Arc<str>> = Cache::builder(conn, "p").local(Local::new()).build().unwrap();
        cache.set("plain", &"text".into()).await.unwrap();
        cache.set("tagged", &"text".into()).tags(["x", "y"]).await.unwrap();
        cache
    });
    for key in ["plain", "tagged"] {
        runtime.block_on(until_kept(&cache, key));
        // What a thread has for itself it allocates once.
        let first = reads(&runtime, &cache, key);
        assert!(first.count_total <= 1, "{key}: {first:?}");
        assert_eq!(reads(&runtime, &cache, key).count_total, 0, "{key}");
    }
}

/// What many reads allocate.
fn reads(runtime: &Runtime, cache: &Cache<Arc<str>>, key: &str) -> AllocationInfo {
    runtime.block_on(async {
        // Nothing is awaited in between: nothing but the reads is counted.
        measure(|| {
            for _ in 0..10_000 {
                at_once(cache.get(key)).unwrap().unwrap();
            }
        })
    })
}

async fn until_kept(cache: &Cache<Arc<str>>, key: &str) {
    let late = Instant::now() + Duration::from_secs(20);
    while !is_hit(cache, key).await {
        assert!(Instant::now() < late, "{key} is not kept");
        tokio::task::yield_now().await;
    }
}

/// What is found without waiting for anybody.
fn at_once<T>(found: impl Future<Output = T>) -> T {
    match pin!(found).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(found) => found,
        Poll::Pending => panic!("a hit waits for somebody"),
    }
}

/// Whether a read asks nobody.
async fn is_hit(cache: &Cache<Arc<str>>, key: &str) -> bool {
    let before = cache.statistics();
    cache.get(key).await.unwrap().unwrap();
    let after = cache.statistics();
    (after.hits, after.revalidated) == (before.hits, before.revalidated)
}
