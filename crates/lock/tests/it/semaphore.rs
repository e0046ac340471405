#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::time::Duration;

use redbrick_core_conn::{Conn, Token};
use redbrick_lock::{Error, Extended, Locks, Released, Wait};
use tokio::time::timeout;

use crate::{EAGER, LONG, PATIENCE, SHORT, connect, locks, permits, team, until};

#[tokio::test]
async fn no_more_permits_are_out_than_there_are() {
    let locks = locks("permits").await;
    let semaphore = locks.semaphore("jobs", permits(3));
    assert_eq!((semaphore.permits().get(), semaphore.available().await.unwrap()), (3, 3));

    let mut out = Vec::new();
    for left in (0..3).rev() {
        out.push(semaphore.acquire().await.unwrap().expect("one is left"));
        assert_eq!(semaphore.available().await.unwrap(), left);
    }
    assert!(semaphore.try_acquire().await.unwrap().is_none());
    assert!(semaphore.acquire().await.unwrap().is_none(), "after three attempts");

    let permit = out.pop().unwrap();
    assert!(permit.is_valid() && permit.remaining() > Duration::from_secs(20));
    assert_eq!(permit.release().await.unwrap(), Released::Released);
    let waiting = semaphore.acquire().wait(Wait::For(PATIENCE));
    assert!(waiting.await.unwrap().is_some());
    let _lock =
        locks.try_lock("jobs").await.unwrap().expect("a lock of this name is another thing");
}

#[tokio::test]
async fn a_permit_whose_lease_ends_is_free_again() {
    let locks = locks("permit-ends").await;
    let semaphore = locks.semaphore("jobs", permits(2));
    // It keeps the key alive, so that time alone makes the other one end.
    let _long = semaphore.acquire().lease(LONG).await.unwrap().unwrap();
    let mut short = semaphore.acquire().lease(SHORT).renew(false).await.unwrap().unwrap();
    assert_eq!(semaphore.available().await.unwrap(), 0);

    let next = semaphore.acquire().wait(EAGER).lease(LONG).await.unwrap().expect("it ends");

    assert!(!short.is_valid());
    assert_eq!(short.extend(LONG).await.unwrap(), Extended::Lost);
    assert_eq!(short.release().await.unwrap(), Released::AlreadyLost);
    assert_eq!(semaphore.available().await.unwrap(), 0, "the next one has it");
    assert_eq!(next.release().await.unwrap(), Released::Released);
}

/// Before somebody else has it, so that only the clock knows.
#[tokio::test]
async fn a_permit_whose_lease_has_ended_is_neither_extended_nor_released() {
    let locks = locks("permit-late").await;
    let semaphore = locks.semaphore("jobs", permits(3));
    let _long = semaphore.acquire().lease(LONG).await.unwrap().unwrap();
    let mut tokens = Vec::new();
    for _ in 0..2 {
        tokens.push(
            semaphore.acquire().lease(SHORT).renew(false).await.unwrap().unwrap().into_token(),
        );
    }
    until("they end", async || semaphore.available().await.unwrap() == 2).await;

    assert_eq!(semaphore.extend(&tokens[0], LONG).await.unwrap(), Extended::Lost);
    assert_eq!(semaphore.available().await.unwrap(), 2);
    assert_eq!(semaphore.release(&tokens[1]).await.unwrap(), Released::AlreadyLost);
}

#[tokio::test]
async fn any_process_extends_and_releases_a_permit_by_its_token() {
    let conns = team("permit-token", 2).await;
    let (here, there) = (Locks::new(conns[0].clone()), Locks::new(conns[1].clone()));
    let (here, there) = (here.semaphore("j", permits(1)), there.semaphore("j", permits(1)));
    let mut permit = here.acquire().lease(Duration::from_secs(5)).await.unwrap().unwrap();
    assert_eq!(permit.extend(Duration::from_secs(6)).await.unwrap(), Extended::Extended);
    assert!(permit.remaining() > Duration::from_secs(3));
    let token = permit.into_token();

    assert_eq!(there.extend(&token, LONG).await.unwrap(), Extended::Extended);
    assert_eq!(there.release(&Token::random()).await.unwrap(), Released::AlreadyLost);
    assert_eq!(there.extend(&Token::random(), LONG).await.unwrap(), Extended::Lost);
    assert_eq!(there.available().await.unwrap(), 0);
    assert_eq!(there.release(&token).await.unwrap(), Released::Released);
    assert_eq!(here.available().await.unwrap(), 1);
    assert_eq!(there.release(&token).await.unwrap(), Released::Released, "the same once more");
}

