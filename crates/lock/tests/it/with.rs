use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use redbrick_lock::{Error, Wait};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{LONG, PATIENCE, acquired, free, locks, locks_on, permits, send, server, until};

#[tokio::test]
async fn its_result_comes_back_and_the_lock_is_released() {
    let locks = locks("with").await;
    let mut calls = 0;
    let seen = locks.clone();

    let fence = locks
        .with_lock("job", |fence| {
            calls += 1;
            async move {
                let info = seen.info("job").await.unwrap().expect("it is held");
                assert_eq!(info.fence, fence);
                fence
            }
        })
        .await
        .unwrap();

    assert!(fence.is_some_and(|fence| fence > 0));
    assert_eq!(calls, 1);
    assert!(!locks.is_locked("job").await.unwrap(), "the release was waited for");
    let failed = locks.with_lock("job", |_| async { Err::<(), _>("no") }).await.unwrap();
    assert_eq!(failed, Some(Err("no")), "what fails is a result as well");
    assert!(!locks.is_locked("job").await.unwrap());
}

#[tokio::test]
async fn what_cannot_have_the_lock_does_not_run() {
    let locks = locks("not-run").await;
    let _guard = acquired(&locks, "job", LONG).await;
    let ran = AtomicBool::new(false);

    let outcome = locks
        .lock("job")
        .wait(Wait::Never)
        .with(|_| async { ran.store(true, Ordering::Relaxed) })
        .await;

    assert_eq!(outcome.unwrap(), None);
    assert!(!ran.load(Ordering::Relaxed));
}

#[tokio::test]
async fn work_may_take_far_longer_than_the_lease() {
    let locks = locks("renews").await;
    let lease = Duration::from_secs(3);
    let others = AtomicU32::new(0);

    let done = locks
        .lock("job")
        .lease(lease)
        .with(|_| async {
            let started = Instant::now();
            while started.elapsed() < lease * 3 / 2 {
                if locks.try_lock("job").await.unwrap().is_some() {
                    others.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
        .await;

    done.unwrap().expect("nobody had it");
    assert_eq!(others.load(Ordering::Relaxed), 0, "nobody else had it meanwhile");
}

/// Says when it is dropped.
struct Dropped(Option<oneshot::Sender<()>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.take().map(|sender| sender.send(()));
    }
}

#[tokio::test]
async fn work_is_stopped_when_a_renewal_finds_the_lock_lost() {
    let locks = locks("stopped").await;
    let (sender, dropped) = oneshot::channel();
    let work = tokio::spawn({
        let locks = locks.clone();
        let alive = Dropped(Some(sender));
        send(async move {
            let lock = locks.lock("job").lease(Duration::from_secs(1));
            lock.with(|_| async move {
                let _alive = alive;
                std::future::pending::<()>().await;
            })
            .await
        })
    });
    until("it is held", async || locks.is_locked("job").await.unwrap()).await;

    assert!(locks.force_release("job").await.unwrap());
    let next = acquired(&locks, "job", LONG).await;

    let error = timeout(PATIENCE, work).await.expect("at the next renewal").unwrap().unwrap_err();
    assert!(matches!(error, Error::Lost), "{error:?}");
    dropped.await.expect("the work was dropped");
    assert!(next.is_valid() && locks.is_locked("job").await.unwrap(), "the next one is left alone");
}

#[tokio::test]
async fn work_that_panics_leaves_no_lock() {
    let locks = locks("panics").await;
    for late in [true, false] {
        let work = tokio::spawn({
            let locks = locks.clone();
            async move {
                let lock = locks.lock("job").lease(LONG);
                lock.with(|_| {
                    assert!(late, "before its first poll");
                    async move { assert!(!late, "while it is polled") }
                })
                .await
            }
        });
        assert!(work.await.unwrap_err().is_panic());
        free(&locks, "job").await;
    }
}

#[tokio::test]
async fn work_that_is_given_up_leaves_no_lock() {
    let locks = locks("given-up").await;
    let never = locks.lock("job").lease(LONG).with(|_| std::future::pending::<()>());
    let given_up = timeout(Duration::from_millis(300), never).await;
    assert!(given_up.is_err());
    free(&locks, "job").await;
}

/// What holds up its thread cannot be stopped; it must not be polled again once the lock may be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_outlasts_its_lease_without_a_pause_gets_no_further() {
    let server = server();
    let locks = locks_on(server.url()).await;
    let steps = Arc::new(AtomicU32::new(0));
    let lease = Duration::from_millis(200);

    let outcome = locks
        .lock("job")
        .lease(lease)
        .renew(false)
        .with(|_| {
            let steps = Arc::clone(&steps);
            async move {
                steps.fetch_add(1, Ordering::Relaxed);
                let started = Instant::now();
                while started.elapsed() < lease * 2 {
                    std::hint::spin_loop();
                }
                tokio::task::yield_now().await;
                steps.fetch_add(1, Ordering::Relaxed);
            }
        })
        .await;

    assert!(matches!(outcome, Err(Error::Lost)), "{outcome:?}");
    assert_eq!(steps.load(Ordering::Relaxed), 1);
}

/// By then somebody else may have the lock, and the work may be ready to go on.
#[tokio::test]
async fn work_that_is_ready_to_go_on_after_its_lease_gets_no_further() {
    let locks = locks("woken-late").await;
    let steps = AtomicU32::new(0);
    let lease = Duration::from_millis(600);
    let (begin, begun) = oneshot::channel();
    let (wake, woken) = oneshot::channel();
    // It holds up the one thread there is until the lease is over, and then wakes the work.
    let other = tokio::spawn(async move {
        begun.await.unwrap();
        let started = Instant::now();
        while started.elapsed() < lease {
            std::hint::spin_loop();
        }
        wake.send(()).unwrap();
    });

    let outcome = locks
        .lock("job")
        .lease(lease)
        .with(async |_| {
            steps.fetch_add(1, Ordering::Relaxed);
            begin.send(()).unwrap();
            let _ = woken.await;
            steps.fetch_add(1, Ordering::Relaxed);
        })
        .await;

    assert!(matches!(outcome, Err(Error::Lost)), "{outcome:?}");
    assert_eq!(steps.load(Ordering::Relaxed), 1);
    other.await.unwrap();
}

#[tokio::test]
async fn a_permit_is_kept_and_released_in_the_same_way() {
    let locks = locks("with-permit").await;
    let semaphore = locks.semaphore("jobs", permits(1));
    let lease = Duration::from_secs(3);

    let done = semaphore
        .acquire()
        .lease(lease)
        .with(|_| async {
            let started = Instant::now();
            while started.elapsed() < lease * 3 / 2 {
                assert_eq!(semaphore.available().await.unwrap(), 0);
            }
            7
        })
        .await;

    assert_eq!(done.unwrap(), Some(7));
    assert_eq!(semaphore.available().await.unwrap(), 1);
    let _permit = semaphore.try_acquire().await.unwrap().unwrap();
    assert_eq!(semaphore.with(|_| async {}).await.unwrap(), None);
}
