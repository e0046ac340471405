//! lock against real servers, one file per behavior.

mod acquire;
mod all;
#[cfg(feature = "macros")]
mod attributes;

mod close;
mod cost;
mod down;
mod durability;
mod election;
mod enter;
mod fence;
mod fenced;
mod golden;
mod guard;
mod handoff;
mod history;
mod input;
mod inspect;
mod interleavings;
mod late;
mod leftovers;
mod metrics;
mod model;
mod poison;
mod processes;
mod queue;
mod quorum;
mod race;
mod renew;
mod rw_lock;
mod semaphore;
mod topology;
mod with;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use redbrick_core_conn::{Config, ConfigBuilder, Conn, Tls};
use redbrick_lock::{LockGuard, Locks, Wait};
use redbrick_testkit::{Server, shared, unique, wait_until};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long a test waits for what must happen; far more than it takes, so that a slow machine passes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A lease that does not end while a test runs.
const LONG: Duration = Duration::from_secs(120);

/// A lease that a test waits for the end of; long enough for an answer on a slow machine.
const SHORT: Duration = Duration::from_millis(250);

/// Waits until it is had, and asks often.
const EAGER: Wait = Wait::For(PATIENCE);

fn config(prefix: impl Into<String>) -> ConfigBuilder {
    let mut config = Config::builder().url(shared().url()).key_prefix(prefix);
    if let Some(tls) = shared().tls() {
        let authority = Tls::new().ca_pem(tls.ca_pem());
        config = config.tls_with(authority.expect("testkit's authority"));
    }
    config
}

/// A connection to the server that the tests of this binary share, on whatever topology this run is about, with a key
/// prefix of the test's own.
async fn connect(test: &str) -> Conn {
    Conn::connect(config(unique(test))).await.expect("the shared server")
}

/// Locks on such a connection.
async fn locks(test: &str) -> Locks {
    Locks::new(connect(test).await)
}

/// As many such connections, with one prefix: each stands for a process.
async fn team(test: &str, size: usize) -> Vec<Conn> {
    let prefix = unique(test);
    let mut team = Vec::new();
    for _ in 0..size {
        team.push(Conn::connect(config(&prefix)).await.expect("the shared server"));
    }
    team
}

/// A server of the test's own, for what touches more than keys.
fn server() -> Arc<Server> {
    Arc::new(Server::start().expect("a server of its own"))
}

/// Locks on that server, on a connection that gives up soon.
async fn locks_on(url: impl Into<String>) -> Locks {
    let config = Config::builder().url(url).command_timeout(Duration::from_millis(500));
    Locks::new(Conn::connect(config).await.expect("the server"))
}

/// A lock that nobody has, and that is not renewed.
async fn acquired(locks: &Locks, name: &str, lease: Duration) -> LockGuard {
    let acquired = locks.lock(name).lease(lease).renew(false).await.expect("the server");
    acquired.expect("nobody has it")
}

fn permits(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).expect("more than none")
}

/// Blocks off the runtime's thread until `ready` says yes.
async fn eventually(what: &str, ready: impl FnMut() -> bool + Send + 'static) {
    let came = tokio::task::spawn_blocking(move || wait_until(PATIENCE, ready));
    assert!(came.await.expect("the wait itself"), "never came: {what}");
}

/// Asks until the answer is yes.
async fn until(what: &str, ready: impl AsyncFn() -> bool) {
    let mut ticks = interval(Duration::from_millis(5));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let came = timeout(PATIENCE, async {
        while !ready().await {
            ticks.tick().await;
        }
    });
    assert!(came.await.is_ok(), "never came: {what}");
}

/// Waits until nobody has the lock, long before a lease of [`LONG`] ends.
async fn free(locks: &Locks, name: &str) {
    until("the lock is free", async || !locks.is_locked(name).await.expect("the server")).await;
}

fn is_long() -> bool {
    std::env::var_os("REDBRICK_TEST_SOAK").is_some_and(|long| !long.is_empty())
}

/// Does nothing for so long.
async fn rest(time: Duration) {
    let _elapsed = timeout(time, std::future::pending::<()>()).await;
}

/// How many keys are on a server of the test's own.
fn keys(server: &Server) -> i64 {
    server.command(["DBSIZE"]).expect("the server").as_int().expect("a number")
}

fn exists(server: &Server, key: &str) -> bool {
    server.command(["EXISTS", key]).expect("the server").as_int() == Some(1)
}

/// Asserts of a future that it can be sent to another thread.
fn send<F: Future + Send>(future: F) -> F {
    future
}

#[expect(clippy::print_stdout, reason = "figures for those who look at them")]
fn tell(text: &str) {
    println!("{text}");
}
