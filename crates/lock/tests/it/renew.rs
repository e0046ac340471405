#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Config, Conn};
use redbrick_lock::{Extended, LockGuard, Locks, Released};
use redbrick_testkit::Server;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use crate::{LONG, PATIENCE, connect, eventually, exists, locks, permits, rest, server, until};

const LEASE: Duration = Duration::from_millis(600);

/// Locks whose leases are short, on that server.
async fn locks_of(server: &Server) -> Locks {
    let config = Config::builder().url(server.url()).command_timeout(Duration::from_millis(500));
    Locks::builder(Conn::connect(config).await.unwrap()).lease(LEASE).build().unwrap()
}

async fn had(locks: &Locks, name: &str) -> LockGuard {
    locks.try_lock(name).await.unwrap().expect("nobody has it")
}

#[tokio::test]
async fn what_is_had_is_had_for_as_long_as_its_guard_is_there() {
    let locks = locks("renewed").await;
    let semaphore = locks.semaphore("jobs", permits(2));
    let rw_lock = locks.rw_lock("data");
    let guards = [
        locks.lock("job").lease(LEASE).await.unwrap().unwrap(),
        semaphore.acquire_many(permits(2)).lease(LEASE).await.unwrap().unwrap(),
        rw_lock.write().lease(LEASE).await.unwrap().unwrap(),
    ];
    let began = Instant::now();
    while began.elapsed() < LEASE * 3 {
        assert!(guards.iter().all(LockGuard::is_valid), "{guards:?}");
        assert!(locks.try_lock("job").await.unwrap().is_none());
        assert!(semaphore.try_acquire().await.unwrap().is_none());
        assert!(rw_lock.try_read().await.unwrap().is_none());
    }
    for guard in guards {
        assert_eq!(guard.release().await.unwrap(), Released::Released);
    }
    assert!(locks.try_lock("job").await.unwrap().is_some());
    assert!(semaphore.try_acquire().await.unwrap().is_some());
    assert!(rw_lock.try_read().await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_left_to_a_token_or_not_to_be_renewed_ends_with_its_lease() {
    let locks = locks("not-renewed").await;
    let guard = locks.lock("left").lease(LEASE).await.unwrap().unwrap();
    until("a renewal", async || {
        let before = guard.remaining();
        rest(Duration::from_millis(1)).await;
        guard.remaining() > before
    })
    .await;
    let _token = guard.into_token();
    let asked = locks.lock("asked").lease(LEASE).renew(false).await.unwrap().unwrap();
    until("their end", async || {
        !locks.is_locked("left").await.unwrap() && !locks.is_locked("asked").await.unwrap()
    })
    .await;
    assert!(!asked.is_valid());
}

#[tokio::test]
async fn a_guard_is_kept_although_its_locks_are_gone() {
    let conn = connect("handles-gone").await;
    let guard = Locks::new(conn.clone()).lock("job").lease(LEASE).await.unwrap().unwrap();
    let began = Instant::now();
    let others = Locks::new(conn);
    while began.elapsed() < LEASE * 2 {
        assert!(others.is_locked("job").await.unwrap());
        assert!(guard.is_valid());
    }
}

/// As many as there are are renewed in few runs of the script.
#[tokio::test]
async fn many_are_renewed_together() {
    const MANY: i64 = 200;
    let server = server();
    let locks = locks_of(&server).await;
    let mut guards = Vec::new();
    for n in 0..MANY {
        let lock = locks.lock(n.to_string()).lease(Duration::from_secs(3));
        guards.push(lock.await.unwrap().unwrap());
    }
    // The server learns the script.
    assert_eq!(guards[0].extend(Duration::from_secs(3)).await.unwrap(), Extended::Extended);
    let called = |command: &str| {
        let text = server.command(["INFO", "commandstats"]).unwrap();
        let text = text.as_str().unwrap_or_default().to_owned();
        let line = text.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:")));
        let calls = line.and_then(|line| line.split(['=', ',']).nth(1)?.parse::<i64>().ok());
        calls.unwrap_or_default()
    };
    let runs = called("evalsha") + called("eval");
    until("all are renewed", async || called("getrange") > MANY).await;
    let runs = called("evalsha") + called("eval") - runs;
    let renewed = called("getrange");

    assert!(runs * 4 < renewed, "{renewed} renewals took {runs} runs");
    assert!(guards.iter().all(LockGuard::is_valid));
}

#[tokio::test]
async fn a_renewal_that_fails_is_tried_again_until_the_lease_may_have_ended() {
    let server = server();
    let locks = locks_of(&server).await;
    let guard = locks.lock("job").lease(LEASE * 4).await.unwrap().unwrap();
    // For longer than until the first renewal, and than it takes that one to fail.
    let paused = server.pause().unwrap();
    rest(LEASE * 3).await;
    drop(paused);
    let before = guard.remaining();
    until("a renewal", async || guard.remaining() > before).await;
    assert_eq!(guard.release().await.unwrap(), Released::Released);
}

#[tokio::test]
async fn it_is_lost_when_no_renewal_succeeds_and_stays_so() {
    let server = server();
    let locks = locks_of(&server).await;
    let guard = had(&locks, "job").await;
    let lost = tokio::spawn(guard.lost());
    let began = Instant::now();
    let paused = server.pause().unwrap();
    timeout(PATIENCE, lost).await.expect("the end of the lease").unwrap();
    // The rest is for a slow machine.
    assert!(began.elapsed() <= LEASE * 5, "{:?}", began.elapsed());
    assert!(!guard.is_valid());
    // What was sent meanwhile may extend it at the server; here it is lost.
    drop(paused);
    assert!(!locks.is_locked("other").await.unwrap());
    rest(LEASE / 2).await;
    assert!(!guard.is_valid());
}

#[tokio::test]
async fn what_a_renewal_finds_lost_is_so_before_its_lease_ends() {
    let locks = locks("found-lost").await;
    let lease = Duration::from_secs(6);
    let guard = locks.lock("job").lease(lease).await.unwrap().unwrap();
    assert!(locks.force_release("job").await.unwrap());
    let began = Instant::now();
    timeout(PATIENCE, guard.lost()).await.expect("the next renewal");
    assert!(began.elapsed() < lease - Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(!guard.is_valid());
}

#[tokio::test]
async fn another_lease_is_renewed_from_then_on() {
    let locks = locks("other-lease").await;
    let mut guard = locks.lock("job").lease(LONG).await.unwrap().unwrap();
    assert_eq!(guard.extend(LEASE).await.unwrap(), Extended::Extended);
    let began = Instant::now();
    while began.elapsed() < LEASE * 2 {
        let left = locks.ttl("job").await.unwrap().expect("it is renewed");
        assert!(left <= LEASE, "{left:?}");
        assert!(guard.is_valid());
    }
}

/// Work that holds up its thread is renewed all the same where there is another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_holds_up_its_thread_is_renewed() {
    let locks = locks("busy").await;
    let done = locks.lock("job").lease(LEASE).with(|_| async {
        let began = Instant::now();
        while began.elapsed() < LEASE * 2 {
            std::hint::spin_loop();
        }
    });
    assert_eq!(tokio::spawn(done).await.unwrap().unwrap(), Some(()));
}

#[tokio::test]
async fn nothing_is_left_to_run_when_guards_and_locks_are_gone() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let locks = Locks::builder(conn.clone()).fence_memory(Duration::ZERO).build().unwrap();
    let guard = locks.lock("job").lease(LONG).await.unwrap().unwrap();
    until("somebody who renews it", async || tasks() > before).await;
    drop((locks, guard));
    until("they end", async || tasks() <= before).await;
    let all = Arc::clone(&server);
    // Who released it is remembered, and so is the fence.
    eventually("nobody has it", move || !exists(&all, "lock:default:{90}:job")).await;
}
