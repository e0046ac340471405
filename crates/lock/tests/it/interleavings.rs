//! Calls that meet: what is under way when something is closed, given up, extended or lost, and what others left behind.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use redbrick_core_conn::{Config, Conn};
use redbrick_lock::{Durability, Error, Extended, Locks, Wait};
use redbrick_testkit::{Fault, Server};
use tokio::{
    runtime::{Builder, Runtime},
    time::{Instant, timeout},
};

use crate::{
    LONG, PATIENCE, SHORT, acquired, eventually, exists, is_long, permits, rest, server, until,
};

const LOCK: &str = "lock:default:{90}:job";

/// A process that can be killed.
fn process() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn on(url: impl Into<String>) -> Locks {
    let config = Config::builder().url(url).command_timeout(PATIENCE);
    Locks::new(Conn::connect(config).await.unwrap())
}

fn card(server: &Server, key: &str) -> i64 {
    server.command(["ZCARD", key]).unwrap().as_int().unwrap()
}

/// How many wait at a server for whatever it is.
fn waiting(server: &Server) -> i64 {
    let sum = "local n = 0 for _, key in ipairs(redis.call('SCAN', 0, 'MATCH', '*:queue', 'COUNT', 100000)[2]) do n = n + redis.call('ZCARD', key) end return n";
    server.command(["EVAL", sum, "0"]).unwrap().as_int().unwrap()
}

/// "Who waits no more, or is gone, is passed over."
#[tokio::test]
async fn who_waits_for_many_permits_and_is_gone_is_passed_over() {
    let server = server();
    let locks = on(server.url()).await;
    let jobs = locks.semaphore("jobs", permits(2));
    let _one = jobs.acquire().lease(LONG).await.unwrap().unwrap();
    let (dying, url) = (process(), server.url());
    drop(dying.spawn(async move {
        let jobs = on(url).await.semaphore("jobs", permits(2));
        jobs.acquire_many(permits(2)).lease(SHORT).wait(Wait::Forever).await
    }));
    until("it waits", async || waiting(&server) == 1).await;
    dying.shutdown_background();
    rest(SHORT).await;
    assert_eq!(jobs.available().await.unwrap(), 1);
    let began = Instant::now();
    let next = jobs.acquire().lease(SHORT).wait(Wait::For(SHORT * 20)).await.unwrap();
    assert!(next.is_some(), "one is free, who was first is dead: {:?}", began.elapsed());
}

#[tokio::test]
async fn who_waits_to_write_and_is_gone_holds_up_no_reader() {
    let server = server();
    let locks = on(server.url()).await;
    let data = locks.rw_lock("data");
    let _reads = data.read().lease(LONG).await.unwrap().unwrap();
    let (dying, url) = (process(), server.url());
    drop(dying.spawn(async move {
        let data = on(url).await.rw_lock("data");
        data.write().lease(SHORT).wait(Wait::Forever).await
    }));
    until("it waits", async || waiting(&server) == 1).await;
    dying.shutdown_background();
    rest(SHORT).await;
    let next = data.read().lease(SHORT).wait(Wait::For(SHORT * 20)).await.unwrap();
    assert!(next.is_some(), "others only read, and who wanted to write is dead");
}

/// Has the reply to an acquisition lost, which is noticed after a part of its lease.
async fn heard_late(part: u32) -> (Arc<Server>, Result<Option<redbrick_lock::LockGuard>, Error>) {
    let server = server();
    let proxy = Arc::new(server.proxy().unwrap());
    let locks = on(proxy.url()).await;
    acquired(&locks, "warm", LONG).await.release().await.unwrap();
    let lease = Duration::from_secs(3);
    proxy.set_for_open(Fault::DropReplies);
    let acquiring = tokio::spawn(locks.lock("job").lease(lease).into_future());
    let watched = Arc::clone(&proxy);
    eventually("a lost reply", move || watched.dropped_bytes() > 0).await;
    rest(lease * part / 10).await;
    proxy.reset();
    proxy.clear();
    let acquired = acquiring.await.unwrap();
    // The proxy is to stay.
    std::mem::forget(proxy);
    (server, acquired)
}

/// It is renewed in time although what is left of the lease is little.
#[tokio::test]
async fn a_lock_of_which_little_is_left_is_renewed_in_time() {
    let (_server, acquired) = heard_late(4).await;
    let guard = acquired.unwrap().unwrap();
    assert!(guard.is_valid());
    rest(Duration::from_secs(3)).await;
    assert!(guard.is_valid(), "the server answers, and nobody has taken it");
}

/// "A reply that is lost is no lock that is lost."
#[tokio::test]
async fn a_reply_that_is_lost_is_no_lock_that_is_lost() {
    let (server, acquired) = heard_late(6).await;
    let left = server.command(["PTTL", LOCK]).unwrap().as_int();
    assert!(acquired.is_ok(), "{acquired:?}; the server has it for {left:?} ms");
}

