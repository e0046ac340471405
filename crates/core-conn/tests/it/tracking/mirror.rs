//! A copy of values that the feed keeps true, against another client's writes, kills, restarts, flushes, expiry, eviction,
//! slots that move and masters that change: what is read from it while the feed is current is never older than the bound.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redbrick_core_conn::{Config, Conn, Freshness, Invalidation, Tracking};
use redbrick_testkit::{Cluster, Server};
use tokio::{sync::RwLock, task::JoinSet, time::timeout};

use crate::{
    PATIENCE,
    alone::{is_long, tell},
    chance::Chance,
};

const KEYS: usize = 2000;
const WRITERS: usize = 16;
const READERS: usize = 3;
/// How many values a reader takes from the copy between two that it reads from the server.
const READS: usize = 50;
const BOUND: Duration = Duration::from_millis(500);
/// What makes a server with a little memory evict.
const PADDING: usize = 600;

/// What a key holds: the number of the write, and padding.
type Value = (u64, String);

/// What writers know: which write of a key was done by when.
struct Written(Vec<Mutex<History>>);

#[derive(Default)]
struct History {
    newest: u64,
    /// In order; the value of each is over from then on at the latest, when the next one was done.
    done: Vec<(u64, Instant)>,
}

impl Written {
    fn new() -> Self {
        Self((0..KEYS).map(|_| Mutex::default()).collect())
    }

    fn of(&self, key: usize) -> MutexGuard<'_, History> {
        self.0[key].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, key: usize) -> u64 {
        let mut history = self.of(key);
        history.newest += 1;
        history.newest
    }

    fn done(&self, key: usize, write: u64) {
        self.of(key).done.push((write, Instant::now()));
    }

    /// All values are gone.
    fn gone(&self) {
        for key in 0..KEYS {
            let write = self.begin(key);
            self.done(key, write);
        }
    }

    /// By how much `write` was over at `moment`, if it was.
    fn over_for(&self, key: usize, write: u64, moment: Instant) -> Option<Duration> {
        let history = self.of(key);
        let next = history.done.partition_point(|(done, _)| *done <= write);
        let (_, since) = history.done.get(next)?;
        moment.checked_duration_since(*since)
    }
}

/// The copy.
#[derive(Default)]
struct Mirror {
    kept: Mutex<Kept>,
    /// Every so many keys that were said are not forgotten, to see whether that is noticed.
    deaf_to_one_in: Option<u64>,
    said: AtomicU64,
}

#[derive(Default)]
struct Kept {
    values: HashMap<usize, u64>,
    /// How often a key was said, and how often all were.
    said: HashMap<usize, u64>,
    flushes: u64,
}

impl Mirror {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn follow(self: Arc<Self>, mut feed: Tracking) -> Tracking {
        loop {
            // Ended from outside, between two.
            let Some(said) = feed.next().await else { return feed };
            self.hear(&said);
        }
    }

    fn hear(&self, said: &Invalidation) {
        let said_before = self.said.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept();
        match said {
            Invalidation::Key(_)
                if self.deaf_to_one_in.is_some_and(|n| said_before.is_multiple_of(n)) => {}
            Invalidation::Key(name) => {
                let Some(key) = number(name) else { return };
                kept.values.remove(&key);
                *kept.said.entry(key).or_default() += 1;
            }
            _ => {
                kept.values.clear();
                kept.flushes += 1;
            }
        }
    }

    /// Reads a value, and keeps it if nothing was said of it meanwhile.
    async fn fill(&self, conn: &Conn, key: usize) {
        let state = |kept: &Kept| (kept.said.get(&key).copied(), kept.flushes);
        let before = state(&self.kept());
        // While the server is away there is nothing to keep.
        let Ok(Some((write, _))) = conn.get::<Value>(name(key)).await else { return };
        let mut kept = self.kept();
        if state(&kept) == before {
            kept.values.insert(key, write);
        }
    }
}

