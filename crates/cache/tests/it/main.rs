//! cache against real servers, one file per behavior.

#[cfg(feature = "macros")]
mod attributes;
mod clear;
mod clock;
mod codec;
#[cfg(all(feature = "zstd", feature = "lz4"))]
mod compression;
mod cost;
mod count;
mod down;
mod fleet;
mod follow;
mod history;
mod input;
mod instead;
mod invalidations;
mod leftovers;
mod load;
mod loaded;
#[cfg(feature = "local")]
mod local;
mod logs;
mod many;
mod metrics;
mod outage;
mod owed;
mod place;
mod poison;
mod race;
mod refresh;
mod rules;
mod shorten;
mod stale;
mod statistics;
mod tags;
mod topology;
mod values;
mod wait;
mod warm;

use std::time::Duration;

use redbrick_cache::Cache;
use redbrick_core_conn::{Config, Conn, Tls};
use redbrick_testkit::{shared, unique};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Notify;

/// How long a test waits for what must happen; far more than it takes, so that a slow machine passes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether the long forms of tests are asked for.
fn is_long() -> bool {
    std::env::var_os("REDBRICK_TEST_SOAK").is_some_and(|long| !long.is_empty())
}

/// A connection to the server that the tests of this binary share, on whatever topology this run is about, with a key
/// prefix of the test's own.
async fn connect(test: &str) -> Conn {
    connect_below(&unique(test)).await
}

/// The same with a prefix that several connections share.
async fn connect_below(prefix: &str) -> Conn {
    let mut config = Config::builder().url(shared().url()).key_prefix(prefix);
    if let Some(tls) = shared().tls() {
        let authority = Tls::new().ca_pem(tls.ca_pem());
        config = config.tls_with(authority.expect("testkit's authority"));
    }
    Conn::connect(config).await.expect("the shared server")
}

/// A server that says to no one what changes, and its URL: its user has no right to the channel of that, `__redis__:invalidate`.
#[cfg(feature = "local")]
fn silent_server() -> (redbrick_testkit::Server, String) {
    let server =
        redbrick_testkit::Server::builder().user("app", "secret", "~* &cache:* +@all").start();
    let server = server.expect("a server can be had");
    let url = as_app(&server.url());
    (server, url)
}

/// The URL of a server or a proxy for that user.
#[cfg(feature = "local")]
fn as_app(url: &str) -> String {
    url.replace("redis://", "redis://app:secret@")
}

/// A cache that a busy machine does not make go without Redis.
fn patient<V: Serialize + DeserializeOwned + Send>(conn: Conn) -> Cache<V> {
    let cache = Cache::builder(conn, "products").redis_timeout(PATIENCE);
    cache.build().expect("the settings are right")
}

/// A cache of numbers below a prefix, on a connection of its own: as in another process.
async fn numbers_below(prefix: &str) -> Cache<u64> {
    patient(connect_below(prefix).await)
}

async fn numbers(test: &str) -> Cache<u64> {
    numbers_below(&unique(test)).await
}

/// A loader that returns a number.
async fn number(number: u64) -> Result<u64, std::io::Error> {
    Ok(number)
}

/// A loader that must not be asked.
async fn never() -> Result<u64, std::io::Error> {
    panic!("nothing is to be loaded")
}

/// A load that says when it is under way, and waits to be let go.
#[derive(Default)]
struct Gate {
    entered: Notify,
    open: Notify,
}

impl Gate {
    async fn pass(&self, number: u64) -> Result<u64, std::io::Error> {
        self.entered.notify_one();
        self.open.notified().await;
        Ok(number)
    }

    async fn entered(&self) {
        self.entered.notified().await;
    }

    fn open(&self) {
        self.open.notify_one();
    }
}

/// Does nothing for so long: what a load takes, or another one needs.
async fn rest(time: Duration) {
    let _elapsed = tokio::time::timeout(time, std::future::pending::<()>()).await;
}

/// Waits, off the runtime's threads, until something is so.
async fn until(what: &str, mut ready: impl FnMut() -> bool + Send + 'static) {
    let wait = move || redbrick_testkit::wait_until(PATIENCE, &mut ready);
    assert!(tokio::task::spawn_blocking(wait).await.expect("the wait itself"), "{what}");
}
