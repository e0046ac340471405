use std::{num::NonZeroU32, time::Duration};

use redbrick_lock::{DEFAULT_TIMEOUT, Locks, Released, Wait};
use tokio::time::Instant;

use crate::{EAGER, LONG, PATIENCE, SHORT, acquired, connect, free, locks, send, team};

#[tokio::test]
async fn who_has_it_keeps_everybody_else_out() {
    let locks = locks("keeps-out").await;
    let guard = locks.lock("job").await.unwrap().expect("nobody has it");

    assert!(guard.is_valid());
    assert_eq!(guard.name(), b"job");
    assert!(locks.try_lock("job").await.unwrap().is_none(), "also itself: it is not reentrant");
    assert!(locks.lock("job").await.unwrap().is_none(), "after three attempts");
    assert!(locks.try_lock("other").await.unwrap().is_some());

    assert_eq!(guard.release().await.unwrap(), Released::Released);
    assert!(locks.try_lock("job").await.unwrap().is_some());
}

#[tokio::test]
async fn the_lease_is_thirty_seconds_unless_said_otherwise() {
    let conn = connect("leases").await;
    let locks = Locks::new(conn.clone());
    let shorter = Locks::builder(conn).lease(Duration::from_secs(10)).build().unwrap();

    for (guard, seconds) in [
        (locks.lock("a").await.unwrap().unwrap(), 30),
        (shorter.lock("b").await.unwrap().unwrap(), 10),
        (shorter.lock("c").lease(Duration::from_secs(90)).await.unwrap().unwrap(), 90),
    ] {
        let lease = Duration::from_secs(seconds);
        let left = locks.ttl(guard.name()).await.unwrap().unwrap();
        // Five seconds for a slow machine.
        assert!(left <= lease && left > lease - Duration::from_secs(5), "{left:?} of {lease:?}");
        assert!(guard.remaining() < lease && guard.remaining() > left - Duration::from_secs(6));
        guard.release().await.unwrap();
    }
}

#[tokio::test]
async fn a_lease_that_ends_is_somebody_elses_chance() {
    let locks = locks("lease-ends").await;
    let guard = acquired(&locks, "job", SHORT).await;

    let next = locks.lock("job").wait(EAGER).await.unwrap().expect("the lease ends");

    assert!(!guard.is_valid());
    assert_eq!(guard.release().await.unwrap(), Released::AlreadyLost);
    assert_eq!(next.release().await.unwrap(), Released::Released);
}

#[tokio::test]
async fn it_asks_as_often_as_it_is_told() {
    let locks = locks("attempts").await;
    let _guard = acquired(&locks, "job", LONG).await;

    let delay = Duration::from_millis(20);
    let started = Instant::now();
    let wait = Wait::Attempts { attempts: NonZeroU32::new(5).unwrap(), delay };
    assert!(locks.lock("job").wait(wait).await.unwrap().is_none());
    assert!(started.elapsed() >= delay * 2, "four pauses of half of that or more");

    let limit = Duration::from_millis(300);
    let started = Instant::now();
    assert!(locks.lock("job").wait(Wait::For(limit)).await.unwrap().is_none());
    // Two seconds for the last answer on a slow machine.
    let took = started.elapsed();
    assert!(took >= limit && took < limit + Duration::from_secs(2), "{took:?}");
    assert_eq!(DEFAULT_TIMEOUT, Duration::from_secs(5));
}

#[tokio::test]
async fn who_waits_gets_it_when_it_is_released() {
    let locks = locks("waits").await;
    let guard = acquired(&locks, "job", LONG).await;

    let waiting = tokio::spawn({
        let locks = locks.clone();
        send(async move { locks.lock("job").wait(Wait::For(PATIENCE)).await })
    });
    let fence = guard.fence();
    guard.release().await.unwrap();

    let guard = waiting.await.unwrap().unwrap().expect("it was released");
    assert!(guard.fence() > fence);
}

#[tokio::test]
async fn a_group_is_a_space_of_names_of_its_own() {
    let conn = connect("groups").await;
    let (unnamed, named) =
        (Locks::new(conn.clone()), Locks::builder(conn.clone()).name("a:b").build().unwrap());
    let default = Locks::builder(conn).name("default").build().unwrap();
    assert_eq!(unnamed.prefix().to_string(), "lock:default");
    assert_eq!(named.prefix().to_string(), "lock:a%3Ab");

    let _guard = acquired(&unnamed, "job", LONG).await;

    assert!(named.try_lock("job").await.unwrap().is_some());
    assert!(default.try_lock("job").await.unwrap().is_none(), "this is the unnamed one");
}

#[tokio::test]
async fn a_mutex_is_the_lock_of_its_name() {
    let conns = team("mutex", 2).await;
    let (here, there) = (Locks::new(conns[0].clone()), Locks::new(conns[1].clone()));
    let mutex = here.mutex("job");

    let guard = mutex.lock().lease(LONG).await.unwrap().unwrap();
    assert_eq!((guard.name(), mutex.name()), (&b"job"[..], &b"job"[..]));
    assert!(there.is_locked("job").await.unwrap());
    assert!(there.mutex("job").try_lock().await.unwrap().is_none());
    assert_eq!(there.mutex("job").with(|_| async { 1 }).await.unwrap(), None);

    guard.release().await.unwrap();
    assert_eq!(there.mutex("job").with(|_| async { 1 }).await.unwrap(), Some(1));
    free(&here, "job").await;
}