/// "From the first moment on guards are lost."
#[tokio::test]
async fn an_extension_on_its_way_revives_nothing_that_was_closed() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let locks = on(proxy.url()).await;
    acquired(&locks, "warm", LONG).await.release().await.unwrap();
    let mut guard = acquired(&locks, "job", LONG).await;
    let _ = guard.extend(LONG).await.unwrap();
    proxy.set(Fault::StallReplies);
    let extending = tokio::spawn(async move {
        let extended = guard.extend(LONG * 2).await;
        (guard, extended)
    });
    let watched = Arc::clone(&server);
    eventually("it is extended", move || {
        watched.command(["PTTL", LOCK]).unwrap().as_int().unwrap() > 130_000
    })
    .await;
    let closing = tokio::spawn({
        let locks = locks.clone();
        async move { locks.close(PATIENCE).await }
    });
    let watched = Arc::clone(&server);
    eventually("it is released", move || !exists(&watched, LOCK)).await;
    proxy.clear();
    let report = closing.await.unwrap();
    let (guard, extended) = extending.await.unwrap();
    assert_eq!((report.released, report.unknown), (1, 0), "{extended:?}");
    let other = on(server.url()).await;
    let other = acquired(&other, "job", LONG).await;
    assert!(!(guard.is_valid() && other.is_valid()), "both rely on it: {:?}", guard.remaining());
}

/// "A renewal never makes a lease shorter, so that guests do not either."
#[tokio::test]
async fn a_guest_that_extends_makes_no_lease_of_the_owner_shorter() {
    let server = server();
    let (owner, guest) = (on(server.url()).await, on(server.url()).await);
    let guard = acquired(&owner, "job", LONG).await;
    let mut entered = guest.enter("job", guard.token()).await.unwrap().unwrap();
    assert_eq!(entered.extend(SHORT).await.unwrap(), Extended::Extended);
    let left = owner.ttl("job").await.unwrap().unwrap();
    assert!(guard.remaining() <= left, "it relies on {:?} of {left:?}", guard.remaining());
}

#[tokio::test]
async fn a_lock_is_renewed_after_an_extension_that_was_given_up() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let locks = on(proxy.url()).await;
    let mut guard = locks.lock("job").lease(LONG).await.unwrap().unwrap();
    let _ = guard.extend(LONG).await.unwrap();
    proxy.set(Fault::StallReplies);
    let lease = Duration::from_secs(2);
    assert!(timeout(SHORT, guard.extend(lease)).await.is_err());
    proxy.clear();
    rest(lease * 2).await;
    assert!(guard.is_valid(), "it is to be renewed, and the server answers");
}

/// Nobody has it, and who waited is gone.
#[tokio::test]
async fn one_attempt_for_all_has_what_only_the_dead_wait_for() {
    let server = server();
    let locks = on(server.url()).await;
    let held = acquired(&locks, "{a}:1", LONG).await;
    let (dying, url) = (process(), server.url());
    drop(
        dying.spawn(
            async move { on(url).await.lock("{a}:1").lease(LONG).wait(Wait::Forever).await },
        ),
    );
    until("it waits", async || locks.info("{a}:1").await.unwrap().unwrap().waiting == 1).await;
    dying.shutdown_background();
    // Its holder dies too: the lease ends.
    assert_eq!(locks.extend("{a}:1", &held.into_token(), SHORT).await.unwrap(), Extended::Extended);
    until("it is free", async || !locks.is_locked("{a}:1").await.unwrap()).await;
    for _ in 0..10 {
        if locks.lock_all(["{a}:1", "{a}:2"]).wait(Wait::Never).await.unwrap().is_some() {
            return;
        }
        rest(SHORT).await;
    }
    let alone = locks.try_lock("{a}:1").await.unwrap().is_some();
    panic!("nobody has any of them, and nobody waits; by itself: {alone}");
}

/// "Nothing is renewed", and "guards are lost".
#[tokio::test]
async fn a_guest_is_lost_when_its_locks_are_closed() {
    let server = server();
    let owner = on(server.url()).await;
    let conn = Conn::connect(server.url()).await.unwrap();
    let lease = Duration::from_secs(1);
    let guest = Locks::builder(conn).lease(lease).build().unwrap();
    let token = acquired(&owner, "job", lease).await.into_token();
    let entered = guest.enter("job", &token).await.unwrap().unwrap();
    let _ = guest.close(PATIENCE).await;
    let valid = entered.is_valid();
    rest(lease * 3).await;
    let renewed = owner.is_locked("job").await.unwrap();
    assert!(!valid && !renewed, "valid: {valid}, renewed: {renewed}");
}

