//! ratelimit against real servers, one file per behavior.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

mod conservation;
mod cost;
mod down;
mod fixed_window;
mod gcra;
mod input;
mod leftovers;
mod metrics;
mod model;
mod poison;
mod policy;
mod quota;
mod race;
mod sliding_log;
mod subject;
mod topology;

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, SystemTime},
};

use redbrick_core_conn::{Config, Conn, Tls};
use redbrick_ratelimit::{Algorithm, Decision, Quota, RateLimiter, Source};
use redbrick_testkit::{Server, shared, unique};

/// How long a test waits for what must happen; far more than it takes, so that a slow machine passes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Long enough for nothing to come back while a test runs.
const LONG: Duration = Duration::from_secs(3600);

const ALGORITHMS: [Algorithm; 3] = [Algorithm::Gcra, Algorithm::SlidingLog, Algorithm::FixedWindow];

/// A connection to the server that the tests of this binary share, on whatever topology this run is about, with a key
/// prefix of the test's own.
async fn connect(test: &str) -> Conn {
    connect_as(&unique(test)).await
}

/// The same, with that prefix.
async fn connect_as(prefix: &str) -> Conn {
    let mut config = Config::builder().url(shared().url()).key_prefix(prefix);
    if let Some(tls) = shared().tls() {
        let authority = Tls::new().ca_pem(tls.ca_pem());
        config = config.tls_with(authority.expect("testkit's authority"));
    }
    Conn::connect(config).await.expect("the shared server")
}

/// A server of the test's own, for what touches more than keys.
fn server() -> Arc<Server> {
    Arc::new(Server::start().expect("a server"))
}

fn n(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("more than zero")
}

/// A limiter named `l` that tests wait for as long as it takes.
fn limiter(conn: &Conn, algorithm: Algorithm, quota: Quota) -> RateLimiter {
    let limiter = RateLimiter::builder(conn.clone(), "l", quota).algorithm(algorithm);
    limiter.redis_timeout(PATIENCE).build().expect("the quota can be kept")
}

/// The server's clock when it decided.
fn clock(decision: &Decision) -> SystemTime {
    assert!(by_redis(decision), "{decision:?}");
    decision.reset_at() - decision.reset_after()
}

fn by_redis(decision: &Decision) -> bool {
    matches!(decision.source(), Source::Redis)
}

/// What a subject's key holds, as a number.
fn stored(key: &str) -> Option<u64> {
    shared().command(["GET", key]).unwrap().as_str().map(|text| text.parse().unwrap())
}

/// Milliseconds; below zero without a life or a key.
fn life(key: &str) -> i64 {
    shared().command(["PTTL", key]).unwrap().as_int().unwrap()
}

/// Consumes one again and again until it may pass; returns that decision, and the denials before it.
async fn until_it_passes(limiter: &RateLimiter, subject: &str) -> (Decision, Vec<Decision>) {
    let passes = tokio::time::timeout(PATIENCE, async {
        let mut denied = Vec::new();
        loop {
            let decision = limiter.consume(subject).await.unwrap();
            if decision.is_allowed() {
                return (decision, denied);
            }
            denied.push(decision);
        }
    });
    passes.await.expect("it passes in the end")
}

/// Asks, off the runtime's thread, until `ready` says yes.
async fn eventually(what: &str, ready: impl FnMut() -> bool + Send + 'static) {
    let came = tokio::task::spawn_blocking(move || redbrick_testkit::wait_until(PATIENCE, ready));
    assert!(came.await.expect("the wait itself"), "never came: {what}");
}