#[tokio::test]
async fn fewer_permits_than_are_out_refuse_new_ones_only() {
    let locks = locks("lowered").await;
    let (three, one) = (locks.semaphore("j", permits(3)), locks.semaphore("j", permits(1)));
    let mut out = Vec::new();
    for _ in 0..3 {
        out.push(three.acquire().lease(LONG).await.unwrap().unwrap());
    }

    assert_eq!(one.available().await.unwrap(), 0);
    assert!(one.try_acquire().await.unwrap().is_none());
    for permit in &mut out {
        assert_eq!(permit.extend(LONG).await.unwrap(), Extended::Extended, "those stay");
    }
    for permit in out {
        assert!(one.try_acquire().await.unwrap().is_none());
        permit.release().await.unwrap();
    }
    assert!(one.try_acquire().await.unwrap().is_some());
}

#[tokio::test]
async fn a_permit_that_is_dropped_is_free_and_its_end_is_told() {
    let locks = locks("permit-drop").await;
    let semaphore = locks.semaphore("jobs", permits(1));
    let permit = semaphore.acquire().lease(LONG).await.unwrap().unwrap();
    let lost = tokio::spawn(permit.lost());
    drop(permit);
    timeout(PATIENCE, lost).await.expect("at once").unwrap();
    until("it is free", async || semaphore.available().await.unwrap() == 1).await;
}

/// Waits until so many stand in line for the permits `jobs`.
async fn in_line(conn: &Conn, count: u64) {
    let queue = conn.sorted_set("lock:default:{159}:jobs:permits:queue");
    until("they stand in line", async || queue.len().await.unwrap() == count).await;
}

#[tokio::test]
async fn who_asks_for_many_is_not_passed_by_those_who_ask_for_few() {
    let conn = connect("weights").await;
    let semaphore = Locks::new(conn.clone()).semaphore("jobs", permits(4));
    let three = semaphore.acquire_many(permits(3)).lease(LONG).await.unwrap().unwrap();
    let many = semaphore.acquire_many(permits(3)).lease(LONG).wait(EAGER).into_future();
    let many = tokio::spawn(many);
    in_line(&conn, 1).await;
    assert_eq!(semaphore.available().await.unwrap(), 1, "which is not for others");
    let few: Vec<_> = (0..3)
        .map(|_| tokio::spawn(semaphore.acquire().lease(LONG).wait(EAGER).into_future()))
        .collect();
    in_line(&conn, 4).await;
    assert!(few.iter().all(|one| !one.is_finished()));

    assert_eq!(three.release().await.unwrap(), Released::Released);

    let many = timeout(PATIENCE, many).await.unwrap().unwrap().unwrap().expect("its turn");
    until("one of the others", async || few.iter().any(tokio::task::JoinHandle::is_finished)).await;
    assert_eq!(semaphore.available().await.unwrap(), 0);
    assert_eq!(many.release().await.unwrap(), Released::Released);
    for one in few {
        let one = timeout(PATIENCE, one).await.expect("at once").unwrap().unwrap();
        drop(one.expect("its turn"));
    }
}

#[tokio::test]
async fn more_than_there_are_is_an_error_and_nothing_is_asked() {
    let locks = locks("too-many").await;
    let semaphore = locks.semaphore("jobs", permits(2));
    let error = semaphore.acquire_many(permits(3)).wait(Wait::Forever).await.unwrap_err();
    assert!(matches!(error, Error::Permits), "{error:?}");
    assert_eq!(semaphore.available().await.unwrap(), 2);
}

#[tokio::test]
async fn what_is_released_is_handed_on_to_as_many_as_it_is_for() {
    let conns = team("handed-on", 3).await;
    let all: Vec<_> =
        conns.iter().map(|conn| Locks::new(conn.clone()).semaphore("jobs", permits(3))).collect();
    let three = all[0].acquire_many(permits(3)).lease(LONG).await.unwrap().unwrap();
    let waiting: Vec<_> = all
        .iter()
        .map(|semaphore| tokio::spawn(semaphore.acquire().lease(LONG).wait(EAGER).into_future()))
        .collect();
    in_line(&conns[0], 3).await;
    assert_eq!(three.release().await.unwrap(), Released::Released);
    let mut fences = Vec::new();
    let mut guards = Vec::new();
    for one in waiting {
        let guard = timeout(PATIENCE, one).await.expect("at once").unwrap().unwrap().unwrap();
        fences.push(guard.fence());
        guards.push(guard);
    }
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), 3, "each has its own");
    assert_eq!(all[0].available().await.unwrap(), 0);
}
