//! session against real servers, one file per behavior.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

mod change;
mod cost;
mod create;
mod delete;
mod down;
mod id;
mod input;
mod leftovers;
mod life;
mod metrics;
mod of_user;
mod poison;
mod race;
mod topology;

use std::{collections::HashMap, sync::Arc, time::Duration};

use redbrick_core_conn::{Config, ConfigBuilder, Conn, Tls};
use redbrick_session::{SessionId, Sessions};
use redbrick_testkit::{Server, shared, unique};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How long a test waits for what must happen; far more than it takes, so that a slow machine passes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the tests' application keeps.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct Cart {
    items: Vec<String>,
}

fn cart(item: &str) -> Cart {
    Cart { items: vec![item.to_owned()] }
}

/// A config for the server that the tests of this binary share, on whatever topology this run is about, with a prefix.
fn config(prefix: &str) -> ConfigBuilder {
    let config = Config::builder().url(shared().url()).key_prefix(prefix);
    match shared().tls() {
        Some(tls) => config.tls_with(Tls::new().ca_pem(tls.ca_pem()).expect("testkit's authority")),
        None => config,
    }
}

/// A connection to that server, with a key prefix of the test's own.
async fn connect(test: &str) -> Conn {
    connect_as(&unique(test)).await
}

/// The same, for several connections with one prefix.
async fn connect_as(prefix: &str) -> Conn {
    Conn::connect(config(prefix)).await.expect("the shared server")
}

/// Sessions with a key prefix of the test's own.
async fn sessions(test: &str) -> Sessions<Cart> {
    Sessions::new(connect(test).await)
}

/// A server of the test's own, and sessions on it without a key prefix.
async fn own() -> (Arc<Server>, Sessions<Cart>) {
    let server = Arc::new(Server::start().expect("a server"));
    let conn = Conn::connect(server.url()).await.expect("the server");
    (server, Sessions::new(conn))
}

/// Blocks off the runtime's thread until `ready` says yes.
async fn eventually(what: &str, ready: impl FnMut() -> bool + Send + 'static) {
    let came = tokio::task::spawn_blocking(move || redbrick_testkit::wait_until(PATIENCE, ready));
    assert!(came.await.expect("the wait itself"), "never came: {what}");
}

/// Asks again and again until `done` says yes.
async fn until<T, F: Future<Output = T>>(
    what: &str,
    mut ask: impl FnMut() -> F,
    done: impl Fn(&T) -> bool,
) -> T {
    let asked = tokio::time::timeout(PATIENCE, async {
        loop {
            let found = ask().await;
            if done(&found) {
                return found;
            }
            tokio::task::yield_now().await;
        }
    });
    asked.await.unwrap_or_else(|_late| panic!("never came: {what}"))
}

/// The hash tag of a user.
fn partition(user: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(user).into();
    format!("{:02x}{:02x}", digest[0], digest[1])
}

/// Two users whose sessions lie in one partition.
fn neighbours() -> (String, String) {
    let mut seen = HashMap::new();
    for n in 0.. {
        let user = format!("user {n}");
        if let Some(other) = seen.insert(partition(&user), user.clone()) {
            return (other, user);
        }
    }
    unreachable!("some hashes begin alike")
}

/// The key of a session behind the connection's prefix.
fn session_key(id: &SessionId) -> String {
    format!("session:{{{}}}:{}", &id.expose()[..4], id.key())
}

/// The key of the index of a user's partition behind the connection's prefix.
fn index_key(user: &str) -> String {
    format!("session:{{{}}}:index", partition(user))
}
