//! What the attribute does; and what it refuses, and says of it. `TRYBUILD=overwrite` writes down what is said.

#[path = "it/attributes.rs"]
mod attributes;

use std::time::Duration;

use redbrick_core_conn::{Config, ConfigBuilder, Conn, Tls};
use redbrick_lock::{LockGuard, Locks};
use redbrick_testkit::{Server, shared, unique};
use tokio::time::{MissedTickBehavior, interval, timeout};

const PATIENCE: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(120);

#[test]
fn what_is_refused_is_explained() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass.rs");
    cases.compile_fail("tests/ui/refused_*.rs");
}

fn config(prefix: impl Into<String>) -> ConfigBuilder {
    let mut config = Config::builder().url(shared().url()).key_prefix(prefix);
    if let Some(tls) = shared().tls() {
        let authority = Tls::new().ca_pem(tls.ca_pem());
        config = config.tls_with(authority.expect("testkit's authority"));
    }
    config
}

async fn locks(test: &str) -> Locks {
    Locks::new(Conn::connect(config(unique(test))).await.expect("the shared server"))
}

fn server() -> Server {
    Server::start().expect("a server of its own")
}

async fn locks_on(url: impl Into<String>) -> Locks {
    let config = Config::builder().url(url).command_timeout(Duration::from_millis(500));
    Locks::new(Conn::connect(config).await.expect("the server"))
}

async fn acquired(locks: &Locks, name: &str, lease: Duration) -> LockGuard {
    let acquired = locks.lock(name).lease(lease).renew(false).await.expect("the server");
    acquired.expect("nobody has it")
}

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

async fn free(locks: &Locks, name: &str) {
    until("the lock is free", async || !locks.is_locked(name).await.expect("the server")).await;
}