/// "Whoever acquires is told `Closed`."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_replicas_is_told_that_it_is_closed() {
    let master = server();
    let builder = Server::builder().config("replicaof", format!("127.0.0.1 {}", master.port()));
    let replica = builder.config("repl-diskless-sync-delay", "0").start().unwrap();
    let durability = Durability::Wait { replicas: 1, timeout: PATIENCE };
    let locks = on(master.url()).await;
    until("a replica that is up to date", async || {
        locks.try_lock("warm").durability(durability).await.is_ok()
    })
    .await;
    let paused = replica.pause().unwrap();
    let lock = locks.lock("job").lease(LONG).durability(durability);
    let acquiring = tokio::spawn(lock.into_future());
    until("it is granted", async || exists(&master, LOCK)).await;
    rest(SHORT).await;
    let report = locks.close(PATIENCE).await;
    assert!(report.is_clean());
    let outcome = timeout(PATIENCE / 2, acquiring).await.expect("at once").unwrap();
    drop(paused);
    assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
}

/// A user who may not publish throws nobody out of the line, whatever it is called.
async fn released_by(user: &str) {
    let server = server();
    let rules = ["on", ">pw", "~*", "&*", "+@all", "-spublish"];
    let set = server.command(["ACL", "SETUSER", user].iter().chain(&rules));
    assert!(set.is_ok(), "{set:?}");
    let url = server.url().replace("redis://", &format!("redis://{user}:pw@"));
    let (locks, mute) = (on(server.url()).await, on(url).await);
    let guard = acquired(&mute, "job", LONG).await;
    let waiting = tokio::spawn(locks.lock("job").lease(LONG).wait(Wait::Forever).into_future());
    let queue = format!("{LOCK}:queue");
    until("it waits", async || card(&server, &queue) == 1).await;
    let why = server.command(["ACL", "DRYRUN", user, "SPUBLISH", "a", "b"]);
    guard.release().await.unwrap();
    let left = card(&server, &queue);
    assert!(waiting.is_finished() || left == 1, "it lost its place: {why:?}");
    waiting.abort();
}

#[tokio::test]
async fn a_user_that_may_not_publish_throws_nobody_out() {
    released_by("mute").await;
}

