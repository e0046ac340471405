//! Each guard of each script, by tasks on connections of their own, as processes are.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use redbrick_core_conn::Conn;
use redbrick_lock::{Extended, Locks, Released, Wait};
use redbrick_testkit::{shared, unique};
use tokio::task::JoinSet;

use crate::{LONG, SHORT, config, is_long, permits, team};

/// Never gives up, and asks as often as a fast machine answers.
const BUSY: Wait = match NonZeroU32::new(100_000) {
    Some(attempts) => Wait::Attempts { attempts, delay: Duration::from_millis(2) },
    None => Wait::Never,
};

const TASKS: u32 = 8;

/// Runs `work` once on each connection, at the same time.
async fn together<Work>(conns: Vec<Conn>, work: impl Fn(usize, Conn) -> Work)
where
    Work: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for (n, conn) in conns.into_iter().enumerate() {
        tasks.spawn(work(n, conn));
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("no assertion failed");
    }
}

/// Adds one in two steps that only a lock keeps together.
async fn count_up(conn: &Conn) {
    let count: Option<u32> = conn.get("count").await.unwrap();
    tokio::task::yield_now().await;
    conn.set("count", &(count.unwrap_or(0) + 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_acquires_what_somebody_has_and_every_fence_is_higher() {
    const ROUNDS: u32 = 20;
    let conns = team("race-lock", TASKS as usize).await;
    let reader = conns[0].clone();
    let fences = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&fences);

    together(conns, move |_, conn| {
        let fences = Arc::clone(&kept);
        async move {
            let locks = Locks::new(conn.clone());
            for _ in 0..ROUNDS {
                let guard = locks.lock("job").lease(LONG).wait(BUSY).await.unwrap().unwrap();
                fences.lock().unwrap().push(guard.fence());
                count_up(&conn).await;
                assert_eq!(guard.release().await.unwrap(), Released::Released);
            }
        }
    })
    .await;

    let expected = TASKS * ROUNDS;
    assert_eq!(reader.get::<u32>("count").await.unwrap(), Some(expected), "none was lost");
    let fences = fences.lock().unwrap();
    assert_eq!(fences.len(), expected as usize);
    assert!(fences.is_sorted_by(|one, next| one < next), "{fences:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_under_a_lock_is_alone() {
    const ROUNDS: u32 = 10;
    let conns = team("race-with", TASKS as usize).await;
    let reader = conns[0].clone();

    together(conns, |_, conn| async move {
        let mutex = Locks::new(conn.clone()).mutex("job");
        for _ in 0..ROUNDS {
            let done = mutex.lock().wait(BUSY).with(|_| count_up(&conn)).await;
            done.unwrap().expect("it waits");
        }
    })
    .await;

    let count = reader.get::<u32>("count").await.unwrap();
    assert_eq!(count, Some(TASKS * ROUNDS), "none was lost");
}

/// Half of them let their lease end, and then release what another one has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_comes_late_releases_nothing_of_somebody_else() {
    late(|locks, guard| async move {
        let token = *guard.token();
        drop(guard);
        let _ = locks.release("job", &token).await.unwrap();
    })
    .await;
}

/// The same with extensions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extension_that_comes_late_extends_nothing_of_somebody_else() {
    late(|locks, mut guard| async move {
        if guard.extend(LONG).await.unwrap() == Extended::Extended {
            // Nobody came in between: it is really its own.
            let info = locks.info("job").await.unwrap().expect("it is held");
            assert_eq!(info.fence, guard.fence());
            assert_eq!(guard.release().await.unwrap(), Released::Released);
        }
    })
    .await;
}

async fn late<Late>(act: impl Fn(Locks, redbrick_lock::LockGuard) -> Late + Copy + Send + 'static)
where
    Late: Future<Output = ()> + Send + 'static,
{
    let conns = team("race-late", TASKS as usize).await;
    let late = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&late);
    together(conns, move |n, conn| {
        let late = Arc::clone(&seen);
        async move {
            let locks = Locks::new(conn.clone());
            for _ in 0..10 {
                if n % 2 == 0 {
                    let lock = locks.lock("job").lease(Duration::from_millis(20)).renew(false);
                    let lock = lock.wait(BUSY);
                    // On a slow machine the lease may have ended before the answer came.
                    let Ok(Some(guard)) = lock.await else { continue };
                    guard.lost().await;
                    if conn.exists("lock:default:{90}:job").await.unwrap() {
                        late.fetch_add(1, Ordering::Relaxed);
                    }
                    act(locks.clone(), guard).await;
                } else {
                    let lock = locks.lock("job").lease(LONG).wait(BUSY);
                    let mut guard = lock.await.unwrap().unwrap();
                    for _ in 0..10 {
                        assert!(locks.is_locked("job").await.unwrap(), "nobody took it away");
                    }
                    assert_eq!(guard.extend(LONG).await.unwrap(), Extended::Extended);
                    assert_eq!(guard.release().await.unwrap(), Released::Released);
                }
            }
        }
    })
    .await;
    assert!(late.load(Ordering::Relaxed) > 0, "somebody was late");
}

/// In the long form a million operations.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_are_more_permits_out_than_there_are() {
    const PERMITS: u32 = 5;
    let turns = if is_long() { 1_000_000 / 2 / TASKS } else { 30 };
    let conns = team("race-permits", TASKS as usize).await;
    let (out, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (now, max) = (Arc::clone(&out), Arc::clone(&most));

    together(conns, move |_, conn| {
        let (out, most) = (Arc::clone(&now), Arc::clone(&max));
        async move {
            let semaphore = Locks::new(conn.clone()).semaphore("jobs", permits(PERMITS));
            let mut chance = fastrand::Rng::new();
            for _ in 0..turns {
                let weight = chance.u32(1..=PERMITS);
                let wait = if chance.u32(..4) == 0 { Wait::Never } else { Wait::Forever };
                let acquire = semaphore.acquire_many(permits(weight)).lease(LONG).wait(wait);
                let Some(permit) = acquire.await.unwrap() else { continue };
                most.fetch_max(out.fetch_add(weight, Ordering::SeqCst) + weight, Ordering::SeqCst);
                match chance.u32(..16) {
                    0 => assert!(semaphore.available().await.unwrap() <= PERMITS - weight),
                    1 => tokio::task::yield_now().await,
                    _ => {}
                }
                out.fetch_sub(weight, Ordering::SeqCst);
                match chance.u32(..8) {
                    0 => drop(permit),
                    _ => assert_eq!(permit.release().await.unwrap(), Released::Released),
                }
            }
        }
    })
    .await;

    let most = most.load(Ordering::SeqCst);
    assert!(most > 1 && most <= PERMITS, "{most} at once");
}

/// All of them forget their permits, and one keeps the key from expiring.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permits_that_are_forgotten_come_back_and_do_not_pile_up() {
    let prefix = unique("race-forgotten");
    let mut conns = Vec::new();
    for _ in 0..TASKS {
        conns.push(Conn::connect(config(&prefix)).await.unwrap());
    }
    let locks = Locks::new(conns[0].clone());
    let semaphore = locks.semaphore("jobs", permits(4));
    let _long = semaphore.acquire().lease(LONG).await.unwrap().unwrap();

    together(conns, |_, conn| async move {
        let semaphore = Locks::new(conn).semaphore("jobs", permits(4));
        for _ in 0..5 {
            let permit =
                semaphore.acquire().lease(SHORT).renew(false).wait(BUSY).await.unwrap().unwrap();
            let _forgotten = permit.into_token();
        }
    })
    .await;

    // Taking one makes room for it.
    let next = semaphore.acquire().lease(LONG).wait(BUSY).await.unwrap().unwrap();
    let key = format!("{prefix}:lock:default:{{159}}:jobs:permits");
    let kept = shared().command(["ZCARD", &key]).unwrap().as_int().unwrap();
    assert!(kept <= 4, "{kept} are kept although four can be out");
    next.release().await.unwrap();
}
