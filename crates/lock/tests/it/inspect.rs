use std::time::{Duration, SystemTime};

use redbrick_lock::Locks;

use crate::{LONG, acquired, connect, locks};

#[tokio::test]
async fn a_lock_is_asked_for_its_state_by_name() {
    let locks = locks("state").await;
    assert!(!locks.is_locked("job").await.unwrap());
    assert_eq!(locks.ttl("job").await.unwrap(), None);
    assert!(locks.info("job").await.unwrap().is_none());
    assert!(!locks.force_release("job").await.unwrap());

    let guard = acquired(&locks, "job", LONG).await;
    assert!(locks.is_locked("job").await.unwrap());
    let left = locks.ttl("job").await.unwrap().expect("somebody has it");
    assert!(left <= LONG && left > LONG / 2);

    assert!(locks.force_release("job").await.unwrap());
    assert!(!locks.is_locked("job").await.unwrap());
    drop(guard);
}

#[tokio::test]
async fn the_holder_the_fence_and_both_ends_are_shown() {
    let conn = connect("info").await;
    let locks = Locks::builder(conn.clone()).holder("worker 7").build().unwrap();
    let guard = acquired(&locks, "job", LONG).await;

    let info = locks.info("job").await.unwrap().expect("somebody has it");

    assert_eq!((info.name.as_slice(), &*info.name_text()), (&b"job"[..], "job"));
    assert_eq!((&*info.holder, info.fence), ("worker 7", guard.fence()));
    let minute = Duration::from_secs(60);
    let (now, ends) = (SystemTime::now(), info.expires_at.expect("a lease ends"));
    assert!(info.acquired_at > now - minute && info.acquired_at < now + minute);
    assert!(ends > now + LONG - minute && ends < now + LONG + minute);
    assert!(info.remaining <= LONG && info.remaining > LONG / 2);

    let mine = locks.lock("other").holder("somebody").await.unwrap().unwrap();
    assert_eq!(locks.info("other").await.unwrap().unwrap().holder, "somebody");
    drop(mine);
    let anonymous = Locks::new(conn);
    let _guard = acquired(&anonymous, "third", LONG).await;
    let holder = anonymous.info("third").await.unwrap().unwrap().holder;
    assert!(holder.ends_with(&format!(":{}", std::process::id())), "host:pid, not {holder}");
}

#[tokio::test]
async fn all_locks_of_a_group_are_listed_by_name() {
    let conn = connect("list").await;
    let locks = Locks::builder(conn.clone()).name("jobs").build().unwrap();
    let others = Locks::new(conn);
    assert!(locks.list().await.unwrap().is_empty());

    let mut guards = Vec::new();
    for n in 0..300 {
        guards.push(acquired(&locks, &format!("job {n:03}"), LONG).await);
    }
    let _permit = locks.semaphore("jobs", crate::permits(1)).acquire().await.unwrap().unwrap();
    let _other = acquired(&others, "other", LONG).await;
    acquired(&locks, "past", LONG).await.release().await.unwrap();

    let list = locks.list().await.unwrap();

    let names: Vec<_> = list.iter().map(|info| info.name_text().into_owned()).collect();
    let expected: Vec<_> = (0..300).map(|n| format!("job {n:03}")).collect();
    assert_eq!(names, expected);
    assert!(list.iter().zip(&guards).all(|(info, guard)| info.fence == guard.fence()));
    assert_eq!(others.list().await.unwrap().len(), 1);
}