#[tokio::test]
async fn a_user_of_any_name_that_may_not_publish_throws_nobody_out() {
    released_by("unknown").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_asked_although_the_scripts_are_forgotten() {
    let server = server();
    let durability = Durability::Wait { replicas: 0, timeout: SHORT };
    let locks = on(server.url()).await;
    for _ in 0..3 {
        server.command(["SCRIPT", "FLUSH"]).unwrap();
        let guard = locks.lock("job").durability(durability).await.unwrap().unwrap();
        guard.release().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn very_many_are_renewed_and_closed() {
    let server = server();
    let locks = on(server.url()).await;
    let lease = Duration::from_secs(10);
    let mut guards = Vec::new();
    for hundred in 0..200 {
        let mut all = Vec::new();
        for n in 0..100 {
            let lock = locks.lock(format!("{hundred}:{n}")).lease(lease);
            all.push(tokio::spawn(lock.into_future()));
        }
        for one in all {
            guards.push(one.await.unwrap().unwrap().unwrap());
        }
    }
    rest(lease * 2).await;
    let lost = guards.iter().filter(|guard| !guard.is_valid()).count();
    let report = locks.close(PATIENCE).await;
    assert_eq!((lost, report.released, report.unknown), (0, 20_000, 0));
}

/// Polls a future so often, and drops it then.
async fn polled<T>(future: impl Future<Output = T>, times: u32) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut left = times;
    timeout(
        SHORT,
        std::future::poll_fn(move |cx| {
            if left == 0 {
                return std::task::Poll::Ready(None);
            }
            left -= 1;
            future.as_mut().poll(cx).map(Some)
        }),
    )
    .await
    .unwrap_or(None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_dropped_leaves_nothing() {
    let server = server();
    let locks = on(server.url()).await;
    let (jobs, data) = (locks.semaphore("jobs", permits(3)), locks.rw_lock("data"));
    let durability = Durability::Wait { replicas: 0, timeout: SHORT };
    for busy in [false, true] {
        let held = if busy {
            Some((
                jobs.acquire().lease(LONG).await.unwrap().unwrap(),
                data.read().lease(LONG).await.unwrap().unwrap(),
                acquired(&locks, "{a}:2", LONG).await,
            ))
        } else {
            None
        };
        for times in 0..14 {
            drop(polled(jobs.acquire_many(permits(3)).wait(PATIENCE).into_future(), times).await);
            drop(polled(data.write().wait(PATIENCE).into_future(), times).await);
            drop(
                polled(locks.lock_all(["{a}:1", "{a}:2"]).wait(PATIENCE).into_future(), times)
                    .await,
            );
            drop(polled(locks.lock("d").durability(durability).into_future(), times).await);
            let guard = locks.lock("g").await.unwrap().unwrap();
            drop(polled(guard.release(), times).await);
            let guards = locks.lock_all(["{b}:1", "{b}:2"]).await.unwrap().unwrap();
            drop(polled(guards.release(), times).await);
            let with =
                jobs.acquire_many(permits(2)).wait(PATIENCE).with(async |_| rest(SHORT / 10).await);
            drop(polled(with, times).await);
            until(&format!("nothing is left of {times} polls, busy: {busy}"), async || {
                waiting(&server) == 0
                    && jobs.available().await.unwrap() == if busy { 2 } else { 3 }
                    && locks.list().await.unwrap().len() == usize::from(busy)
                    && (busy || data.try_write().await.unwrap().is_some())
            })
            .await;
        }
        drop(held);
    }
}

/// Another program has written into the hash of shares.
#[tokio::test]
async fn a_count_that_is_no_number_lets_no_permit_leak() {
    let server = server();
    let locks = on(server.url()).await;
    let jobs = locks.semaphore("job", permits(3));
    server.command(["HSET", "lock:default:{90}:job:permits:shares", "out", "x"]).unwrap();
    let error = jobs.try_acquire().lease(LONG).await;
    let out = server.command(["ZCARD", "lock:default:{90}:job:permits"]).unwrap().as_int();
    let life = server.command(["PTTL", "lock:default:{90}:job:permits"]).unwrap().as_int();
    assert!(error.is_ok() || out == Some(0), "{error:?}; out: {out:?}, for {life:?} ms");
}

#[tokio::test]
async fn an_empty_waiter_of_another_program_is_passed_over() {
    let server = server();
    let locks = on(server.url()).await;
    server.command(["ZADD", &format!("{LOCK}:queue"), "1", ""]).unwrap();
    locks.force_release("job").await.unwrap();
}

/// Somebody enters while everything is closed.
#[tokio::test]
async fn who_enters_while_it_is_closed_is_told_so() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let (owner, guest) = (on(server.url()).await, on(proxy.url()).await);
    let token = acquired(&owner, "job", LONG).await.into_token();
    drop(guest.enter("job", &token).await.unwrap().unwrap());
    proxy.set(Fault::StallReplies);
    let entering = tokio::spawn({
        let guest = guest.clone();
        async move { guest.enter("job", &token).await }
    });
    rest(SHORT).await;
    assert!(guest.close(SHORT).await.is_clean());
    proxy.clear();
    let outcome = entering.await.unwrap();
    assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
}

/// The same with a permit out.
#[tokio::test]
async fn a_count_that_is_no_number_lets_no_permit_leak_behind_another() {
    let server = server();
    let locks = on(server.url()).await;
    let jobs = locks.semaphore("job", permits(3));
    let _one = jobs.acquire().lease(LONG).await.unwrap().unwrap();
    server.command(["HSET", "lock:default:{90}:job:permits:shares", "out", "x"]).unwrap();
    let error = jobs.try_acquire().lease(LONG).await;
    let out = server.command(["ZCARD", "lock:default:{90}:job:permits"]).unwrap().as_int();
    assert!(error.is_ok() || out == Some(1), "{error:?}; out: {out:?}");
}

/// One lock survives a slow replica, because it is renewed meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_are_renewed_while_replicas_are_waited_for() {
    let master = server();
    let builder = Server::builder().config("replicaof", format!("127.0.0.1 {}", master.port()));
    let replica = builder.config("repl-diskless-sync-delay", "0").start().unwrap();
    let durability = Durability::Wait { replicas: 1, timeout: PATIENCE };
    let locks = on(master.url()).await;
    until("a replica that is up to date", async || {
        locks.try_lock("warm").durability(durability).await.is_ok()
    })
    .await;
    let lease = Duration::from_secs(1);
    let paused = replica.pause().unwrap();
    let one = tokio::spawn(locks.lock("job").lease(lease).durability(durability).into_future());
    let names = ["{a}:1", "{a}:2"];
    let all = tokio::spawn(locks.lock_all(names).lease(lease).durability(durability).into_future());
    rest(lease * 2).await;
    drop(paused);
    assert!(one.await.unwrap().unwrap().is_some_and(|guard| guard.is_valid()));
    let all = all.await.unwrap();
    assert!(all.is_ok(), "{all:?}");
}

/// Whatever waits for replicas and is dropped gives its link back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_replicas_and_is_dropped_leaves_nothing() {
    let master = server();
    let builder = Server::builder().config("replicaof", format!("127.0.0.1 {}", master.port()));
    let replica = builder.config("repl-diskless-sync-delay", "0").start().unwrap();
    let durability = Durability::Wait { replicas: 1, timeout: PATIENCE };
    let locks = on(master.url()).await;
    until("a replica that is up to date", async || {
        locks.try_lock("warm").durability(durability).await.is_ok()
    })
    .await;
    let paused = replica.pause().unwrap();
    for n in 0..60 {
        let lock = locks.lock(format!("n{n}")).lease(LONG).durability(durability);
        drop(timeout(SHORT / 10, lock.into_future()).await);
    }
    until("all are free", async || {
        locks.list().await.unwrap().iter().all(|lock| lock.name == b"warm")
    })
    .await;
    drop(paused);
    let began = Instant::now();
    let guard = locks.lock("job").durability(durability).await.unwrap();
    assert!(guard.is_some() && began.elapsed() < PATIENCE / 2);
}

/// Renewals of many locks leave room for what else is asked over the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_of_many_refuse_nobody() {
    let server = server();
    let locks = on(server.url()).await;
    let lease = Duration::from_secs(30);
    let mut guards = Vec::new();
    for hundred in 0..240 {
        let mut all = Vec::new();
        for n in 0..100 {
            let lock = locks.lock(format!("{hundred}:{n}")).lease(LONG);
            all.push(tokio::spawn(lock.into_future()));
        }
        for one in all {
            guards.push(one.await.unwrap().unwrap().unwrap());
        }
    }
    for thousand in guards.chunks_mut(1000) {
        futures_extend(thousand, lease).await;
    }
    let (began, mut refused, mut asked) = (Instant::now(), 0, 0);
    while began.elapsed() < lease / 2 {
        asked += 1;
        refused += u32::from(locks.is_locked("other").await.is_err());
    }
    assert_eq!(refused, 0, "of {asked}");
}

