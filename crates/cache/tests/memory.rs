//! What values that are kept in the process cost in memory, by the allocator's count.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{
    alloc::System,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redbrick_cache::{Cache, Local};
use redbrick_core_conn::{Config, Conn};
use redbrick_testkit::Server;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// It counts for all, so only one counts at a time.
static COUNTING: Mutex<()> = Mutex::new(());

const BOUND: usize = 8 << 20;

/// Runs alone, on one thread.
fn alone(test: impl Future<Output = ()>) {
    let _alone = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test);
}

fn keeping(conn: Conn, local: Local<Arc<str>>) -> Cache<Arc<str>> {
    Cache::builder(conn, "p").local(local).build().unwrap()
}

fn in_use() -> usize {
    let counts = ALLOCATOR.stats();
    counts.bytes_allocated - counts.bytes_deallocated
}

#[test]
fn a_hit_allocates_nothing() {
    alone(async {
        let server = Server::start().unwrap();
        let cache = keeping(Conn::connect(server.url()).await.unwrap(), Local::new());
        cache.set("plain", &"text".into()).await.unwrap();
        cache.set("tagged", &"text".into()).tags(["x", "y"]).await.unwrap();
        for key in ["plain", "tagged"] {
            let late = std::time::Instant::now() + Duration::from_secs(20);
            while !is_hit(&cache, key).await {
                assert!(std::time::Instant::now() < late, "{key} is not kept");
                tokio::task::yield_now().await;
            }
            // What a thread has for itself it allocates once.
            assert!(allocated(&cache, key).await <= 1, "{key}");
            assert_eq!(allocated(&cache, key).await, 0, "{key}");
        }
    });
}

/// How often many reads allocate.
async fn allocated(cache: &Cache<Arc<str>>, key: &str) -> usize {
    let before = ALLOCATOR.stats();
    for _ in 0..10_000 {
        cache.get(key).await.unwrap().unwrap();
    }
    let after = ALLOCATOR.stats();
    after.allocations + after.reallocations - before.allocations - before.reallocations
}

/// Whether a read asks nobody.
async fn is_hit(cache: &Cache<Arc<str>>, key: &str) -> bool {
    let before = cache.statistics();
    cache.get(key).await.unwrap().unwrap();
    let after = cache.statistics();
    (after.hits, after.revalidated) == (before.hits, before.revalidated)
}

/// Reads far more values than may be kept, whose lengths are of this range and have so many tags, and looks all the time what that
/// takes.
fn churn(lens: std::ops::Range<usize>, tags: usize) {
    alone(async {
        let server = Server::start().unwrap();
        let conn = Conn::connect(Config::builder().url(server.url())).await.unwrap();
        let mut chance = fastrand::Rng::with_seed(7);
        let mean = (lens.start + lens.end) / 2 + 300;
        let names: Vec<String> = (0..BOUND * 3 / mean).map(|n| format!("product:{n}")).collect();
        let tags: Vec<String> = (0..tags).map(|n| format!("tag {n}")).collect();
        let plain: Cache<Arc<str>> = Cache::new(conn.clone(), "p");
        for some in names.chunks(1000) {
            let values = some.iter().map(|_| "x".repeat(chance.usize(lens.clone())).into());
            let values: Vec<Arc<str>> = values.collect();
            plain.set_many(some.iter().zip(&values)).tags(&tags).await.unwrap();
        }
        // All that is not kept has been made by now.
        plain.get_many(&names[..100]).await.unwrap();
        let local = Local::new().max_entries(1_000_000).max_bytes(BOUND as u64);
        let before = in_use();
        let cache = keeping(conn, local);
        let mut most = 0;
        for (n, some) in names.chunks(100).enumerate() {
            cache.get_many(some).await.unwrap();
            if n > names.len() / 200 {
                most = most.max(in_use() - before);
            }
        }
        let size = cache.local_size();
        let kept = in_use() - before;
        let share = |bytes: usize| bytes * 100 / BOUND;
        tell(&format!(
            "lengths {lens:?}, {} tags: {} entries count for {} %, take {} %, at most {} %",
            tags.len(),
            size.entries,
            share(usize::try_from(size.bytes).unwrap()),
            share(kept),
            share(most),
        ));
        assert!(share(most) <= 110 && share(kept) >= 90, "{} % and {} %", share(most), share(kept));
    });
}

#[test]
fn short_values_take_no_more_than_their_bound() {
    churn(10..50, 0);
}

#[test]
fn values_of_all_lengths_take_no_more_than_their_bound() {
    churn(10..4000, 0);
}

#[test]
fn values_with_tags_take_no_more_than_their_bound() {
    churn(100..1000, 2);
}

#[expect(clippy::print_stdout, reason = "figures for those who look at them")]
fn tell(text: &str) {
    println!("{text}");
}
