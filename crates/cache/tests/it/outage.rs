//! A server that is killed under load, and is back with what it had.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use redbrick_cache::{Cache, Error, Origin};
use redbrick_core_conn::{Config, Conn};
use redbrick_testkit::Server;
use tokio::{
    task::JoinSet,
    time::{Instant, interval},
};

use crate::{PATIENCE, is_long, number};

const KEYS: usize = 32;
const READERS: usize = 32;
const LOAD: Duration = Duration::from_millis(5);

/// What is cached, as its source has it.
#[derive(Default)]
struct Record {
    value: AtomicU64,
    /// What it was when the last invalidation returned, however that ended.
    floor: AtomicU64,
    /// Odd while it is being invalidated: then a load may begin beside one that is outdated.
    generation: AtomicU64,
    /// One more than the generation of the last load that is under way, if it began in an even one.
    loading: AtomicU64,
}

#[derive(Default)]
struct World {
    records: [Record; KEYS],
    is_over: AtomicBool,
    reads: AtomicU64,
    loads: AtomicU64,
    invalidations: AtomicU64,
    failed_invalidations: AtomicU64,
}

impl World {
    async fn load(&self, key: usize) -> Result<u64, Error> {
        let record = &self.records[key];
        let generation = record.generation.load(SeqCst);
        let is_alone = generation.is_multiple_of(2);
        if is_alone {
            let other = record.loading.swap(generation + 1, SeqCst);
            assert!(other != generation + 1, "{key} is loaded already");
        }
        let value = record.value.load(SeqCst);
        crate::rest(LOAD).await;
        if is_alone {
            // Unless one of a later generation has begun.
            let _ = record.loading.compare_exchange(generation + 1, 0, SeqCst, SeqCst);
        }
        self.loads.fetch_add(1, SeqCst);
        Ok(value)
    }

    async fn read(&self, cache: &Cache<u64>) {
        while !self.is_over.load(SeqCst) {
            let key = fastrand::usize(..KEYS);
            let floor = self.records[key].floor.load(SeqCst);
            let (id, tag) = (key.to_string(), format!("t{key}"));
            let read = cache.get_or_load(id, || self.load(key)).tags([tag]);
            let value = read.await.expect("its loader works");
            assert!(value >= floor, "{key}: {value} was invalidated, and {floor} is known");
            self.reads.fetch_add(1, SeqCst);
        }
    }