async fn futures_extend(guards: &mut [redbrick_lock::LockGuard], lease: Duration) {
    let mut all: Vec<_> = guards.iter_mut().map(|guard| Box::pin(guard.extend(lease))).collect();
    std::future::poll_fn(|cx| {
        all.retain_mut(|one| one.as_mut().poll(cx).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// The runtime of the connection has ended: the guard ends by its lease, and is no more trouble.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_outlives_the_runtime_of_its_connection() {
    let server = server();
    let (dying, url) = (process(), server.url());
    let locks = dying.spawn(async move { on(url).await }).await.unwrap();
    let lease = Duration::from_secs(2);
    let guard = locks.lock("job").lease(lease).await.unwrap().unwrap();
    rest(lease).await;
    assert!(guard.is_valid());
    dying.shutdown_background();
    timeout(lease * 2, guard.lost()).await.expect("at the end of the lease");
    let ended = timeout(PATIENCE * 2, guard.release()).await;
    assert!(ended.is_ok_and(|released| released.is_err()));
}

/// After everything was closed, and the server did not hear of it.
#[tokio::test]
async fn an_extension_revives_nothing_that_was_closed() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let locks = on(proxy.url()).await;
    let mut guard = locks.lock("job").lease(LONG).await.unwrap().unwrap();
    proxy.refuse();
    proxy.reset();
    let report = locks.close(SHORT).await;
    assert_eq!(report.unknown, 1);
    proxy.accept().unwrap();
    let extended = guard.extend(LONG).await;
    assert!(!guard.is_valid(), "it is closed: {extended:?}");
}

/// What nobody asks for costs nothing.
#[tokio::test]
async fn who_waits_asks_seldom() {
    let server = server();
    let locks = on(server.url()).await;
    let jobs = locks.semaphore("jobs", permits(3));
    let _one = jobs.acquire().lease(LONG).await.unwrap().unwrap();
    let less = locks.semaphore("jobs", permits(1));
    let mut waiting_ = Vec::new();
    for n in 0..20 {
        let lock = if n % 2 == 0 { jobs.acquire_many(permits(3)) } else { less.acquire() };
        waiting_.push(tokio::spawn(lock.lease(LONG).wait(Wait::Forever).into_future()));
    }
    until("all wait", async || waiting(&server) == 20).await;
    let before = server.command_counts().unwrap();
    rest(Duration::from_secs(3)).await;
    let ran = server.command_counts().unwrap().since(&before).of("evalsha");
    assert!(ran < 10, "{ran}");
    for one in &waiting_ {
        one.abort();
    }
}

/// A link on which nothing comes back any more, while others would work; the command timeout is the default one.
async fn renewed_over_another_link(lease: Duration, command_timeout: Duration) -> bool {
    let server = server();
    let proxy = server.proxy().unwrap();
    let config = Config::builder().url(proxy.url()).command_timeout(command_timeout);
    let locks = Locks::new(Conn::connect(config).await.unwrap());
    let guard = locks.lock("job").lease(lease).await.unwrap().unwrap();
    proxy.set_for_open(Fault::DropReplies);
    rest(lease * 2).await;
    guard.is_valid()
}

#[tokio::test]
async fn a_renewal_that_is_not_answered_is_made_again() {
    assert!(renewed_over_another_link(Duration::from_secs(6), Duration::from_secs(1)).await, "1 s");
    assert!(renewed_over_another_link(Duration::from_secs(6), Duration::from_secs(5)).await, "5 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shortest_lease_is_renewed() {
    let server = server();
    let locks = on(server.url()).await;
    for lease in [10, 20, 50] {
        let guard = locks.lock("job").lease(Duration::from_millis(lease)).await.unwrap().unwrap();
        let began = Instant::now();
        let _ = timeout(Duration::from_secs(3), guard.lost()).await;
        crate::tell(&format!("a lease of {lease} ms is lost after {:?}", began.elapsed()));
        drop(guard);
        crate::free(&locks, "job").await;
    }
}

/// What is out: by fence, so many permits, and whose.
type Out = (u64, u32, Arc<redbrick_lock::LockGuard>);

/// For how long there is trouble.
fn length() -> Duration {
    Duration::from_secs(if is_long() { 60 } else { 4 })
}

/// Kills links, forgets scripts, and has the server stand still, at random until then.
fn trouble(server: &Arc<Server>, end: Instant) -> tokio::task::JoinHandle<()> {
    let server = Arc::clone(server);
    tokio::task::spawn_blocking(move || {
        let mut chance = fastrand::Rng::with_seed(7);
        while Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(chance.u64(50..500)));
            match chance.u32(0..4) {
                0 => drop(server.command(["CLIENT", "KILL", "TYPE", "normal"])),
                1 => drop(server.command(["CLIENT", "KILL", "TYPE", "pubsub"])),
                2 => drop(server.command(["SCRIPT", "FLUSH"])),
                _ => {
                    let paused = server.pause().unwrap();
                    std::thread::park_timeout(Duration::from_millis(chance.u64(10..300)));
                    drop(paused);
                }
            }
        }
    })
}

/// Many weights, and all kinds of trouble: no more is out than there is, and nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_permits_are_out_than_there_are_whatever_happens() {
    const COUNT: u32 = 5;
    let server = server();
    let mut processes = Vec::new();
    for _ in 0..4 {
        let config = Config::builder().url(server.url()).command_timeout(Duration::from_secs(1));
        processes.push(Locks::new(Conn::connect(config).await.unwrap()));
    }
    let out: Arc<Mutex<Vec<Out>>> = Arc::default();
    let end = Instant::now() + length();
    let mut workers = tokio::task::JoinSet::new();
    for n in 0..24u32 {
        let (locks, out) = (processes[n as usize % 4].clone(), Arc::clone(&out));
        workers.spawn(async move {
            let mut chance = fastrand::Rng::with_seed(n.into());
            let jobs = locks.semaphore("jobs", permits(COUNT));
            let mut had = 0;
            while Instant::now() < end {
                let weight = chance.u32(1..=COUNT);
                let lease = Duration::from_millis(chance.u64(60..400));
                let wait = match chance.u32(0..4) {
                    0 => Wait::Never,
                    1 => Wait::For(Duration::from_millis(chance.u64(1..200))),
                    _ => Wait::For(Duration::from_secs(2)),
                };
                let acquire =
                    jobs.acquire_many(permits(weight)).lease(lease).wait(wait).renew(chance.bool());
                let patience = Duration::from_millis(chance.u64(1..1500));
                let Ok(Ok(Some(mut guard))) = timeout(patience, acquire.into_future()).await else {
                    rest(Duration::from_millis(5)).await;
                    continue;
                };
                had += 1;
                if chance.u32(0..4) == 0 {
                    let _ = timeout(Duration::from_millis(5), guard.extend(lease * 2)).await;
                }
                let (fence, guard) = (guard.fence(), Arc::new(guard));
                {
                    let mut out = out.lock().unwrap();
                    out.push((fence, weight, Arc::clone(&guard)));
                    let sum: u32 = out.iter().filter(|one| one.2.is_valid()).map(|one| one.1).sum();
                    assert!(sum <= COUNT, "{sum} are out");
                }
                rest(Duration::from_millis(chance.u64(0..300))).await;
                out.lock().unwrap().retain(|one| one.0 != fence);
                let guard = Arc::into_inner(guard).unwrap();
                match chance.u32(0..3) {
                    0 => drop(guard),
                    1 => {
                        let _token = guard.into_token();
                    }
                    _ => drop(guard.release().await),
                }
            }
            had
        });
    }
    let troubles = trouble(&server, end);
    let mut had = 0;
    while let Some(worker) = workers.join_next().await {
        had += worker.unwrap();
    }
    troubles.await.unwrap();
    crate::tell(&format!("had {had} times"));
    let jobs = processes[0].semaphore("jobs", permits(COUNT));
    until("all are free", async || jobs.available().await.is_ok_and(|free| free == COUNT)).await;
    until("nobody waits", async || waiting(&server) == 0).await;
    drop(jobs.acquire_many(permits(COUNT)).await.unwrap().unwrap());
}

