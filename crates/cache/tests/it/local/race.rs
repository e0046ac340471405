//! Whoever reads while others write and the server's word is lost keeps nothing that is not there.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redbrick_cache::{Cache, Local};
use redbrick_core_conn::Conn;
use redbrick_testkit::{Fault, Server};
use tokio::task::JoinSet;

use super::{builder, connect, cut_feed};
use crate::is_long;

const KEYS: u64 = 1000;
const BOUND: Duration = Duration::from_millis(60);
const READERS: u64 = 8;

/// What was written, and when that was answered.
struct Writes {
    /// The number of the write that is under way.
    now: AtomicU64,
    answered: Vec<Mutex<Vec<(Instant, u64)>>>,
}

impl Writes {
    fn was_answered(&self, key: u64, n: u64) {
        let mut answered = self.answered[usize::try_from(key).unwrap()].lock().unwrap();
        answered.push((Instant::now(), n));
    }

    /// What must be seen of a key by whoever reads from here on.
    fn floor(&self, key: u64) -> u64 {
        let by = Instant::now().checked_sub(BOUND).unwrap();
        let answered = self.answered[usize::try_from(key).unwrap()].lock().unwrap();
        answered.iter().rev().find(|(at, _)| *at <= by).map_or(0, |(_, n)| *n)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_keeps_what_was_overwritten_while_it_read() {
    let (writes, cuts) = if is_long() { (20_000, 100) } else { (3_000, 10) };
    let server = Server::start().unwrap();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    // What is read arrives after what the server says of it meanwhile, over a link that is made later.
    proxy.set_for_open(Fault::Latency { up: Duration::ZERO, down: Duration::from_millis(2) });
    let cache = builder(conn).local(Local::new().bound(BOUND)).build().unwrap();
    let answered = (0..KEYS).map(|_| Mutex::default()).collect();
    let written = Arc::new(Writes { now: AtomicU64::new(0), answered });
    let mut readers = JoinSet::new();
    for seed in 0..READERS {
        readers.spawn(read(cache.clone(), Arc::clone(&written), fastrand::Rng::with_seed(seed)));
    }
    let other = crate::patient::<u64>(connect(&server).await);
    for n in 1..=writes {
        written.now.store(n, Ordering::SeqCst);
        let key = n % KEYS;
        other.set(key.to_string(), &n).await.unwrap();
        written.was_answered(key, n);
        // So that what is kept lives longer than the bound before the link is cut, after which it would be asked for.
        crate::rest(Duration::from_millis(1)).await;
        if n % (writes / cuts) == 0 {
            cut_when_there(&server).await;
        }
    }
    readers.abort_all();
    while let Some(ended) = readers.join_next().await {
        assert!(ended.is_err_and(|ended| ended.is_cancelled()), "a reader has failed");
    }
    crate::rest(BOUND).await;
    for key in 0..KEYS {
        let floor = written.floor(key);
        assert_eq!(cache.get(key.to_string()).await.unwrap(), Some(floor), "{key}");
    }
    let statistics = cache.statistics();
    assert!(statistics.local_hits > 100 && statistics.revalidated > 0, "{statistics:?}");
}

/// Reads keys just about to be written, which it has not kept for long, and others, which were written before.
async fn read(cache: Cache<u64>, written: Arc<Writes>, mut chance: fastrand::Rng) {
    loop {
        let key = match chance.bool() {
            true => (written.now.load(Ordering::SeqCst) + chance.u64(0..3)) % KEYS,
            false => chance.u64(..KEYS),
        };
        let floor = written.floor(key);
        let read = cache.get(key.to_string()).await.unwrap().unwrap_or_default();
        assert!(read >= floor, "{key} gave {read}, and {floor} was to be seen");
        tokio::task::yield_now().await;
    }
}

/// Cuts the link when it is there: it takes a moment to come back.
async fn cut_when_there(server: &Server) {
    let late = Instant::now() + crate::PATIENCE;
    loop {
        let clients = server.command(["CLIENT", "LIST", "TYPE", "pubsub"]).unwrap();
        if clients.as_str().is_some_and(|clients| clients.contains("id=")) {
            return cut_feed(server);
        }
        assert!(Instant::now() < late, "the link does not come back");
        tokio::task::yield_now().await;
    }
}
