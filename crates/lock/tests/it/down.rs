//! What each call does when Redis is away, slow, full, or takes no writes: the README's table.

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Config, Conn, ErrorKind, Token};
use redbrick_lock::{Error, Extended, Locks, Released, Wait};
use redbrick_testkit::{Fault, Proxy, Server};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{
    LONG, PATIENCE, SHORT, acquired, eventually, exists, free, locks_on, permits, send, server,
    until,
};

const LOCK: &str = "lock:default:{90}:job";
const PERMITS: &str = "lock:default:{90}:job:permits";

/// What a slow machine may take on top of a time that is promised.
const SLACK: Duration = Duration::from_secs(2);

fn kind(error: &Error) -> ErrorKind {
    let Error::Conn(source) = error else { panic!("{error:?}") };
    assert_eq!(error.is_retryable(), source.is_retryable());
    assert_eq!(error.is_timeout(), source.is_timeout());
    assert_eq!(error.is_outcome_unknown(), source.is_outcome_unknown());
    source.kind()
}

/// Loses the reply that is on its way and its connection, once; the next connection is a good one.
async fn lose_a_reply(proxy: &Arc<Proxy>) {
    let watched = Arc::clone(proxy);
    eventually("a lost reply", move || watched.dropped_bytes() > 0).await;
    proxy.reset();
    proxy.clear();
}

async fn proxied() -> (Arc<Server>, Arc<Proxy>, Locks) {
    let server = server();
    let proxy = Arc::new(server.proxy().expect("a proxy"));
    let config = Config::builder().url(proxy.url()).command_timeout(PATIENCE);
    let locks = Locks::new(Conn::connect(config).await.expect("the server"));
    (server, proxy, locks)
}

/// Lets `call` run while the first reply to it is lost.
async fn whose_reply_is_lost<T: Send + 'static>(
    proxy: &Arc<Proxy>,
    call: impl Future<Output = T> + Send + 'static,
) -> T {
    proxy.set_for_open(Fault::DropReplies);
    let call: JoinHandle<T> = tokio::spawn(call);
    lose_a_reply(proxy).await;
    timeout(PATIENCE, call).await.expect("it is repeated").expect("no panic")
}

#[tokio::test]
async fn without_a_server_every_call_fails_in_time_and_works_when_it_is_back() {
    let server = server();
    let locks = locks_on(server.url()).await;
    let semaphore = locks.semaphore("job", permits(1));
    let mut guard = acquired(&locks, "held", LONG).await;
    server.kill().unwrap();

    let started = Instant::now();
    let token = Token::random();
    for error in [
        locks.lock("job").await.unwrap_err(),
        locks
            .with_lock("job", async |_| panic!("it must not run"))
            .await
            .map(|_: Option<()>| ())
            .unwrap_err(),
        locks.release("job", &token).await.unwrap_err(),
        locks.extend("job", &token, LONG).await.unwrap_err(),
        guard.extend(LONG).await.unwrap_err(),
        locks.is_locked("job").await.unwrap_err(),
        locks.ttl("job").await.unwrap_err(),
        locks.info("job").await.unwrap_err(),
        locks.list().await.unwrap_err(),
        locks.force_release("job").await.unwrap_err(),
        semaphore.acquire().await.unwrap_err(),
        semaphore.available().await.unwrap_err(),
        locks.lock_all(["a", "b"]).await.unwrap_err(),
        locks.rw_lock("job").read().await.unwrap_err(),
        locks.enter("job", &token).await.unwrap_err(),
        locks.election("job").leader().await.unwrap_err(),
        locks.election("job").campaign().wait(Wait::Never).await.unwrap_err(),
        locks.fenced("job").set(1, &1).await.unwrap_err(),
        locks.fenced::<u32>("job").get().await.unwrap_err(),
        guard.release().await.unwrap_err(),
    ] {
        assert!(error.is_retryable(), "{error:?}");
        assert!(matches!(kind(&error), ErrorKind::Connect | ErrorKind::Interrupted), "{error:?}");
    }
    // Twenty calls of half a second each.
    assert!(started.elapsed() < Duration::from_secs(10) + SLACK, "{:?}", started.elapsed());

    server.restart().unwrap();
    until("it is back", async || locks.is_locked("job").await.is_ok()).await;
    drop(acquired(&locks, "job", LONG).await);
    semaphore.acquire().await.unwrap().unwrap().release().await.unwrap();
}