/// "`Late` when the answer took longer than the lease."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_while_replicas_are_waited_for_is_not_had() {
    let master = server();
    let builder = Server::builder().config("replicaof", format!("127.0.0.1 {}", master.port()));
    let replica = builder.config("repl-diskless-sync-delay", "0").start().unwrap();
    let durability = Durability::Wait { replicas: 1, timeout: PATIENCE };
    let locks = on(master.url()).await;
    until("a replica that is up to date", async || {
        locks.try_lock("warm").durability(durability).await.is_ok()
    })
    .await;
    let lease = Duration::from_secs(1);
    let paused = replica.pause().unwrap();
    let lock = locks.lock("job").lease(lease).renew(false).durability(durability);
    let ran = tokio::spawn(async move { lock.with_uncancelled(async |_| "ran").await });
    rest(lease * 2).await;
    let other = acquired(&locks, "job", LONG).await;
    drop(paused);
    let ran = ran.await.unwrap();
    assert!(ran.is_err(), "{ran:?}, and somebody else has it: {}", other.is_valid());
}

/// The same by hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_guard_is_given_that_ended_while_replicas_were_waited_for() {
    let master = server();
    let builder = Server::builder().config("replicaof", format!("127.0.0.1 {}", master.port()));
    let replica = builder.config("repl-diskless-sync-delay", "0").start().unwrap();
    let durability = Durability::Wait { replicas: 1, timeout: PATIENCE };
    let locks = on(master.url()).await;
    until("a replica that is up to date", async || {
        locks.try_lock("warm").durability(durability).await.is_ok()
    })
    .await;
    let lease = Duration::from_secs(1);
    let paused = replica.pause().unwrap();
    let one = tokio::spawn(
        locks.lock("job").lease(lease).renew(false).durability(durability).into_future(),
    );
    rest(lease * 2).await;
    drop(paused);
    let one = one.await.unwrap();
    assert!(matches!(one, Err(Error::Late)), "{one:?}");
}

