//! pubsub against real servers, one file per behavior.

mod cost;
mod down;
mod handlers;
mod input;
mod leftovers;
mod metrics;
mod poison;
mod publish;
mod race;
mod rooms;
mod streams;
mod topology;
mod typed;

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use redbrick_core_conn::{Config, ConfigBuilder, Conn, Tls};
use redbrick_pubsub::{Message, PubSub, Received, Room, Subscription};
use redbrick_testkit::{Server, shared, unique, wait_until};
use serde::de::DeserializeOwned;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long a test waits for what must happen; far more than it takes, so that a slow machine passes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A lease that a test waits for the end of.
const SHORT: Duration = Duration::from_millis(60);

/// Who publishes here.
const SOURCE: &str = "tests";

/// A room of texts.
type Texts = Room<String, String>;

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

async fn pubsub(test: &str) -> PubSub {
    PubSub::new(connect(test).await, SOURCE)
}

/// As many services on connections of their own, with one prefix: each stands for a process.
async fn team(test: &str, size: usize) -> Vec<PubSub> {
    let prefix = unique(test);
    let mut team = Vec::new();
    for _ in 0..size {
        let conn = Conn::connect(config(&prefix)).await.expect("the shared server");
        team.push(PubSub::new(conn, SOURCE));
    }
    team
}

/// A server of the test's own, for what touches more than keys.
fn server() -> Arc<Server> {
    Arc::new(Server::start().expect("a server of its own"))
}

/// A service on that server, on a connection that gives up soon and notices soon.
async fn pubsub_at(url: impl Into<String>) -> PubSub {
    let config = Config::builder()
        .url(url)
        .command_timeout(Duration::from_millis(500))
        .probe_interval(Duration::from_millis(200));
    PubSub::new(Conn::connect(config).await.expect("the server"), SOURCE)
}

fn some(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).expect("more than none")
}

/// The next thing that comes.
async fn next<T: DeserializeOwned>(subscription: &mut Subscription<T>) -> Received<T> {
    let next = timeout(PATIENCE, subscription.next()).await.expect("it comes");
    next.expect("the subscription goes on")
}

/// The next thing that comes, which is a message.
async fn message<T: DeserializeOwned>(subscription: &mut Subscription<T>) -> Message<T> {
    match next(subscription).await {
        Received::Message(message) => message,
        other => panic!("{other:?}"),
    }
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

/// How many keys are on a server of the test's own.
fn keys(server: &Server) -> i64 {
    server.command(["DBSIZE"]).expect("the server").as_int().expect("a number")
}

/// Asserts of a future that it can be sent to another thread.
fn send<F: Future + Send>(future: F) -> F {
    future
}