#[tokio::test]
async fn an_acquisition_whose_reply_is_lost_is_repeated_and_had_once() {
    let (server, proxy, locks) = proxied().await;
    drop(acquired(&locks, "warm", LONG).await);
    free(&locks, "warm").await;

    let acquiring = {
        let locks = locks.clone();
        async move { acquired(&locks, "job", LONG).await }
    };
    let guard = whose_reply_is_lost(&proxy, acquiring).await;

    let stored = server.command(["GET", "lock:default:{90}"]).unwrap();
    assert_eq!(stored.as_str(), Some(&*guard.fence().to_string()), "the fence of the first time");
    assert_eq!(guard.release().await.unwrap(), Released::Released);
}

#[tokio::test]
async fn a_permit_whose_reply_is_lost_is_had_once() {
    let (server, proxy, locks) = proxied().await;
    let semaphore = locks.semaphore("job", permits(1));
    semaphore.acquire().await.unwrap().unwrap().release().await.unwrap();

    let acquiring = {
        let semaphore = semaphore.clone();
        async move { semaphore.acquire().await.unwrap().expect("its own is no other's") }
    };
    let permit = whose_reply_is_lost(&proxy, acquiring).await;

    assert_eq!(server.command(["ZCARD", PERMITS]).unwrap().as_int(), Some(1));
    assert_eq!(permit.release().await.unwrap(), Released::Released);
}

/// By the server's clock, which may have been set in between: others may have it now.
#[tokio::test]
async fn a_permit_that_ends_before_it_is_asked_for_again_is_not_had() {
    let (server, proxy, locks) = proxied().await;
    let semaphore = locks.semaphore("job", permits(1));
    semaphore.acquire().await.unwrap().unwrap().release().await.unwrap();

    proxy.set_for_open(Fault::DropReplies);
    let acquiring = tokio::spawn(async move { semaphore.try_acquire().lease(LONG).await });
    let watched = Arc::clone(&server);
    eventually("it is granted", move || exists(&watched, PERMITS)).await;
    let past = "redis.call('ZADD', KEYS[1], 1, redis.call('ZRANGE', KEYS[1], 0, 0)[1])";
    server.command(["EVAL", past, "1", PERMITS]).unwrap();
    server.command(["ZADD", PERMITS, "inf", "another"]).unwrap();
    lose_a_reply(&proxy).await;

    assert!(acquiring.await.unwrap().unwrap().is_none());
}

#[tokio::test]
async fn a_release_whose_reply_is_lost_is_no_loss() {
    let (_server, proxy, locks) = proxied().await;
    acquired(&locks, "warm", LONG).await.release().await.unwrap();
    let guard = acquired(&locks, "job", LONG).await;

    let released = whose_reply_is_lost(&proxy, guard.release()).await;

    assert_eq!(released.unwrap(), Released::Released, "by the first time");
    assert!(!locks.is_locked("job").await.unwrap());
}

/// Somebody else can have it before the answer comes.
#[tokio::test]
async fn a_release_on_its_way_is_the_end_of_the_lock() {
    let (_server, proxy, locks) = proxied().await;
    acquired(&locks, "warm", LONG).await.release().await.unwrap();
    let guard = acquired(&locks, "job", LONG).await;
    let lost = guard.lost();
    proxy.set(Fault::StallReplies);

    let released = tokio::spawn(guard.release());
    timeout(PATIENCE / 2, lost).await.expect("long before the answer");

    assert!(!released.is_finished());
    proxy.clear();
    assert_eq!(released.await.unwrap().unwrap(), Released::Released);
}

#[tokio::test]
async fn an_extension_whose_reply_is_lost_is_repeated() {
    let (_server, proxy, locks) = proxied().await;
    let mut guard = acquired(&locks, "job", LONG).await;
    let _ = guard.extend(LONG).await.unwrap();

    let (extended, guard) =
        whose_reply_is_lost(&proxy, async move { (guard.extend(LONG * 2).await, guard) }).await;

    assert_eq!(extended.unwrap(), Extended::Extended);
    assert!(guard.remaining() > LONG);
}

#[tokio::test]
async fn an_acquisition_that_nobody_hears_of_is_taken_back() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let locks = locks_on(proxy.url()).await;
    drop(acquired(&locks, "warm", LONG).await);
    free(&locks, "warm").await;

    proxy.set(Fault::DropReplies);
    let started = Instant::now();
    let error = locks.lock("job").lease(LONG).await.unwrap_err();
    assert!(error.is_timeout() && error.is_outcome_unknown(), "{error:?}");
    assert!(started.elapsed() < Duration::from_millis(500) + SLACK);

    let watched = Arc::clone(&server);
    eventually("it is taken back", move || !exists(&watched, LOCK)).await;
    assert!(server.command_counts().unwrap().of("set") >= 2, "it was granted");
}

