//! A lock that many wait for: how long it takes from one to the next, beside a PING of another client at the same time, and beside locks
//! that ask from time to time, that tell all when they are free, and another crate's.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use fred::{
    clients::Client,
    interfaces::{
        ClientLike as _, EventInterface as _, KeysInterface as _, LuaInterface as _,
        PubsubInterface as _,
    },
    types::{Builder, Expiration, SetOptions, config::Config},
};
use redbrick_benches::Options;
use redbrick_core_conn::Conn;
use redbrick_lock::{Locks, Wait};
use redbrick_testkit::Server;
use rslock::LockManager;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

const CONNS: usize = 8;
const WAITERS: usize = 32;
const LEASE: Duration = Duration::from_secs(30);
const FAR: Duration = Duration::from_secs(600);
/// What many release a lock with.
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// The same, and says so.
const RELEASE_AND_SAY: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PUBLISH', 'freed', '') return redis.call('DEL', KEYS[1]) end return 0";

/// A lock of some kind, and how long each keeps it.
#[derive(Clone, Copy)]
struct Side {
    name: &'static str,
    kind: Kind,
    hold: Duration,
}

#[derive(Clone, Copy)]
enum Kind {
    Redbrick,
    /// It is asked for so often, as nobody says that it is free.
    Polls(Duration),
    /// Who releases it says so to all who wait, and all of them ask.
    Broadcast,
    /// The crate of that name, with its defaults, but for as many attempts as it takes.
    Rslock,
}

const MS: Duration = Duration::from_millis(1);
const SIDES: [Side; 8] = [
    Side { name: "redbrick, held 1 ms", kind: Kind::Redbrick, hold: MS },
    Side { name: "redbrick, held 0 ms", kind: Kind::Redbrick, hold: Duration::ZERO },
    Side { name: "polls 10 ms, held 1 ms", kind: Kind::Polls(TEN), hold: MS },
    Side { name: "polls 100 ms, held 1 ms", kind: Kind::Polls(HUNDRED), hold: MS },
    Side { name: "broadcast, held 1 ms", kind: Kind::Broadcast, hold: MS },
    Side { name: "broadcast, held 0 ms", kind: Kind::Broadcast, hold: Duration::ZERO },
    Side { name: "rslock, held 1 ms", kind: Kind::Rslock, hold: MS },
    Side { name: "rslock, held 0 ms", kind: Kind::Rslock, hold: Duration::ZERO },
];
const TEN: Duration = Duration::from_millis(10);
const HUNDRED: Duration = Duration::from_millis(100);

fn main() {
    let Some(options) = Options::from_args() else { return };
    let length = Duration::from_secs(if options.quick { 2 } else { 10 });
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
    // On one thread, or it depends on which thread wakes which.
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build();
    one.expect("a runtime").block_on(alone(length));
    println!("\nlock: {WAITERS} tasks on {CONNS} connections take turns for {length:?}");
    println!(
        "{:<24} {:>9} {:>9} {:>9} {:>7} {:>9} {:>8} {:>10}",
        "side", "p50 us", "p99 us", "PING p50", "÷ PING", "a second", "commands", "fairness"
    );
    for side in SIDES {
        runtime
            .block_on(async { tokio::spawn(measure(side, length)).await.expect("no task fails") });
    }
}