    async fn write(&self, cache: &Cache<u64>) {
        let mut pace = interval(Duration::from_millis(5));
        while !self.is_over.load(SeqCst) {
            pace.tick().await;
            let key = fastrand::usize(..KEYS);
            let record = &self.records[key];
            let value = record.value.fetch_add(1, SeqCst) + 1;
            record.generation.fetch_add(1, SeqCst);
            let invalidated = match fastrand::bool() {
                true => cache.delete(key.to_string()).await,
                false => cache.invalidate_tag(format!("t{key}")).await,
            };
            record.generation.fetch_add(1, SeqCst);
            record.floor.store(value, SeqCst);
            let counter = match invalidated {
                Ok(_) => &self.invalidations,
                Err(_) => &self.failed_invalidations,
            };
            counter.fetch_add(1, SeqCst);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_under_load_and_comes_back_is_not_felt_and_brings_nothing_back() {
    let outage = Duration::from_secs(if is_long() { 5 } else { 2 });
    let server = Server::builder().config("appendonly", "yes").config("appendfsync", "always");
    let server = server.start().unwrap();
    let connect = async || {
        let config = Config::builder().url(server.url()).command_timeout(Duration::from_millis(50));
        Conn::connect(config).await.unwrap()
    };
    let cache: Cache<u64> = Cache::new(connect().await, "products");
    let world = Arc::new(World::default());
    let mut tasks = JoinSet::new();
    for _ in 0..READERS {
        let (world, cache) = (Arc::clone(&world), cache.clone());
        tasks.spawn(async move { world.read(&cache).await });
    }
    let writer = (Arc::clone(&world), cache.clone());
    tasks.spawn(async move { writer.0.write(&writer.1).await });
    let pass = async |time: Duration| {
        crate::rest(time).await;
        (world.reads.load(SeqCst), cache.statistics())
    };
    let (_, before) = pass(Duration::from_millis(500)).await;
    assert!(before.hits > 0 && before.bypassed == 0, "{before:?}");

    server.kill().unwrap();
    let began = Instant::now();
    let (reads, during) = pass(outage).await;
    assert!(during.bypassed > 0 && world.failed_invalidations.load(SeqCst) > 0);
    let slowest = began.elapsed() / u32::try_from(reads.max(1)).unwrap();
    assert!(slowest < Duration::from_secs(1), "reads go on: {reads}");

    server.restart().unwrap();
    let (_, after) = pass(Duration::from_millis(1500)).await;
    assert!(after.hits > during.hits, "it is used once more: {after:?}");
    world.is_over.store(true, SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("nothing was felt");
    }
    // What was owed is made up for, also for others.
    let other: Cache<u64> = Cache::new(connect().await, "products");
    for (key, record) in world.records.iter().enumerate() {
        let floor = record.floor.load(SeqCst);
        let patience = Instant::now() + PATIENCE;
        while other.get(key.to_string()).await.unwrap_or(Some(0)).is_some_and(|it| it < floor) {
            assert!(Instant::now() < patience, "{key} was invalidated");
            tokio::task::yield_now().await;
        }
    }
    tell(&world, &after);
}

#[expect(clippy::print_stdout, reason = "figures for those who look at them")]
fn tell(world: &World, statistics: &redbrick_cache::Statistics) {
    let count = |counter: &AtomicU64| counter.load(SeqCst);
    println!(
        "{} reads, {} loads ({} of them without Redis), {} invalidations and {} that failed",
        count(&world.reads),
        count(&world.loads),
        statistics.bypassed,
        count(&world.invalidations),
        count(&world.failed_invalidations),
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_left_alone_after_some_timeouts() {
    let server = Server::start().unwrap();
    let patience = Duration::from_millis(200);
    let conn = Conn::connect(server.url()).await.unwrap();
    let cache: Cache<u64> =
        Cache::builder(conn, "products").redis_timeout(patience).build().unwrap();
    cache.set("a", &1).await.unwrap();
    let paused = server.pause().unwrap();
    for _ in 0..5 {
        assert_eq!(cache.get_or_load("a", || number(2)).await.unwrap(), 2);
    }
    let began = Instant::now();
    for _ in 0..50 {
        assert_eq!(cache.get_or_load("a", || number(2)).await.unwrap(), 2);
    }
    let took = began.elapsed();
    assert!(took < patience * 10, "each would wait for {patience:?}: {took:?}");
    paused.resume();
    while cache.get_or_load("a", || number(2)).await.unwrap() != 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn timeouts_with_answers_between_them_leave_nobody_alone() {
    let server = Server::start().unwrap();
    let conn = Conn::connect(server.url()).await.unwrap();
    let cache = Cache::builder(conn, "products").redis_timeout(Duration::from_millis(100));
    let cache: Cache<u64> = cache.build().unwrap();
    for n in 0..6 {
        let paused = server.pause().unwrap();
        let late = cache.refresh("a", || number(n)).with_origin().await.unwrap();
        assert_eq!(late.origin, Origin::Bypassed);
        paused.resume();
        // What is gone from this process is not looked for, and what is loaded anew is not either.
        let until = Instant::now() + PATIENCE;
        while cache.refresh("a", || number(n)).with_origin().await.unwrap().origin != Origin::Loaded
        {
            assert!(Instant::now() < until, "after {n} timeouts it is asked no more");
        }
    }
    let loaded = cache.refresh("a", || number(7)).with_origin().await.unwrap();
    assert_eq!(loaded.origin, Origin::Loaded);
}