#[tokio::test]
async fn an_acquisition_that_is_given_up_on_its_way_leaves_no_lock() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let locks = locks_on(proxy.url()).await;
    acquired(&locks, "warm", LONG).await.release().await.unwrap();
    let semaphore = locks.semaphore("job", permits(1));
    semaphore.acquire().await.unwrap().unwrap().release().await.unwrap();
    let before = server.command_counts().unwrap();

    let late = Duration::from_millis(50);
    proxy.set(Fault::Latency { up: late, down: late });
    let short = Duration::from_millis(20);
    assert!(timeout(short, locks.lock("job").lease(LONG).into_future()).await.is_err());
    assert!(timeout(short, semaphore.acquire().lease(LONG).into_future()).await.is_err());
    let with = locks.lock("job").lease(LONG).with(async |_| ());
    assert!(timeout(short, with).await.is_err());

    let watched = Arc::clone(&server);
    eventually("all are granted and taken back", move || {
        let ran = watched.command_counts().unwrap().since(&before);
        ran.of("zadd") == 1
            && ran.of("set") >= 2
            && !exists(&watched, LOCK)
            && !exists(&watched, PERMITS)
    })
    .await;
}

#[tokio::test]
async fn an_acquisition_that_comes_after_its_lease_is_none() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let locks = locks_on(proxy.url()).await;
    acquired(&locks, "warm", LONG).await.release().await.unwrap();
    let (up, down) = (Duration::ZERO, Duration::from_millis(100));
    proxy.set(Fault::Latency { up, down });

    let error = locks.lock("job").lease(Duration::from_millis(50)).await.unwrap_err();

    assert!(matches!(error, Error::Late), "{error:?}");
    proxy.clear();
    free(&locks, "job").await;
}

#[tokio::test]
async fn a_shorter_lease_of_which_nobody_hears_counts_all_the_same() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let locks = locks_on(proxy.url()).await;
    let mut guard = acquired(&locks, "job", LONG).await;
    let shorter = Duration::from_secs(10);
    let _ = guard.extend(LONG).await.unwrap();

    proxy.set(Fault::DropReplies);
    assert!(guard.extend(shorter).await.unwrap_err().is_outcome_unknown());

    let life = server.command(["PTTL", LOCK]).unwrap().as_int().unwrap();
    assert!(life <= 10_000, "it was shortened");
    assert!(guard.remaining() < shorter && guard.is_valid());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_costs_the_timeout_and_nobody_believes_too_long() {
    let server = server();
    let locks = locks_on(server.url()).await;
    acquired(&locks, "warm", LONG).await.release().await.unwrap();
    let lease = Duration::from_secs(2);
    let guard = acquired(&locks, "guarded", lease).await;
    let work = tokio::spawn({
        let locks = locks.clone();
        send(async move {
            let started = Instant::now();
            let lock = locks.lock("worked").lease(lease);
            (lock.with(|_| std::future::pending::<()>()).await, started.elapsed())
        })
    });
    until("it is held", async || locks.is_locked("worked").await.unwrap()).await;
    let paused = server.pause().unwrap();

    let started = Instant::now();
    let error = locks.lock("job").lease(LONG).await.unwrap_err();
    assert_eq!(kind(&error), ErrorKind::Timeout, "{error:?}");
    assert!(started.elapsed() < Duration::from_millis(500) + SLACK);

    timeout(PATIENCE, guard.lost()).await.expect("without any answer");
    let (outcome, took) = timeout(PATIENCE, work).await.expect("at the end of its lease").unwrap();
    assert!(matches!(outcome, Err(Error::Lost)), "{outcome:?}");
    assert!(took < lease * 2 + SLACK, "a renewal may have come through: {took:?}");

    paused.resume();
    free(&locks, "job").await;
    drop(acquired(&locks, "job", LONG).await);
    drop(guard);
}

#[tokio::test]
async fn work_is_carried_through_a_short_outage() {
    let server = server();
    let proxy = Arc::new(server.proxy().unwrap());
    let locks = locks_on(proxy.url()).await;
    let lease = Duration::from_secs(9);
    let watched = Arc::clone(&server);

    let done = locks
        .lock("job")
        .lease(lease)
        .with(async |_| {
            let life = || server.command(["PTTL", LOCK]).unwrap().as_int().unwrap();
            // The first renewal, and those after, meet a dead line.
            proxy.refuse();
            proxy.reset();
            until("renewals fail", async || life() < 5500).await;
            proxy.accept().unwrap();
            let renewed = move || {
                let life = watched.command(["PTTL", LOCK]).unwrap();
                life.as_int().is_some_and(|life| life > 6500)
            };
            eventually("a renewal", renewed).await;
            "done"
        })
        .await;

    assert_eq!(done.unwrap(), Some("done"));
}