/// What it costs to acquire and release a lock that nobody else wants, beside the same by hand.
async fn alone(length: Duration) {
    const SLICE: u32 = 200;
    let server = Server::start().expect("a server can be had");
    let (locks, client) = (locks(&server).await, client(&server).await);
    let sha: String = client.script_load(RELEASE).await.expect("the server");
    let (mut ours, mut by_hand) = (Vec::new(), Vec::new());
    let until = Instant::now() + length;
    while Instant::now() < until {
        let began = Instant::now();
        for n in 0..SLICE {
            let guard = locks.try_lock(n.to_string()).await.expect("the server");
            let _ = guard.expect("nobody has it").release().await.expect("the server");
        }
        ours.push(began.elapsed() / SLICE);
        let began = Instant::now();
        for n in 0..SLICE {
            let life = Some(Expiration::PX(30_000));
            let (key, token) = (format!("raw:{n}"), "0123456789abcdef");
            let set =
                client.set::<Option<String>, _, _>(&*key, token, life, Some(SetOptions::NX), false);
            assert!(set.await.expect("the server").is_some(), "nobody has it");
            let _: i64 = client.evalsha(&*sha, &*key, token).await.expect("the server");
        }
        by_hand.push(began.elapsed() / SLICE);
    }
    ours.sort();
    by_hand.sort();
    let (ours, by_hand) = (ours[ours.len() / 2], by_hand[by_hand.len() / 2]);
    println!(
        "\nlock: acquired and released by one, p50: {ours:?}; SET NX and a script by hand {by_hand:?}: {:.2} times as fast",
        by_hand.as_secs_f64() / ours.as_secs_f64()
    );
}

/// What is seen of the turns.
#[derive(Default)]
struct Turns {
    released: Option<Instant>,
    handoffs: Vec<Duration>,
    by_waiter: Vec<u64>,
}

type Seen = Arc<Mutex<Turns>>;

fn seen<T>(turns: &Seen, look: impl FnOnce(&mut Turns) -> T) -> T {
    look(&mut turns.lock().unwrap_or_else(PoisonError::into_inner))
}

async fn measure(side: Side, length: Duration) {
    let server = Server::start().expect("a server can be had");
    let turns: Seen = Arc::default();
    seen(&turns, |turns| turns.by_waiter = vec![0; WAITERS]);
    let until = Instant::now() + length;
    let mut tasks = JoinSet::new();
    for conn in 0..CONNS {
        let (locks, client) = (locks(&server).await, client(&server).await);
        let freed = freed(&server, side).await;
        let rslock = rslock(&server);
        for waiter in (conn..WAITERS).step_by(CONNS) {
            let (locks, client, turns) = (locks.clone(), client.clone(), Arc::clone(&turns));
            let (freed, rslock) = (freed.clone(), rslock.clone());
            tasks.spawn(async move {
                while Instant::now() < until {
                    match side.kind {
                        Kind::Redbrick => turn(&locks, side, waiter, &turns).await,
                        Kind::Rslock => theirs(&rslock, side, waiter, &turns, until).await,
                        Kind::Polls(pause) => {
                            let pause = || rest(pause);
                            by_hand(&client, pause, side, waiter, &turns, until).await;
                        }
                        Kind::Broadcast => {
                            // A message that was missed is made up for.
                            let pause = || async {
                                let _told = timeout(HUNDRED, freed.notified()).await;
                            };
                            by_hand(&client, pause, side, waiter, &turns, until).await;
                        }
                    }
                }
            });
        }
    }
    let pings = ping(client(&server).await, until).await;
    while tasks.join_next().await.is_some() {}
    let counts = server.command_counts().expect("the server");
    let asked = counts.of("evalsha")
        + counts.of("eval")
        + if matches!(side.kind, Kind::Redbrick) { 0 } else { counts.of("set") };
    report(side, length, &turns, pings, asked);
}

async fn locks(server: &Server) -> Locks {
    Locks::new(Conn::connect(server.url()).await.expect("the server"))
}

async fn client(server: &Server) -> Client {
    let config = Config::from_url(&server.url()).expect("a URL");
    let client = Builder::from_config(config).build().expect("a client");
    client.init().await.expect("the server");
    client
}

async fn turn(locks: &Locks, side: Side, waiter: usize, turns: &Seen) {
    let lock = locks.lock("job").lease(LEASE).wait(Wait::For(FAR));
    let guard = lock.await.expect("the server").expect("it is handed on");
    had(turns, waiter, side.hold).await;
    let _ = guard.release().await.expect("the server");
}

