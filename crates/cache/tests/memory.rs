//! What values that are kept in the process cost in memory, by the allocator's count.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::sync::{Arc, Mutex, PoisonError};

use allocation_counter::measure;
use redbrick_cache::{Cache, Local};
use redbrick_core_conn::Conn;
use redbrick_testkit::Server;

const BOUND: usize = 8 << 20;

/// Only one counts at a time: what is taken out of the tier is freed by any thread that comes by.
static COUNTING: Mutex<()> = Mutex::new(());

/// Reads far more values than may be kept, whose lengths are of this range and have so many tags, and looks all the time what that
/// takes.
fn churn(lens: std::ops::Range<usize>, tags: usize) {
    let _alone = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    // All runs on this thread, the only one whose allocations are counted.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::start().unwrap();
    let conn = runtime.block_on(Conn::connect(server.url())).unwrap();
    let mut chance = fastrand::Rng::with_seed(7);
    let mean = (lens.start + lens.end) / 2 + 300;
    let names: Vec<String> = (0..BOUND * 3 / mean).map(|n| format!("product:{n}")).collect();
    let tags: Vec<String> = (0..tags).map(|n| format!("tag {n}")).collect();
    let plain: Cache<Arc<str>> = Cache::new(conn.clone(), "p");
    for some in names.chunks(1000) {
        let values = some.iter().map(|_| "x".repeat(chance.usize(lens.clone())).into());
        let values: Vec<Arc<str>> = values.collect();
        runtime
            .block_on(plain.set_many(some.iter().zip(&values)).tags(&tags).into_future())
            .unwrap();
    }
    // All that is not kept has been made by now.
    runtime.block_on(plain.get_many(&names[..100])).unwrap();
    let local = Local::new().max_entries(1_000_000).max_bytes(BOUND as u64);
    let mut made: Option<Cache<Arc<str>>> = None;
    let mut kept = measure(|| made = Some(Cache::builder(conn, "p").local(local).build().unwrap()))
        .bytes_current;
    let cache = made.unwrap();
    let mut most = 0;
    for (n, some) in names.chunks(100).enumerate() {
        let read = measure(|| drop(runtime.block_on(cache.get_many(some)).unwrap()));
        kept += read.bytes_current;
        if n > names.len() / 200 {
            most = most.max(kept);
        }
    }
    let size = cache.local_size();
    let share = |bytes: i64| bytes * 100 / BOUND as i64;
    tell(&format!(
        "lengths {lens:?}, {} tags: {} entries count for {} %, take {} %, at most {} %",
        tags.len(),
        size.entries,
        share(i64::try_from(size.bytes).unwrap()),
        share(kept),
        share(most),
    ));
    assert!(share(most) <= 110 && share(kept) >= 90, "{} % and {} %", share(most), share(kept));
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