#[tokio::test]
async fn a_release_that_fails_is_tried_once_more_in_the_background() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let config = Config::builder().url(proxy.url()).command_timeout(SLACK);
    let config = config.reconnect_delay(Duration::from_millis(10), Duration::from_millis(50));
    let locks = Locks::new(Conn::connect(config).await.unwrap());
    let guard = acquired(&locks, "job", LONG).await;
    proxy.refuse();
    proxy.reset();

    assert!(guard.release().await.unwrap_err().is_retryable());

    assert!(exists(&server, LOCK));
    proxy.accept().unwrap();
    let watched = Arc::clone(&server);
    eventually("it is released", move || !exists(&watched, LOCK)).await;
}

#[tokio::test]
async fn the_result_of_work_survives_a_release_that_fails() {
    let server = server();
    let locks = locks_on(server.url()).await;
    let done = locks
        .with_lock("job", async |_| {
            server.kill().unwrap();
            "done"
        })
        .await;
    assert_eq!(done.unwrap(), Some("done"));
}

#[tokio::test]
async fn a_server_that_has_lost_its_data_has_lost_its_locks() {
    let server = server();
    let locks = locks_on(server.url()).await;
    let mut guard = acquired(&locks, "job", LONG).await;
    let other = acquired(&locks, "other", LONG).await;

    server.restart().unwrap();

    until("it is asked", async || locks.is_locked("job").await.is_ok()).await;
    assert_eq!(guard.extend(LONG).await.unwrap(), Extended::Lost);
    assert!(!guard.is_valid());
    assert_eq!(other.release().await.unwrap(), Released::AlreadyLost);
}