/// `SET NX`, again after each pause, and a script that releases it.
async fn by_hand<Pause: Future<Output = ()>>(
    client: &Client,
    pause: impl Fn() -> Pause,
    side: Side,
    waiter: usize,
    turns: &Seen,
    until: Instant,
) {
    let life = Some(Expiration::PX(30_000));
    loop {
        let set = client.set::<Option<String>, _, _>(
            "job",
            waiter,
            life.clone(),
            Some(SetOptions::NX),
            false,
        );
        if set.await.expect("the server").is_some() {
            break;
        }
        if Instant::now() >= until {
            return;
        }
        pause().await;
    }
    had(turns, waiter, side.hold).await;
    let release = if matches!(side.kind, Kind::Broadcast) { RELEASE_AND_SAY } else { RELEASE };
    let _: i64 = client.eval(release, "job", waiter.to_string()).await.expect("the server");
}

/// Tells all who wait on a connection that the lock is free.
async fn freed(server: &Server, side: Side) -> Arc<Notify> {
    let freed = Arc::new(Notify::new());
    if matches!(side.kind, Kind::Broadcast) {
        let (client, telling) = (client(server).await, Arc::clone(&freed));
        client.subscribe("freed").await.expect("the server");
        let mut messages = client.message_rx();
        drop(tokio::spawn(async move {
            let _open = client;
            while messages.recv().await.is_ok() {
                telling.notify_waiters();
            }
        }));
    }
    freed
}

fn rslock(server: &Server) -> LockManager {
    let mut manager = LockManager::new(vec![server.url()]);
    manager.set_retry(u32::MAX, Duration::from_millis(200));
    manager
}

async fn theirs(manager: &LockManager, side: Side, waiter: usize, turns: &Seen, until: Instant) {
    let left = until.saturating_duration_since(Instant::now());
    let Ok(Ok(lock)) = timeout(left, manager.acquire_no_guard("job", LEASE)).await else { return };
    had(turns, waiter, side.hold).await;
    manager.unlock(&lock).await;
}

async fn had(turns: &Seen, waiter: usize, hold: Duration) {
    seen(turns, |turns| {
        turns.by_waiter[waiter] += 1;
        if let Some(released) = turns.released.take() {
            turns.handoffs.push(released.elapsed());
        }
    });
    if !hold.is_zero() {
        rest(hold).await;
    }
    seen(turns, |turns| turns.released = Some(Instant::now()));
}

async fn rest(time: Duration) {
    let _elapsed = timeout(time, std::future::pending::<()>()).await;
}

async fn ping(client: Client, until: Instant) -> Vec<Duration> {
    let (mut pings, mut ticks) = (Vec::new(), interval(Duration::from_millis(2)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < until {
        ticks.tick().await;
        let began = Instant::now();
        let _: String = client.ping(None).await.expect("the server");
        pings.push(began.elapsed());
    }
    pings
}

fn report(side: Side, length: Duration, turns: &Seen, mut pings: Vec<Duration>, asked: u64) {
    let (mut handoffs, by_waiter) =
        seen(turns, |turns| (std::mem::take(&mut turns.handoffs), turns.by_waiter.clone()));
    handoffs.sort();
    pings.sort();
    let at = |all: &[Duration], percent: usize| {
        let at = all.get(all.len().saturating_sub(1) * percent / 100);
        at.map_or(0.0, |it| it.as_secs_f64() * 1e6)
    };
    let had: u64 = by_waiter.iter().sum();
    let rate = |count: u64| count as f64 / length.as_secs_f64();
    println!(
        "{:<24} {:>9.0} {:>9.0} {:>9.0} {:>7.2} {:>9.0} {:>8.2} {:>10}",
        side.name,
        at(&handoffs, 50),
        at(&handoffs, 99),
        at(&pings, 50),
        at(&handoffs, 50) / at(&pings, 50),
        rate(had),
        asked as f64 / had as f64,
        format!(
            "{}/{}",
            by_waiter.iter().min().unwrap_or(&0),
            by_waiter.iter().max().unwrap_or(&0)
        ),
    );
}
