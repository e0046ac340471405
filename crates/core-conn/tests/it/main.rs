//! core-conn against real servers.

mod alone;
mod blocking;
mod chance;
mod commands;
mod config;
mod connect;
mod fail_fast;
mod faults;
mod flush;
mod gather;
mod hash;
mod health;
mod input;
mod lifecycle;
mod list;
mod members;
mod optional;
mod outcome;
mod pipeline;
mod poison;
mod raw;
mod reconnect;
mod registry;
mod replicas;
mod rotation;
mod scan;
mod script;
mod server;
mod soak;
mod sorted_set;
mod subscribe;
mod telemetry;
#[cfg(feature = "tls")]
mod tls;
mod topology;
mod tracking;
mod transaction;

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Config, ConfigBuilder, Conn, State, StateChanges};
use redbrick_testkit::{Server, Shared, shared, unique};

/// How long a test waits for what must happen; far more than it takes, so that a slow machine passes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A config for the server that all tests of this binary share, with a key prefix of the test's own.
fn shared_config(test: &str) -> ConfigBuilder {
    let config = Config::builder().url(shared().url()).key_prefix(unique(test));
    with_tls(config, shared())
}

#[cfg(feature = "tls")]
fn with_tls(config: ConfigBuilder, shared: &Shared) -> ConfigBuilder {
    let Some(tls) = shared.tls() else { return config };
    let authority = redbrick_core_conn::Tls::new().ca_pem(tls.ca_pem());
    config.tls_with(authority.expect("testkit's authority"))
}

#[cfg(not(feature = "tls"))]
fn with_tls(config: ConfigBuilder, shared: &Shared) -> ConfigBuilder {
    assert_ne!(
        shared.topology(),
        redbrick_testkit::Topology::Tls,
        "the TLS topology needs the feature `tls`"
    );
    config
}

/// A connection to the shared server, with a key prefix of the test's own.
async fn connect(test: &str) -> Conn {
    Conn::connect(shared_config(test)).await.expect("the shared server")
}

/// The same, with that prefix, for who looks at the server behind the connection's back.
async fn connect_named(test: &str) -> (Conn, String) {
    let prefix = unique(test);
    let config = Config::builder().url(shared().url()).key_prefix(&prefix);
    (Conn::connect(with_tls(config, shared())).await.expect("the shared server"), prefix)
}

/// A server of the test's own, for what touches more than keys.
fn server() -> Arc<Server> {
    Arc::new(Server::start().expect("a server"))
}

/// Waits until the state is `wanted`; returns every change seen on the way.
async fn reach(changes: &mut StateChanges, wanted: State) -> Vec<redbrick_core_conn::StateChange> {
    let mut seen = Vec::new();
    let reached = tokio::time::timeout(PATIENCE, async {
        while let Some(change) = changes.next().await {
            let current = change.current;
            seen.push(change);
            if current == wanted {
                return;
            }
        }
        panic!("the connection is gone");
    });
    assert!(reached.await.is_ok(), "{wanted} was not reached; seen: {seen:?}");
    seen
}

/// Blocks off the runtime's thread until `ready` says yes.
async fn eventually(what: &str, ready: impl FnMut() -> bool + Send + 'static) {
    let came = tokio::task::spawn_blocking(move || redbrick_testkit::wait_until(PATIENCE, ready));
    assert!(came.await.expect("the wait itself"), "never came: {what}");
}

/// The commands that `calls` make the server run, as `get 2, set 1`.
async fn cost(server: &Server, calls: impl Future<Output = ()>) -> String {
    server.cost(calls).await.expect("the server")
}

/// Asserts of each call that it finds another type at its key.
macro_rules! assert_wrong_type {
    ($($call:expr),+ $(,)?) => {$(
        let err = $call.await.unwrap_err();
        let what = stringify!($call);
        assert_eq!(err.kind(), redbrick_core_conn::ErrorKind::WrongType, "{what}: {err:?}");
        assert!(!err.is_retryable() && !err.is_outcome_unknown(), "{what}: {err:?}");
        assert_eq!(err.code(), Some("WRONGTYPE"), "{what}");
    )+};
}
use assert_wrong_type;

/// The clients that the server sees over TCP, a line each; the one that asks uses a socket.
fn client_list(server: &Server) -> Vec<String> {
    let list = server.command(["CLIENT", "LIST"]).expect("the right to list clients");
    let lines = list.as_str().expect("a text").lines().filter(|line| !line.contains(" flags=U"));
    lines.map(str::to_owned).collect()
}