#[tokio::test]
async fn an_extension_that_is_over_before_its_answer_is_none() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let locks = on(proxy.url()).await;
    let mut guard = acquired(&locks, "job", LONG).await;
    let _ = guard.extend(LONG).await.unwrap();
    proxy.set(Fault::Latency { up: Duration::ZERO, down: SHORT * 2 });
    let extended = guard.extend(SHORT).await;
    assert!(
        guard.is_valid() || !matches!(extended, Ok(Extended::Extended)),
        "{extended:?}, and the server has it: {}",
        exists(&server, LOCK)
    );
}

/// Whoever extends does not wait twice.
#[tokio::test]
async fn an_extension_takes_no_longer_than_the_command_timeout() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let limit = Duration::from_secs(2);
    let config = Config::builder().url(proxy.url()).command_timeout(limit);
    let locks = Locks::new(Conn::connect(config).await.unwrap());
    let lease = Duration::from_secs(6);
    let mut guard = locks.lock("job").lease(lease).await.unwrap().unwrap();
    proxy.set(Fault::StallReplies);
    rest(lease / 3 + limit / 10).await;
    let began = Instant::now();
    assert!(guard.extend(lease).await.is_err());
    assert!(began.elapsed() < limit + limit / 4, "{:?}", began.elapsed());
}

/// Some of six locks at a time, by `lock_all` and alone, and all kinds of trouble: each is had once, and nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_all_is_had_once_whatever_happens() {
    const NAMES: [&str; 6] = ["{a}:1", "{a}:2", "{a}:3", "b", "c", "d"];
    let server = server();
    let mut processes = Vec::new();
    for _ in 0..4 {
        let config = Config::builder().url(server.url()).command_timeout(Duration::from_secs(1));
        processes.push(Locks::new(Conn::connect(config).await.unwrap()));
    }
    let out = Arc::new(Mutex::new(vec![None::<(u64, u32)>; NAMES.len()]));
    let end = Instant::now() + length();
    let mut workers = tokio::task::JoinSet::new();
    for n in 0..16u32 {
        let (locks, out) = (processes[n as usize % 4].clone(), Arc::clone(&out));
        workers.spawn(async move {
            let mut chance = fastrand::Rng::with_seed(n.into());
            let mut had = 0;
            while Instant::now() < end {
                let mut names: Vec<usize> = (0..NAMES.len()).collect();
                chance.shuffle(&mut names);
                names.truncate(chance.usize(1..4));
                if chance.bool() {
                    names.retain(|name| *name < 3);
                }
                let lease = Duration::from_millis(chance.u64(60..400));
                let wait = match chance.u32(0..4) {
                    0 => Wait::Never,
                    1 => Wait::For(Duration::from_millis(chance.u64(1..200))),
                    _ => Wait::For(Duration::from_secs(2)),
                };
                let acquire = locks
                    .lock_all(names.iter().map(|name| NAMES[*name]))
                    .lease(lease)
                    .wait(wait)
                    .renew(chance.bool());
                let patience = Duration::from_millis(chance.u64(1..1500));
                let Ok(Ok(Some(guards))) = timeout(patience, acquire.into_future()).await else {
                    rest(Duration::from_millis(5)).await;
                    continue;
                };
                had += 1;
                let valid_until = Instant::now() + guards.remaining();
                {
                    let mut out = out.lock().unwrap();
                    for (guard, name) in guards.guards().iter().zip(&names) {
                        let before = out[*name].map_or(0, |(fence, _)| fence);
                        assert!(
                            before < guard.fence() || Instant::now() >= valid_until,
                            "{before} was before {guard:?}"
                        );
                        if before < guard.fence() {
                            out[*name] = Some((guard.fence(), n));
                        }
                    }
                }
                rest(Duration::from_millis(chance.u64(0..200))).await;
                {
                    let out = out.lock().unwrap();
                    for (guard, name) in guards.guards().iter().zip(&names) {
                        let last = out[*name].map_or(0, |(fence, _)| fence);
                        assert!(!guard.is_valid() || last == guard.fence(), "somebody came later");
                    }
                }
                match chance.u32(0..3) {
                    0 => drop(guards),
                    1 => guards.into_guards().into_iter().for_each(|one| {
                        let _token = one.into_token();
                    }),
                    _ => drop(guards.release().await),
                }
            }
            had
        });
    }
    let troubles = trouble(&server, end);
    let mut had = 0;
    while let Some(worker) = workers.join_next().await {
        had += worker.unwrap();
    }
    troubles.await.unwrap();
    crate::tell(&format!("had {had} times"));
    until("all are free", async || processes[0].list().await.is_ok_and(|all| all.is_empty())).await;
    until("nobody waits", async || waiting(&server) == 0).await;
}

