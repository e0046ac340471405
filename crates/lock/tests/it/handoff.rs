//! Who waits in line is handed the lock by its release, in the order in which they came.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Config, Conn};
use redbrick_lock::{LockGuard, Locks, Released, Wait};
use redbrick_testkit::Server;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout},
};

use crate::{
    LONG, PATIENCE, SHORT, acquired, eventually, free, is_long, keys, locks, server, team, tell,
    until,
};

async fn on(server: &Server) -> Locks {
    Locks::new(Conn::connect(server.url()).await.unwrap())
}

/// Has somebody wait in line, and returns when that is so.
async fn waiter(locks: &Locks, name: &'static str, lease: Duration) -> JoinHandle<LockGuard> {
    let before = waiting(locks, name).await;
    let waits = locks.clone();
    let waiter = tokio::spawn(async move {
        let lock = waits.lock(name).lease(lease).wait(Wait::Forever);
        lock.await.unwrap().expect("it waits for ever")
    });
    until("it stands in line", async || waiting(locks, name).await > before).await;
    waiter
}

async fn waiting(locks: &Locks, name: &str) -> u64 {
    locks.info(name).await.unwrap().map_or(0, |info| info.waiting)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_came_first_is_handed_it_first_across_processes() {
    let team = team("fifo", 4).await;
    let all: Vec<_> = team.into_iter().map(Locks::new).collect();
    let mut guard = acquired(&all[0], "job", LONG).await;
    let mut waiters = Vec::new();
    for n in 0..12 {
        waiters.push(waiter(&all[n % 4], "job", LONG).await);
    }
    for waiter in waiters {
        assert!(!waiter.is_finished(), "it was not its turn");
        let (fence, released) = (guard.fence(), guard.release().await.unwrap());
        assert_eq!(released, Released::Released);
        guard = timeout(PATIENCE, waiter).await.unwrap().unwrap();
        assert!(guard.fence() > fence && guard.is_valid());
    }
    assert_eq!(waiting(&all[0], "job").await, 0);
    guard.release().await.unwrap();
}

#[tokio::test]
async fn who_asks_from_time_to_time_comes_behind_those_who_wait() {
    let locks = locks("barge").await;
    let guard = acquired(&locks, "job", SHORT).await;
    let waiter = waiter(&locks, "job", LONG).await;
    let _forgotten = guard.into_token();
    // The lease ends, and nobody releases it.
    until("it is somebody else's", async || {
        assert!(locks.try_lock("job").await.unwrap().is_none(), "it came before who waits");
        waiter.is_finished()
    })
    .await;
    waiter.await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn an_acquisition_in_line_is_two_commands() {
    let server = server();
    let locks = on(&server).await;
    let guard = acquired(&locks, "job", LONG).await;
    let first = waiter(&locks, "job", LONG).await;
    guard.release().await.unwrap();
    let guard = first.await.unwrap();
    let mut next = None;
    let cost = server.cost(async {
        let lock = locks.lock("job").lease(LONG).wait(Wait::Forever);
        let (lock, released) = tokio::join!(lock.into_future(), async {
            tokio::task::yield_now().await;
            guard.release().await.unwrap()
        });
        assert_eq!(released, Released::Released);
        next = lock.unwrap();
    });
    let cost = cost.await.unwrap();
    assert!(cost.contains("evalsha 2") && cost.contains("publish 1"), "{cost}");
    next.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn who_waits_no_more_leaves_the_line_and_nothing_behind() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let builder = Locks::builder(conn).fence_memory(Duration::from_millis(1));
    let locks = builder.build().unwrap();
    let guard = acquired(&locks, "job", LONG).await;
    let dropped = waiter(&locks, "job", LONG).await;
    let last = waiter(&locks, "job", LONG).await;
    dropped.abort();
    until("it has left", async || waiting(&locks, "job").await == 1).await;
    let brief = Wait::For(Duration::from_millis(100));
    assert!(locks.lock("job").wait(brief).await.unwrap().is_none());
    assert_eq!(waiting(&locks, "job").await, 1);
    guard.release().await.unwrap();
    last.await.unwrap().release().await.unwrap();
    free(&locks, "job").await;
    assert!(!crate::exists(&server, "lock:default:{90}:job:queue"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_handed_on_where_the_one_who_is_next_waits_no_more_just_then() {
    let locks = locks("raced").await;
    for round in 0..200 {
        let guard = acquired(&locks, "job", LONG).await;
        let next = waiter(&locks, "job", LONG).await;
        let (released, ()) = tokio::join!(guard.release(), async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            next.abort();
        });
        assert_eq!(released.unwrap(), Released::Released);
        if let Ok(guard) = next.await {
            guard.release().await.unwrap();
        }
        free(&locks, "job").await;
    }
}

/// Whatever was lost, nobody waits longer than for a lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_lost_is_made_up_for() {
    let server = server();
    let locks = on(&server).await;
    let lease = Duration::from_secs(1);
    for _ in 0..if is_long() { 200 } else { 20 } {
        let guard = acquired(&locks, "job", LONG).await;
        let next = waiter(&locks, "job", lease).await;
        server.command(["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
        guard.release().await.unwrap();
        let since = Instant::now();
        let guard = timeout(PATIENCE, next).await.unwrap().unwrap();
        assert!(since.elapsed() < lease + Duration::from_secs(2), "{:?}", since.elapsed());
        guard.release().await.unwrap();
        free(&locks, "job").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_ends_is_noticed_by_who_is_first() {
    let locks = locks("first").await;
    let mut latest = Duration::ZERO;
    for _ in 0..if is_long() { 50 } else { 3 } {
        let guard = acquired(&locks, "job", LONG).await;
        let killed = waiter(&locks, "job", SHORT).await;
        let next = waiter(&locks, "job", LONG).await;
        guard.release().await.unwrap();
        // It keeps it until its lease ends, and says nothing.
        let _forgotten = killed.await.unwrap().into_token();
        let since = Instant::now();
        let guard = timeout(PATIENCE, next).await.unwrap().unwrap();
        let late = since.elapsed().saturating_sub(SHORT);
        assert!(late < Duration::from_secs(2), "{late:?}");
        latest = latest.max(late);
        guard.release().await.unwrap();
    }
    tell(&format!("who was next had it {latest:?} after the lease at the latest"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_take_turns_and_none_is_passed_over() {
    const EACH: usize = 20;
    let team = team("turns", 4).await;
    let inside = Arc::new(tokio::sync::Mutex::new(0_u64));
    let mut tasks = JoinSet::new();
    for conn in team {
        let locks = Locks::new(conn);
        for _ in 0..8 {
            let (locks, inside) = (locks.clone(), Arc::clone(&inside));
            tasks.spawn(async move {
                for _ in 0..EACH {
                    let lock = locks.lock("job").lease(LONG).wait(Wait::For(PATIENCE));
                    let guard = lock.await.unwrap().expect("it is handed on");
                    let mut last = inside.try_lock().expect("nobody else has it");
                    assert!(guard.fence() > *last);
                    *last = guard.fence();
                    drop(last);
                    assert_eq!(guard.release().await.unwrap(), Released::Released);
                }
            });
        }
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
}

#[tokio::test]
async fn who_has_no_right_to_listen_asks_from_time_to_time() {
    let server = Server::builder().user("app", "secret", "~* +@all").start().unwrap();
    let url = server.url().replace("redis://", "redis://app:secret@");
    let config = Config::builder().url(url).command_timeout(Duration::from_secs(2));
    let locks = Locks::new(Conn::connect(config).await.unwrap());
    let guard = acquired(&locks, "job", LONG).await;
    let (next, ()) =
        tokio::join!(locks.lock("job").wait(Wait::For(PATIENCE)).into_future(), async {
            crate::rest(Duration::from_millis(200)).await;
            guard.release().await.unwrap();
        });
    next.unwrap().expect("it is released").release().await.unwrap();
}

#[tokio::test]
async fn by_force_it_goes_to_who_waits() {
    let locks = locks("force").await;
    let guard = acquired(&locks, "job", LONG).await;
    let next = waiter(&locks, "job", LONG).await;
    assert!(locks.force_release("job").await.unwrap());
    let next = next.await.unwrap();
    assert_eq!(guard.release().await.unwrap(), Released::AlreadyLost);
    next.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_of_a_group_that_is_dropped() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let locks =
        Locks::builder(conn.clone()).fence_memory(Duration::from_millis(1)).build().unwrap();
    let guard = acquired(&locks, "job", SHORT).await;
    let next = waiter(&locks, "job", SHORT).await;
    guard.release().await.unwrap();
    next.await.unwrap().release().await.unwrap();
    drop(locks);
    let watched = Arc::clone(&server);
    eventually("nobody listens", move || {
        let channels = watched.command(["PUBSUB", "SHARDCHANNELS"]);
        // Before Redis 7.
        let channels = channels.or_else(|_| watched.command(["PUBSUB", "CHANNELS"])).unwrap();
        channels.as_array().is_some_and(|all| {
            all.iter().all(|it| it.as_str().is_some_and(|it| !it.contains("lock:")))
        })
    })
    .await;
    let watched = Arc::clone(&server);
    eventually("nothing is there", move || keys(&watched) == 0).await;
}

#[test]
fn who_waits_listens_anew_where_the_runtime_has_ended_that_listened() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let (lasting, passing) = (runtime(), runtime());
    let server = server();
    let locks = lasting.block_on(on(&server));
    let guard = lasting.block_on(acquired(&locks, "job", LONG));
    let first = passing.block_on(waiter(&locks, "job", LONG));
    let next = lasting.block_on(waiter(&locks, "job", LONG));
    drop((first, passing));
    lasting.block_on(async {
        let since = Instant::now();
        guard.release().await.unwrap();
        let guard = timeout(PATIENCE, next).await.unwrap().unwrap();
        assert!(since.elapsed() < LONG / 2);
        guard.release().await.unwrap();
    });
}

#[tokio::test]
async fn who_waits_is_told_when_the_connection_is_closed() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let (locks, other) = (Locks::new(conn.clone()), on(&server).await);
    let _guard = acquired(&other, "job", LONG).await;
    let waits = tokio::spawn(async move { locks.lock("job").wait(Wait::Forever).await });
    until("it stands in line", async || waiting(&other, "job").await == 1).await;
    conn.close(Duration::from_secs(1)).await;
    timeout(PATIENCE, waits).await.unwrap().unwrap().unwrap_err();
}
