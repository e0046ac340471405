//! One of the processes.

#![expect(clippy::unwrap_used, reason = "a part of the test")]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

#[cfg(feature = "local")]
use redbrick_cache::Local;
use redbrick_cache::{Cache, CacheBuilder, Error};
use tokio::task::JoinSet;

use super::{
    database::{Database, Figures, Place, Value, Who, connect, names_shared},
    fleet::Part,
    readers, writers,
};
use crate::{PATIENCE, rest};

const READERS: u64 = 24;
/// More where each of them waits before it reads.
const READERS_KEEPING: u64 = 96;
pub(super) const WRITERS: u64 = 2;
/// Within which a process is told to stop.
const LONGEST: Duration = Duration::from_secs(120);
/// How often it says what has happened in it, since it may be killed.
const REPORT: Duration = Duration::from_millis(200);
/// The cache whose connections are cut: it has nothing to serve when it cannot ask its server.
pub(super) const PLAIN: &str = "plain";
pub(super) const LEASE: Duration = Duration::from_millis(200);
/// How late a process that keeps values may know what others change.
const BOUND: Duration = Duration::from_millis(60);
/// Some loaders take longer.
pub(super) const LOAD_TIMEOUT: Duration = Duration::from_millis(500);

/// What all tasks of a process have.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) database: Database,
    /// What was changed here, where it keeps values: others' changes are to be seen after the bound.
    kept: Option<Mutex<HashMap<String, u64>>>,
    caches: [Cache<Value>; 2],
    pub(super) figures: Figures,
    stop: AtomicBool,
}

pub(super) async fn run(part: Part) {
    let database = Database::connect(&part.database).await;
    let builder = async |name| Cache::builder(connect(&part.cache, name).await, name);
    let caches = match part.keeping {
        false => [plain(builder(PLAIN).await), windowed(builder("windowed").await)],
        true => [keeping(builder(PLAIN).await), refreshing(builder("windowed").await)],
    };
    let kept = part.keeping.then(Mutex::default);
    let (figures, stop) = (Figures::default(), AtomicBool::new(false));
    let member = Arc::new(Member { database, kept, caches, figures, stop });
    let mut chance = fastrand::Rng::with_seed(part.seed);
    let mut tasks = JoinSet::new();
    let readers = if part.keeping { READERS_KEEPING } else { READERS };
    for _ in 0..readers {
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

/// Values are kept in the process.
#[cfg(feature = "local")]
fn keeping(builder: CacheBuilder<Value>) -> Cache<Value> {
    let local = Local::new().bound(BOUND).max_entries(150);
    let builder = builder.time_to_live(Duration::from_secs(2)).local(local);
    builder.lease(LEASE).load_timeout(LOAD_TIMEOUT).redis_timeout(PATIENCE).build().unwrap()
}

/// The same, and they are loaded anew before and after their end.
#[cfg(feature = "local")]
fn refreshing(builder: CacheBuilder<Value>) -> Cache<Value> {
    let builder = builder.stale_while_revalidate(Duration::from_millis(150)).early_refresh(true);
    keeping(builder.follow_tags(true))
}

#[cfg(not(feature = "local"))]
use self::{plain as keeping, windowed as refreshing};

impl Member {
    /// Which change of a key must be seen by whoever looks from here on.
    pub(super) async fn floor(&self, place: Place, tags: &[String]) -> u64 {
        self.floors_naming(&[place], tags).await[0]
    }

    /// The same of several, for those who name tags.
    pub(super) async fn floors_naming(&self, places: &[Place], tags: &[String]) -> Vec<u64> {
        let mut floors = Vec::new();
        for place in places {
            floors.push(self.database.floor_naming(*place, tags).await);
        }
        self.floors_kept(places, floors, tags).await
    }

    pub(super) async fn floors(&self, places: &[Place]) -> Vec<u64> {
        let floors = self.database.floors(places).await;
        self.floors_kept(places, floors, &[]).await
    }

    /// The same, where this process may know by now what it is told late, and knows already what it did itself.
    async fn floors_kept(&self, places: &[Place], floors: Vec<u64>, tags: &[String]) -> Vec<u64> {
        let Some(kept) = &self.kept else { return floors };
        self.catch_up().await;
        let whos = [Some(Who::All), names_shared(tags).then_some(Who::NamesShared)];
        let kept = kept.lock().unwrap();
        let floors = places.iter().zip(floors).map(|(place, floor)| {
            let names = whos.iter().flatten().map(|who| format!("{who:?}:{}", place.id()));
            let own = names.filter_map(|name| kept.get(&name).copied());
            own.fold(floor, u64::max)
        });
        floors.collect()
    }

    /// Waits until this process knows of what others have changed so far.
    pub(super) async fn catch_up(&self) {
        if self.keeps() {
            rest(BOUND).await;
        }
    }

    /// Whom this is about must see these changes from here on: they are invalidated in the cache.
    pub(super) async fn changed(&self, who: Who, values: &[Value]) {
        if let Some(kept) = &self.kept {
            let mut kept = kept.lock().unwrap();
            kept.extend(values.iter().map(|(id, count)| (format!("{who:?}:{id}"), *count)));
        }
        self.database.changed(who, values).await;
    }

    pub(super) fn cache(&self, place: Place) -> &Cache<Value> {
        &self.caches[place.cache()]
    }

    /// Whether this process keeps values.
    pub(super) fn keeps(&self) -> bool {
        self.kept.is_some()
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
                ("local hits", statistics.local_hits),
                ("revalidated", statistics.revalidated),
            ];
            figures.extend(counts.map(|(what, count)| (what.to_owned(), count)));
        }
        figures
    }
}

pub(super) fn millis(chance: &mut fastrand::Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_micros(chance.u64(range.start * 1000..range.end * 1000))
}
