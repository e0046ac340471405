//! Tasks that count, write and read without end, and remember what the answers allow.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redbrick_core_conn::{Conn, Result};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    chance::Chance,
    faults::{SLACK, Tally},
};

const TASKS: u64 = 16;
/// How many counters all tasks share, and how many values each has to itself.
const COUNTERS: u64 = 8;
const VALUES: u64 = 4;

/// What the tasks did.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) counters: BTreeMap<String, Tally>,
    pub(super) values: BTreeMap<String, Written>,
    /// The other calls.
    pub(super) reads: Tally,
    /// How many of them were given up, which leaves them unclear.
    pub(super) given_up: i64,
}

/// What one task wrote at one key: numbers, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    next: u64,
    tally: Tally,
    /// The numbers whose calls said that they surely did not run.
    failed: BTreeSet<u64>,
}

impl Written {
    /// Fails when what was read at `key` cannot have come of these writes. Which of those that may have run is the last
    /// one to arrive is not known: an attempt that was stuck can overtake its own repetition.
    pub(super) fn explains(&self, key: &str, read: Option<&str>) {
        let Some(read) = read else {
            assert_eq!(self.tally.done, 0, "{key}: what was stored is gone");
            return;
        };
        let (of, number) = read.split_once('#').expect("a value of ours");
        let number: u64 = number.parse().expect("a value of ours");
        assert_eq!(of, key, "the value of another key");
        assert!(number < self.next, "{key}: {number} was never written");
        assert!(!self.failed.contains(&number), "{key}: {number} was said not to have run");
    }
}

impl Work {
    pub(super) fn calls(&self) -> Tally {
        let values = self.values.values().map(|written| &written.tally);
        let mut all = self.reads;
        for tally in self.counters.values().chain(values) {
            all += *tally;
        }
        all
    }

    fn merge(&mut self, other: Self) {
        for (key, tally) in other.counters {
            *self.counters.entry(key).or_default() += tally;
        }
        self.values.extend(other.values);
        self.reads += other.reads;
        self.given_up += other.given_up;
    }
}

/// The tasks at work.
pub(super) struct Workers {
    tasks: JoinSet<Work>,
    stop: Arc<AtomicBool>,
    /// The longest time that a call took.
    pub(super) longest: Arc<Mutex<Duration>>,
}

impl Workers {
    /// Starts them on `conn`, whose calls may take `most`.
    pub(super) fn start(conn: &Conn, most: Duration, chance: &mut Chance) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let longest = Arc::<Mutex<Duration>>::default();
        let mut tasks = JoinSet::new();
        for id in 0..TASKS {
            let worker = Worker {
                id,
                conn: conn.clone(),
                chance: chance.fork(),
                most: most + SLACK,
                work: Work::default(),
                longest: Arc::clone(&longest),
            };
            tasks.spawn(worker.run(Arc::clone(&stop)));
        }
        Self { tasks, stop, longest }
    }

    /// Ends them, and returns what they did. No call hangs, so this takes no longer than a call.
    pub(super) async fn end(self) -> Work {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Work::default();
        for work in self.tasks.join_all().await {
            all.merge(work);
        }
        all
    }
}

struct Worker {
    id: u64,
    conn: Conn,
    chance: Chance,
    most: Duration,
    work: Work,
    longest: Arc<Mutex<Duration>>,
}

impl Worker {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Work {
        while !stop.load(Ordering::Relaxed) {
            let conn = self.conn.clone();
            match self.chance.of(0..3) {
                0 => {
                    let key = format!("counter{}", self.chance.of(0..COUNTERS));
                    let result = self.call(conn.increment(&key, 1)).await;
                    note(self.work.counters.entry(key).or_default(), result.as_ref());
                }
                1 => self.write(&conn).await,
                _ => self.read(&conn).await,
            }
        }
        self.work
    }

    fn own_key(&mut self) -> String {
        format!("value{}:{}", self.id, self.chance.of(0..VALUES))
    }

    async fn write(&mut self, conn: &Conn) {
        let key = self.own_key();
        let number = self.work.values.get(&key).map_or(0, |written| written.next);
        let result = self.call(conn.set(&key, &format!("{key}#{number}"))).await;
        let written = self.work.values.entry(key).or_default();
        written.next = number + 1;
        note(&mut written.tally, result.as_ref());
        if let Some(Err(err)) = result
            && !err.is_outcome_unknown()
        {
            written.failed.insert(number);
        }
    }

    async fn read(&mut self, conn: &Conn) {
        let key = self.own_key();
        let result = self.call(conn.get::<String>(&key)).await;
        note(&mut self.work.reads, result.as_ref());
        if let Some(Ok(read)) = result {
            self.work.values.entry(key.clone()).or_default().explains(&key, read.as_deref());
        }
    }

    /// Makes a call, or gives it up somewhere on its way.
    async fn call<T>(&mut self, call: impl IntoFuture<Output = Result<T>>) -> Option<Result<T>> {
        let started = Instant::now();
        let result = if self.chance.one_in(8) {
            let patience = Duration::from_micros(self.chance.of(0..3_000));
            timeout(patience, call.into_future()).await.ok()
        } else {
            Some(call.await)
        };
        let took = started.elapsed();
        assert!(took < self.most, "a call took {took:?}");
        let mut longest = self.longest.lock().expect("no task panics with it");
        *longest = took.max(*longest);
        drop(longest);
        self.work.given_up += i64::from(result.is_none());
        if let Some(Err(err)) = &result {
            assert!(err.is_retryable(), "{err:?}");
        }
        result
    }
}

/// A call that was given up may have run.
fn note<T>(tally: &mut Tally, result: Option<&Result<T>>) {
    match result {
        Some(result) => tally.note(result),
        None => tally.unknown += 1,
    }
}
