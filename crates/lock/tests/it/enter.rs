use std::time::Duration;

use redbrick_core_conn::Token;
use redbrick_lock::{Locks, Released};
use tokio::time::{Instant, timeout};

use crate::{LONG, PATIENCE, acquired, locks, rest, team};

#[tokio::test]
async fn who_has_the_token_enters_and_leaves_the_lock_to_its_owner() {
    let conns = team("enter", 2).await;
    let [here, there] = [&conns[0], &conns[1]].map(|conn| Locks::new(conn.clone()));
    let guard = here.lock("job").lease(LONG).await.unwrap().unwrap();
    let entered = there.enter("job", guard.token()).await.unwrap().expect("it has it");
    assert_eq!((entered.fence(), entered.name()), (guard.fence(), &b"job"[..]));
    assert!(entered.is_valid());
    assert_eq!(entered.release().await.unwrap(), Released::Released);
    drop(there.enter("job", guard.token()).await.unwrap().expect("it has it still"));
    assert!(there.try_lock("job").await.unwrap().is_none(), "it is another one's");
    assert!(there.enter("job", &Token::random()).await.unwrap().is_none());

    let token = *guard.token();
    assert_eq!(guard.release().await.unwrap(), Released::Released);
    assert!(there.enter("job", &token).await.unwrap().is_none(), "it is nobody's");
    assert!(!here.is_locked("job").await.unwrap(), "nor is it taken");
}

/// The lease of its owner is longer, and it relies on that.
#[tokio::test]
async fn a_guest_makes_no_lease_shorter_and_renews_it() {
    let conn = crate::connect("guest-lease").await;
    let lease = Duration::from_millis(600);
    let (owner, guest) =
        (Locks::new(conn.clone()), Locks::builder(conn).lease(lease).build().unwrap());
    let guard = acquired(&owner, "long", LONG).await;
    let entered = guest.enter("long", guard.token()).await.unwrap().unwrap();
    rest(lease).await;
    assert!(owner.ttl("long").await.unwrap().unwrap() > LONG / 2);
    drop(entered);

    let token = acquired(&owner, "short", lease).await.into_token();
    let entered = guest.enter("short", &token).await.unwrap().unwrap();
    let began = Instant::now();
    while began.elapsed() < lease * 2 {
        assert!(entered.is_valid() && owner.is_locked("short").await.unwrap());
    }
    assert_eq!(owner.release("short", &token).await.unwrap(), Released::Released);
    timeout(PATIENCE, entered.lost()).await.expect("with the next renewal");
    assert_eq!(entered.release().await.unwrap(), Released::AlreadyLost);
}

#[tokio::test]
async fn work_that_is_not_to_be_cancelled_runs_to_its_end() {
    let locks = locks("uncancelled").await;
    let lease = Duration::from_millis(300);
    let (done, held) = locks
        .lock("job")
        .lease(lease)
        .with_uncancelled(async |fence| {
            assert_eq!(locks.info("job").await.unwrap().unwrap().fence, fence);
            7
        })
        .await
        .unwrap()
        .expect("nobody has it");
    assert_eq!((done, held), (7, Released::Released));
    let lost = locks.lock("job").lease(lease).with_uncancelled(async |_| {
        assert!(locks.force_release("job").await.unwrap());
        let next = acquired(&locks, "job", LONG).await;
        rest(lease * 2).await;
        next
    });
    let (next, held) = lost.await.unwrap().expect("nobody has it");
    assert_eq!(held, Released::AlreadyLost);
    assert!(next.is_valid() && locks.is_locked("job").await.unwrap());
    assert!(locks.try_lock("job").with_uncancelled(async |_| ()).await.unwrap().is_none());
}
