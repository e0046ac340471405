use std::time::Duration;

use redbrick_core_conn::{Config, Conn};
use redbrick_lock::{Error, Locks, Released, Wait};
use tokio::time::{Instant, timeout};

use crate::{LONG, PATIENCE, connect, permits, server, team, until};

#[tokio::test]
async fn what_is_held_is_released_and_nothing_is_had_any_more() {
    let conns = team("close", 2).await;
    let [here, there] = [&conns[0], &conns[1]].map(|conn| Locks::new(conn.clone()));
    let guard = here.lock("one").lease(LONG).await.unwrap().unwrap();
    let lost = here.lock("lost").lease(LONG).renew(false).await.unwrap().unwrap();
    let permit = here.semaphore("jobs", permits(2)).acquire().lease(LONG).await.unwrap().unwrap();
    let token = here.lock("left").lease(LONG).await.unwrap().unwrap().into_token();
    assert!(there.force_release("lost").await.unwrap());
    let other = there.lock("other").lease(LONG).await.unwrap().unwrap();
    let waiting = tokio::spawn(here.lock("other").wait(Wait::Forever).into_future());
    until("it waits", async || there.info("other").await.unwrap().unwrap().waiting == 1).await;

    let report = here.clone().close(PATIENCE).await;

    assert_eq!((report.released, report.lost, report.unknown), (2, 1, 0));
    assert!(report.is_clean());
    timeout(PATIENCE, guard.lost()).await.expect("at once");
    assert!(!guard.is_valid() && !permit.is_valid());
    assert!(!there.is_locked("one").await.unwrap());
    assert_eq!(there.semaphore("jobs", permits(2)).available().await.unwrap(), 2);
    let error = timeout(PATIENCE, waiting).await.expect("at once").unwrap().unwrap_err();
    assert!(matches!(error, Error::Closed), "{error:?}");
    until("it leaves", async || there.info("other").await.unwrap().unwrap().waiting == 0).await;
    for error in [
        here.lock("one").await.unwrap_err(),
        here.lock_all(["{a}:1", "{a}:2"]).await.unwrap_err(),
        here.enter("left", &token).await.unwrap_err(),
        here.with_lock("one", async |_| panic!("it is not had")).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Closed), "{error:?}");
    }
    assert_eq!(guard.release().await.unwrap(), Released::AlreadyLost, "others may have it");
    drop((lost, permit, other));
    assert_eq!(there.release("left", &token).await.unwrap(), Released::Released, "it was left");
    assert_eq!(here.close(PATIENCE).await.released, 0);
}

#[tokio::test]
async fn closing_ends_by_its_deadline() {
    let server = server();
    let config = Config::builder().url(server.url()).command_timeout(PATIENCE);
    let locks = Locks::new(Conn::connect(config).await.unwrap());
    let _guard = locks.lock("job").lease(LONG).await.unwrap().unwrap();
    let paused = server.pause().unwrap();
    let deadline = Duration::from_millis(100);
    let began = Instant::now();
    let report = locks.close(deadline).await;
    assert!(began.elapsed() < PATIENCE / 4, "{:?}", began.elapsed());
    assert_eq!((report.unknown, report.is_clean()), (1, false));
    drop(paused);
}

/// Its owner is another one.
#[tokio::test]
async fn closing_releases_nothing_of_which_there_was_only_a_guest() {
    let conn: Conn = connect("close-guest").await;
    let (owner, guest) = (Locks::new(conn.clone()), Locks::new(conn));
    let guard = owner.lock("job").lease(LONG).await.unwrap().unwrap();
    let entered = guest.enter("job", guard.token()).await.unwrap().expect("it has it");
    assert_eq!(guest.close(PATIENCE).await.released, 0);
    assert!(owner.is_locked("job").await.unwrap());
    timeout(PATIENCE, entered.lost()).await.expect("at once");
    assert!(!entered.is_valid());
    drop(entered);
    assert_eq!(guard.release().await.unwrap(), Released::Released);
}
