//! Answers come late, and what they grant has begun before.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::time::Duration;

use redbrick_core_conn::Conn;
use redbrick_lock::{Acquire, LockGuard, Locks};
use redbrick_testkit::{Fault, Server};
use tokio::time::Instant;

use crate::{permits, server, until};

const LOCK: &str = "lock:default:{90}:job";
const PERMITS: &str = "lock:default:{90}:job:permits";
const LEASE: Duration = Duration::from_secs(3);
const LATE: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_relied_on_no_longer_than_the_server_grants_it() {
    relied_on_no_longer_than_granted(LOCK, |locks| locks.lock("job")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_is_relied_on_no_longer_than_the_server_grants_it() {
    relied_on_no_longer_than_granted(PERMITS, |locks| locks.semaphore("job", permits(1)).acquire())
        .await;
}

async fn relied_on_no_longer_than_granted(key: &str, acquire: impl Fn(&Locks) -> Acquire) {
    let server = server();
    let proxy = server.proxy().unwrap();
    let locks = Locks::new(Conn::connect(proxy.url()).await.unwrap());
    proxy.set(Fault::Latency { up: Duration::ZERO, down: LATE });
    let mut guard = acquire(&locks).lease(LEASE).await.unwrap().expect("nobody has it");
    ends_here_before_it_ends_there(&guard, &server, key);
    for _ in 0..2 {
        let end = || Instant::now() + guard.remaining();
        let before = end();
        until("a renewal", async || end() > before + LATE).await;
        ends_here_before_it_ends_there(&guard, &server, key);
    }
    let _ = guard.extend(LEASE).await.unwrap();
    ends_here_before_it_ends_there(&guard, &server, key);
}

#[track_caller]
fn ends_here_before_it_ends_there(guard: &LockGuard, server: &Server, key: &str) {
    let now = Instant::now();
    let here = guard.remaining();
    let there = server.command(["PTTL", key]).unwrap().as_int().unwrap();
    let there = Duration::from_millis(there.try_into().unwrap());
    assert!(here <= there + now.elapsed(), "{here:?} here and {there:?} there");
}