/// "From the first moment on, whoever acquires is told `Closed`."
#[tokio::test]
async fn who_acquires_all_is_told_that_it_is_closed() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let locks = on(proxy.url()).await;
    acquired(&locks, "warm", LONG).await.release().await.unwrap();
    proxy.set(Fault::StallReplies);
    let acquiring = tokio::spawn(locks.lock_all(["{a}:1", "{a}:2"]).into_future());
    rest(SHORT).await;
    let report = locks.close(SHORT).await;
    assert!(report.is_clean());
    let outcome = timeout(SHORT * 4, acquiring).await;
    proxy.clear();
    assert!(matches!(outcome, Ok(Ok(Err(Error::Closed)))), "{outcome:?}");
}

/// An observer of a connection whose runtime has ended does not turn in circles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_turns_in_no_circles() {
    let server = server();
    let (dying, url) = (process(), server.url());
    let locks = dying.spawn(async move { on(url).await }).await.unwrap();
    let mut observer = locks.election("leader").observe().await.unwrap();
    assert!(observer.next().await.unwrap().is_none());
    dying.shutdown_background();
    let mut polls = 0;
    let observed = {
        let mut next = std::pin::pin!(observer.next());
        timeout(
            Duration::from_secs(3),
            std::future::poll_fn(|cx| {
                polls += 1;
                next.as_mut().poll(cx)
            }),
        )
        .await
    };
    assert!(polls < 200, "{polls} {observed:?}");
}

/// The server comes later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_on_an_optional_connection_hears_of_the_leader() {
    let server = server();
    let config = || Config::builder().url(server.url()).optional(true);
    let locks = Locks::new(Conn::connect(config()).await.unwrap());
    let mut observer = locks.election("leader").observe().await.unwrap();
    let term = locks.election("leader").campaign().lease(LONG).await.unwrap().unwrap();
    while timeout(PATIENCE, observer.next()).await.unwrap().unwrap().is_none() {}
    server.kill().unwrap();
    let away = timeout(PATIENCE, observer.next()).await;
    server.restart().unwrap();
    let other = on(server.url()).await;
    let _next = other.election("leader").campaign().lease(LONG).await.unwrap().unwrap();
    let told = timeout(PATIENCE, async {
        loop {
            if let Some(leader) = observer.next().await.unwrap() {
                return leader.fence;
            }
        }
    })
    .await;
    crate::tell(&format!("away: {away:?}"));
    assert!(told.as_ref().is_ok_and(|fence| *fence > term.fence()), "{told:?}");
}

/// Of five masters two stand still, and who is given up leaves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_that_is_dropped_leaves_nothing() {
    let servers: Vec<_> = (0..3).map(|_| server()).collect();
    let mut all = Vec::new();
    for server in &servers {
        all.push(on(server.url()).await);
    }
    let quorum = redbrick_lock::Quorum::new(all.clone()).unwrap();
    let paused = servers[0].pause().unwrap();
    for times in 0..12 {
        let lock = quorum.lock("job").lease(Duration::from_secs(2)).wait(Wait::Never);
        drop(polled(lock.into_future(), times).await);
        let lock = quorum.lock("job").lease(Duration::from_secs(2)).wait(Wait::Never);
        drop(polled(lock.with(async || rest(SHORT / 5).await), times).await);
    }
    drop(paused);
    for locks in &all {
        crate::free(locks, "job").await;
    }
    let guard = quorum.lock("job").await.unwrap().expect("it is free");
    let _ = guard.release().await;
}
