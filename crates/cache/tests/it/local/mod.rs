//! Values that are kept in the process.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

mod away;
mod bounds;
mod feed;
mod hits;
mod others;
mod race;
mod topology;
mod writes;

use std::time::Duration;

use redbrick_cache::{Cache, CacheBuilder, Local, Origin};
use redbrick_core_conn::Conn;
use redbrick_testkit::Server;
use tokio::time::Instant;

use crate::PATIENCE;

fn builder(conn: Conn) -> CacheBuilder<u64> {
    Cache::builder(conn, "products").redis_timeout(PATIENCE)
}

fn keeping(conn: Conn) -> Cache<u64> {
    builder(conn).local(Local::new()).build().unwrap()
}

async fn connect(server: &Server) -> Conn {
    Conn::connect(server.url()).await.unwrap()
}

/// Where the value of a key comes from, which is there.
async fn origin(cache: &Cache<u64>, key: &str) -> Origin {
    cache.get_or_load(key, crate::never).with_origin().await.unwrap().origin
}

/// Reads a key that is there until its value is kept, and given without a question.
async fn until_kept<V: Send + 'static>(cache: &Cache<V>, key: &str) {
    let late = Instant::now() + PATIENCE;
    loop {
        let before = cache.statistics();
        assert!(cache.get(key).await.unwrap().is_some(), "{key} is there");
        let after = cache.statistics();
        if (after.hits, after.revalidated) == (before.hits, before.revalidated) {
            return;
        }
        assert!(Instant::now() < late, "{key} is not kept");
        tokio::task::yield_now().await;
    }
}

/// Reads a key until its value is this.
async fn until_is(cache: &Cache<u64>, key: &str, value: Option<u64>) -> Duration {
    let began = Instant::now();
    while cache.get(key).await.unwrap() != value {
        assert!(began.elapsed() < PATIENCE, "{key} does not become {value:?}");
        tokio::task::yield_now().await;
    }
    began.elapsed()
}

/// Reads what a cache keeps that bears nothing, until nobody has said anything for longer than its bound.
async fn until_silent(strict: &Cache<u64>, key: &str) {
    let late = Instant::now() + PATIENCE;
    while strict.get(key).await.is_ok() {
        assert!(Instant::now() < late, "it is given for ever");
        tokio::task::yield_now().await;
    }
}

/// Cuts the link on which the server says what changes.
fn cut_feed(server: &Server) {
    let killed = server.command(["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
    assert!(killed.as_int().is_some_and(|killed| killed > 0), "{killed:?}");
}