#[tokio::test]
async fn a_full_server_grants_nothing_and_lets_holders_go_on() {
    let server = server();
    let locks = locks_on(server.url()).await;
    let semaphore = locks.semaphore("job", permits(2));
    let mut guard = acquired(&locks, "job", LONG).await;
    let mut permit = semaphore.acquire().lease(LONG).await.unwrap().unwrap();
    server.command(["CONFIG", "SET", "maxmemory-policy", "noeviction"]).unwrap();
    server.command(["CONFIG", "SET", "maxmemory", "1"]).unwrap();

    for error in [
        locks.lock("more").await.unwrap_err(),
        locks.with_lock("more", async |_| ()).await.unwrap_err(),
        semaphore.acquire().await.unwrap_err(),
        locks.rw_lock("more").write().await.unwrap_err(),
        locks.lock_all(["{a}:1", "{a}:2"]).await.unwrap_err(),
        locks.lock_all(["a", "b"]).await.unwrap_err(),
        locks.fenced("job").set(1, &1).await.unwrap_err(),
    ] {
        assert_eq!(kind(&error), ErrorKind::OutOfMemory, "{error:?}");
    }
    let entered = locks.enter("job", guard.token()).await.unwrap().expect("it has it");
    assert_eq!(entered.release().await.unwrap(), Released::Released);
    assert!(!locks.is_locked("more").await.unwrap());
    assert_eq!(guard.extend(LONG).await.unwrap(), Extended::Extended);
    assert_eq!(permit.extend(LONG).await.unwrap(), Extended::Extended);
    assert_eq!(semaphore.available().await.unwrap(), 1);
    assert!(locks.info("job").await.unwrap().is_some());
    assert_eq!(permit.release().await.unwrap(), Released::Released);
    assert_eq!(guard.release().await.unwrap(), Released::Released);

    server.command(["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    drop(acquired(&locks, "more", SHORT * 100).await);
}

#[tokio::test]
async fn a_server_that_takes_no_writes_shows_its_locks_and_changes_none() {
    let server = server();
    let locks = locks_on(server.url()).await;
    let mut guard = acquired(&locks, "job", LONG).await;
    let semaphore = locks.semaphore("job", permits(2));
    let mut permit = semaphore.acquire().lease(LONG).await.unwrap().unwrap();
    server.command(["CONFIG", "SET", "replica-serve-stale-data", "yes"]).unwrap();
    server.command(["REPLICAOF", "127.0.0.1", "1"]).unwrap();

    assert!(locks.is_locked("job").await.unwrap());
    assert!(locks.info("job").await.unwrap().is_some());
    assert_eq!(locks.list().await.unwrap().len(), 1);
    assert_eq!(semaphore.available().await.unwrap(), 1);
    for error in [
        locks.lock("more").await.unwrap_err(),
        guard.extend(LONG).await.unwrap_err(),
        semaphore.acquire().await.unwrap_err(),
        permit.extend(LONG).await.unwrap_err(),
        locks.force_release("job").await.unwrap_err(),
        locks.rw_lock("more").read().await.unwrap_err(),
        locks.lock_all(["{a}:1", "{a}:2"]).await.unwrap_err(),
        locks.fenced("job").set(1, &1).await.unwrap_err(),
    ] {
        assert_eq!(kind(&error), ErrorKind::ReadOnly, "{error:?}");
    }
    assert_eq!(locks.fenced::<u32>("job").get().await.unwrap(), None);
    assert!(locks.election("job").leader().await.unwrap().is_some());

    let work = locks.lock("worked").wait(Wait::Never);
    server.command(["REPLICAOF", "NO", "ONE"]).unwrap();
    until("it takes writes", async || locks.force_release("none").await.is_ok()).await;
    let lease = Duration::from_secs(1);
    let outcome = work.lease(lease).with(async |_| {
        server.command(["REPLICAOF", "127.0.0.1", "1"]).unwrap();
        std::future::pending::<()>().await;
    });
    let outcome = timeout(lease + SLACK, outcome).await.expect("at the end of its lease");
    assert!(matches!(outcome, Err(Error::Lost)), "{outcome:?}");

    server.command(["REPLICAOF", "NO", "ONE"]).unwrap();
    until("it takes writes", async || locks.force_release("none").await.is_ok()).await;
    assert_eq!(guard.release().await.unwrap(), Released::Released);
    assert_eq!(permit.release().await.unwrap(), Released::Released);
}

#[tokio::test]
async fn scripts_that_the_server_has_forgotten_are_sent_again() {
    let server = server();
    let locks = locks_on(server.url()).await;
    let semaphore = locks.semaphore("job", permits(1));
    for _ in 0..2 {
        let forget = || server.command(["SCRIPT", "FLUSH"]).unwrap();
        let mut guard = acquired(&locks, "job", LONG).await;
        forget();
        assert_eq!(guard.extend(LONG).await.unwrap(), Extended::Extended);
        forget();
        assert!(locks.info("job").await.unwrap().is_some());
        forget();
        assert_eq!(locks.list().await.unwrap().len(), 1);
        forget();
        assert_eq!(guard.release().await.unwrap(), Released::Released);
        forget();
        let mut permit = semaphore.acquire().await.unwrap().unwrap();
        forget();
        assert_eq!(permit.extend(LONG).await.unwrap(), Extended::Extended);
        forget();
        assert_eq!(permit.release().await.unwrap(), Released::Released);
    }
}

#[tokio::test]
async fn an_optional_connection_without_a_server_grants_nothing() {
    let server = server();
    let config = Config::builder().url(server.url()).optional(true);
    server.kill().unwrap();
    let locks = Locks::new(Conn::connect(config).await.unwrap());
    let semaphore = locks.semaphore("job", permits(3));
    let token = Token::random();

    let started = Instant::now();
    for error in [
        locks.lock("job").await.unwrap_err(),
        locks.with_lock("job", async |_| ()).await.unwrap_err(),
        semaphore.acquire().await.unwrap_err(),
        locks.release("job", &token).await.unwrap_err(),
        locks.extend("job", &token, LONG).await.unwrap_err(),
        locks.force_release("job").await.unwrap_err(),
        semaphore.release(&token).await.unwrap_err(),
        semaphore.extend(&token, LONG).await.unwrap_err(),
    ] {
        assert_eq!(kind(&error), ErrorKind::Connect, "{error:?}");
    }
    assert!(!locks.is_locked("job").await.unwrap());
    assert_eq!(locks.ttl("job").await.unwrap(), None);
    assert!(locks.info("job").await.unwrap().is_none());
    assert!(locks.list().await.unwrap().is_empty());
    assert_eq!(semaphore.available().await.unwrap(), 3);
    assert!(started.elapsed() < SLACK, "at once, all of them: {:?}", started.elapsed());
}

#[tokio::test]
async fn a_closed_connection_says_so() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let locks = Locks::new(conn.clone());
    let guard = acquired(&locks, "job", LONG).await;
    conn.close(PATIENCE).await;
    let error = locks.lock("other").await.unwrap_err();
    assert_eq!(kind(&error), ErrorKind::Closed, "{error:?}");
    let error = guard.release().await.unwrap_err();
    assert_eq!(kind(&error), ErrorKind::Closed, "{error:?}");
}
