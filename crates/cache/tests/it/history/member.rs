//! One of the processes.

#![expect(clippy::unwrap_used, reason = "a part of the test")]

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redbrick_cache::{Cache, CacheBuilder, Error};
use tokio::{task::JoinSet, time::timeout};

use super::{
    database::{Database, Figures, Place, Value, connect},
    fleet::Part,
    readers, writers,
};
use crate::PATIENCE;

const READERS: u64 = 24;
pub(super) const WRITERS: u64 = 2;
/// Within which a process is told to stop.
const LONGEST: Duration = Duration::from_secs(120);
/// How often it says what has happened in it, since it may be killed.
const REPORT: Duration = Duration::from_millis(200);
/// The cache whose connections are cut: it has nothing to serve when it cannot ask its server.
pub(super) const PLAIN: &str = "plain";
pub(super) const LEASE: Duration = Duration::from_millis(200);
/// Some loaders take longer.
pub(super) const LOAD_TIMEOUT: Duration = Duration::from_millis(500);

/// What all tasks of a process have.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) database: Database,
    caches: [Cache<Value>; 2],
    pub(super) figures: Figures,
    stop: AtomicBool,
}

pub(super) async fn run(part: Part) {
    let database = Database::connect(&part.database).await;
    let builder = async |name| Cache::builder(connect(&part.cache, name).await, name);
    let caches = [plain(builder(PLAIN).await), windowed(builder("windowed").await)];
    let (figures, stop) = (Figures::default(), AtomicBool::new(false));
    let member = Arc::new(Member { database, caches, figures, stop });
    let mut chance = fastrand::Rng::with_seed(part.seed);
    let mut tasks = JoinSet::new();
    for _ in 0..READERS {
        tasks.spawn(readers::run(Arc::clone(&member), chance.fork()));
    }
    for writer in 0..WRITERS {
        let families = writers::families(part.number, writer);
        tasks.spawn(writers::run(Arc::clone(&member), chance.fork(), families));
    }
    let lists = member.database.conn.clone();
    let stop = lists.list("stop");
    lists.list("ready").push_back(&part.number).await.unwrap();
    let figures = format!("figures:{}", part.seed);
    let report = async || lists.set(&figures, &member.figures()).await.unwrap();
    let reports = async {
        loop {
            rest(REPORT).await;
            report().await;
        }
    };
    tokio::select! {
        stop = stop.pop_front_within::<u64>(LONGEST) => {
            stop.unwrap().expect("it is told to stop");
        }
        Some(ended) = tasks.join_next() => panic!("a task has ended: {ended:?}"),
        () = reports => {}
    }
    member.stop.store(true, Ordering::SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    report().await;
}

/// Entries live shortly, and are not served afterwards.
fn plain(builder: CacheBuilder<Value>) -> Cache<Value> {
    let builder = builder.time_to_live(Duration::from_millis(300)).lease(LEASE);
    builder.load_timeout(LOAD_TIMEOUT).redis_timeout(PATIENCE).build().unwrap()
}

/// Entries are loaded anew before and after their end.
fn windowed(builder: CacheBuilder<Value>) -> Cache<Value> {
    let builder = builder.time_to_live(Duration::from_millis(80)).jitter(Duration::from_millis(40));
    let builder = builder.stale_while_revalidate(Duration::from_millis(150)).early_refresh(true);
    let builder = builder.stale_if_error(Duration::from_secs(1)).lease(LEASE);
    builder.load_timeout(LOAD_TIMEOUT).redis_timeout(PATIENCE).build().unwrap()
}

impl Member {
    pub(super) fn cache(&self, place: Place) -> &Cache<Value> {
        &self.caches[place.cache()]
    }

    pub(super) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    pub(super) fn add(&self, what: &str) {
        self.figures.add(what, 1);
    }

    /// A call failed: a loader did, or a connection was cut.
    pub(super) fn failed(&self, error: &Error) {
        match error {
            Error::Load(_) | Error::LoadTimeout(_) => self.add("failed by its loader"),
            error if error.is_retryable() => self.add("failed by its connection"),
            error => panic!("{error:?}"),
        }
    }

    /// What was read must be as new as that.
    pub(super) async fn check(&self, how: &str, place: Place, floor: u64, read: &Value) {
        self.add("checked");
        self.database.check(how, place, floor, read).await;
    }

    /// What has happened here, by its tasks and by its caches.
    fn figures(&self) -> Vec<(String, u64)> {
        let mut figures = self.figures.all();
        for cache in &self.caches {
            let statistics = cache.statistics();
            let counts = [
                ("loads", statistics.loads),
                ("load failures", statistics.load_failures),
                ("refused fills", statistics.refused_fills),
                ("served stale", statistics.served_stale),
                ("waits", statistics.waits),
                ("coalesced", statistics.coalesced),
            ];
            figures.extend(counts.map(|(what, count)| (what.to_owned(), count)));
        }
        figures
    }
}

/// Does nothing for so long: what a task needs in between, or a loader.
pub(super) async fn rest(time: Duration) {
    let _elapsed = timeout(time, pending::<()>()).await;
}

pub(super) fn millis(chance: &mut fastrand::Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_micros(chance.u64(range.start * 1000..range.end * 1000))
}