fn name(key: usize) -> String {
    format!("m:{key}")
}

fn number(name: &[u8]) -> Option<usize> {
    std::str::from_utf8(name).ok()?.strip_prefix("m:")?.parse().ok()
}

/// What readers found.
#[derive(Default, Debug)]
struct Found {
    hits: AtomicU64,
    /// Older than an acknowledged write, by the longest such time.
    behind: AtomicU64,
    longest_micros: AtomicU64,
    too_old: AtomicU64,
    not_current: AtomicU64,
}

impl Found {
    fn note(&self, over_for: Option<Duration>) {
        self.hits.fetch_add(1, Ordering::Relaxed);
        let Some(over_for) = over_for else { return };
        self.behind.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(over_for.as_micros()).expect("not for ever");
        self.longest_micros.fetch_max(micros, Ordering::Relaxed);
        if over_for > BOUND {
            self.too_old.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn read(
    mirror: Arc<Mirror>,
    conn: Conn,
    freshness: Freshness,
    written: Arc<Written>,
    found: Arc<Found>,
    stop: Arc<AtomicBool>,
    mut chance: Chance,
) {
    let mut any = move || usize::try_from(chance.of(0..KEYS as u64)).expect("a key");
    while !stop.load(Ordering::Relaxed) {
        let mut missing = any();
        for key in (0..READS).map(|_| any()) {
            let moment = Instant::now();
            if !freshness.is_current() {
                found.not_current.fetch_add(1, Ordering::Relaxed);
                break;
            }
            let kept = mirror.kept().values.get(&key).copied();
            match kept {
                Some(write) => found.note(written.over_for(key, write, moment)),
                None => missing = key,
            }
        }
        mirror.fill(&conn, missing).await;
    }
}

/// Writes the keys that are this writer's, one after the other.
async fn write(
    writer: usize,
    writes: usize,
    conn: Conn,
    written: Arc<Written>,
    quiet: Arc<RwLock<()>>,
    mut chance: Chance,
) {
    let keys = u64::try_from(KEYS / WRITERS).expect("a count");
    for _ in 0..writes {
        let _running = quiet.read().await;
        // Most writes are of few keys, so that others are kept for a while.
        let among = if chance.one_in(4) { keys } else { keys / 10 };
        let key = usize::try_from(chance.of(0..among)).expect("a key") * WRITERS + writer;
        let write = written.begin(key);
        let value: Value = (write, "x".repeat(PADDING));
        let outcome = match chance.of(0..10) {
            0 => conn.delete(name(key)).await.map(drop),
            1 => {
                let short = Duration::from_millis(chance.of(5..100));
                conn.set(name(key), &value).time_to_live(short).await.map(drop)
            }
            _ => conn.set(name(key), &value).await.map(drop),
        };
        if outcome.is_ok() {
            written.done(key, write);
        }
    }
}

/// The servers, and what is done to them.
enum Servers {
    Single(Box<Server>),
    Cluster(Cluster),
}

impl Servers {
    fn all(&self) -> Vec<&Server> {
        match self {
            Self::Single(server) => vec![server],
            Self::Cluster(cluster) => {
                let masters = cluster.masters().expect("the masters");
                masters.into_iter().map(|master| &cluster.nodes()[master]).collect()
            }
        }
    }

    fn each(&self, command: &[&str]) {
        for server in self.all() {
            server.command(command).expect("the server");
        }
    }

    /// Something that loses no data.
    fn disturb(&self, chance: &mut Chance) -> &'static str {
        match (self, chance.of(0..4)) {
            (Self::Cluster(cluster), 0) => {
                let key = usize::try_from(chance.of(0..KEYS as u64)).expect("a key");
                let slot = cluster.slot_of(name(key)).expect("a slot");
                let masters = cluster.masters().expect("the masters");
                let from = cluster.slot_owner(slot).expect("its node");
                let to = masters.into_iter().find(|master| *master != from).expect("another");
                cluster.migrate_slot(slot, to).expect("moved");
                "slot moved"
            }
            (Self::Cluster(cluster), 1) => {
                let masters = cluster.masters().expect("the masters");
                let at = usize::try_from(chance.of(0..masters.len() as u64)).expect("small");
                cluster.failover(masters[at]).expect("failed over");
                "failover"
            }
            (_, 2) => {
                self.each(&["CLIENT", "KILL", "TYPE", "normal"]);
                "commands killed"
            }
            _ => {
                self.each(&["CLIENT", "KILL", "TYPE", "pubsub"]);
                "feed killed"
            }
        }
    }

    /// Loses all data.
    fn empty(&self, chance: &mut Chance) -> &'static str {
        match self {
            Self::Single(server) if chance.one_in(3) => {
                server.kill().expect("killed");
                "restart"
            }
            _ => {
                self.each(&["FLUSHALL"]);
                "FLUSHALL"
            }
        }
    }

    /// After `empty`.
    fn mend(&self, what: &str) {
        if let (Self::Single(server), "restart") = (self, what) {
            server.restart().expect("started again");
            constrict(server);
        }
    }
}

/// Runs a copy against everything; returns how many reads were too old, and how many values were wrong at the end.
async fn mirrored(
    test: &str,
    servers: Servers,
    config: Config,
    own_writes: bool,
    deaf_to_one_in: Option<u64>,
    writes: usize,
) -> (u64, usize) {
    let mut chance = Chance::new(test);
    let (conn, other) = (
        Conn::connect(config.clone()).await.expect("a connection"),
        Conn::connect(config).await.expect("another"),
    );
    let feed = conn.track().prefix("m:").bound(BOUND);
    let feed = if own_writes { feed } else { feed.without_own_writes() };
    let feed = feed.await.expect("a feed");
    let freshness = feed.freshness();
    let mirror = Arc::new(Mirror { deaf_to_one_in, ..Mirror::default() });
    let written = Arc::new(Written::new());
    let (found, stop) = (Arc::<Found>::default(), Arc::<AtomicBool>::default());
    // Held by writers, and by who takes all values away.
    let quiet = Arc::<RwLock<()>>::default();
    let following = tokio::spawn(Arc::clone(&mirror).follow(feed));
    let mut reading = JoinSet::new();
    for _ in 0..READERS {
        reading.spawn(read(
            Arc::clone(&mirror),
            conn.clone(),
            freshness.clone(),
            Arc::clone(&written),
            Arc::clone(&found),
            Arc::clone(&stop),
            chance.fork(),
        ));
    }
    let mut writing = JoinSet::new();
    for writer in 0..WRITERS {
        let (other, written, quiet) = (other.clone(), Arc::clone(&written), Arc::clone(&quiet));
        writing.spawn(write(writer, writes / WRITERS, other, written, quiet, chance.fork()));
    }
    let servers = Arc::new(servers);
    let mut made: HashMap<&'static str, u32> = HashMap::new();
    let disturbing = async {
        loop {
            let calm = if deaf_to_one_in.is_some() {
                PATIENCE
            } else {
                Duration::from_millis(chance.of(20..200))
            };
            match timeout(calm, writing.join_next()).await {
                Ok(Some(written)) => {
                    written.expect("a writer");
                    continue;
                }
                Ok(None) => break,
                Err(_still_writing) => {}
            }
            let (servers, mut own) = (Arc::clone(&servers), chance.fork());
            let what = if own.one_in(4) {
                let _quiet = quiet.write().await;
                let empty = Arc::clone(&servers);
                let what = blocking(move || empty.empty(&mut own)).await;
                written.gone();
                blocking(move || servers.mend(what)).await;
                what
            } else {
                blocking(move || servers.disturb(&mut own)).await
            };
            *made.entry(what).or_default() += 1;
        }
    };
    disturbing.await;

    // What has expired is gone once it was asked for.
    let patient = other.with_command_timeout(PATIENCE);
    let mut stored = HashMap::new();
    for key in 0..KEYS {
        if let Some((write, _)) = patient.get::<Value>(name(key)).await.expect("all is well again")
        {
            stored.insert(key, write);
        }
    }
    let asked = Instant::now();
    while freshness.complete_until().is_none_or(|until| until < asked) {
        tokio::task::yield_now().await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(reader) = reading.join_next().await {
        reader.expect("a reader");
    }
    let kept = mirror.kept().values.clone();
    let wrong = kept.iter().filter(|(key, write)| stored.get(key) != Some(*write));
    let wrong = wrong.count();
    following.abort();
    let evicted: u64 = servers.all().into_iter().map(evicted).sum();
    let too_old = found.too_old.load(Ordering::Relaxed);
    tell(&format!(
        "{test}: {writes} writes, {made:?}, {evicted} evicted; {} hits, {} behind an acknowledged write, by at most {:?}; \
         {too_old} older than {BOUND:?}; {} reads while not current; {wrong} of {} wrong at the end",
        found.hits.load(Ordering::Relaxed),
        found.behind.load(Ordering::Relaxed),
        Duration::from_micros(found.longest_micros.load(Ordering::Relaxed)),
        found.not_current.load(Ordering::Relaxed),
        kept.len(),
    ));
    assert!(found.hits.load(Ordering::Relaxed) > 1000, "the copy was of use");
    (too_old, wrong)
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(act).await.expect("it ends")
}

fn evicted(server: &Server) -> u64 {
    figure(server, "stats", "evicted_keys:")
}

/// A figure out of a section of `INFO`.
fn figure(server: &Server, section: &str, name: &str) -> u64 {
    let info = server.command(["INFO", section]).expect("the server");
    let mut lines = info.as_str().expect("a text").lines();
    let figure = lines.find_map(|line| line.strip_prefix(name)).expect("the figure");
    figure.trim().parse().expect("a number")
}

/// Leaves an empty server room for some of the values only.
fn constrict(server: &Server) {
    let used = figure(server, "memory", "used_memory:");
    let most = (used + 1_000_000).to_string();
    server.command(["CONFIG", "SET", "maxmemory", &most]).expect("set");
}

fn single() -> (Servers, Config) {
    let server = Server::builder().config("maxmemory-policy", "allkeys-random");
    let server = server.start().expect("a server");
    constrict(&server);
    let config = Config::from_url(&server.url()).expect("a URL");
    (Servers::Single(Box::new(server)), config)
}

fn writes() -> usize {
    if is_long() { 1_000_000 } else { 50_000 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_copy_holds_is_never_older_than_the_bound() {
    let (servers, config) = single();
    let found = mirrored("tracking::mirror::single", servers, config, true, None, writes()).await;
    assert_eq!(found, (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_where_own_writes_are_left_out() {
    let (servers, config) = single();
    let found =
        mirrored("tracking::mirror::without_own", servers, config, false, None, writes()).await;
    assert_eq!(found, (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_on_a_cluster_whose_slots_and_masters_change() {
    let cluster = Cluster::builder().masters(3).replicas(1).start().expect("a cluster");
    let config = Config::from_url(&cluster.url()).expect("a URL");
    let servers = Servers::Cluster(cluster);
    let found = mirrored("tracking::mirror::cluster", servers, config, true, None, writes()).await;
    assert_eq!(found, (0, 0));
}

/// The check sees a copy that misses one key in twenty. Nothing else makes it forget.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_does_not_listen_is_found_out() {
    let (servers, config) = single();
    let (too_old, wrong) =
        mirrored("tracking::mirror::deaf", servers, config, true, Some(20), 20_000).await;
    assert!(too_old > 0 || wrong > 0, "the check would find nothing");
}
