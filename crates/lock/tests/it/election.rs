#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::time::Duration;

use redbrick_core_conn::Conn;
use redbrick_lock::{Election, LockInfo, Locks, Observer, Released, Wait};
use tokio::time::{Instant, timeout};

use crate::{LONG, PATIENCE, locks, rest, team, until};

fn candidate(conn: &Conn, name: &str) -> Election {
    let locks = Locks::builder(conn.clone()).holder(name).build().unwrap();
    locks.election("leader")
}

async fn told(observer: &mut Observer) -> Option<LockInfo> {
    timeout(PATIENCE, observer.next()).await.expect("a change").unwrap()
}

async fn holder(observer: &mut Observer) -> Option<String> {
    told(observer).await.map(|leader| leader.holder)
}

#[tokio::test]
async fn one_leads_at_a_time_and_the_next_one_when_it_resigns() {
    let conns = team("election", 2).await;
    let [one, two] = [candidate(&conns[0], "one"), candidate(&conns[1], "two")];
    assert_eq!(one.name(), b"leader");
    assert_eq!(one.leader().await.unwrap(), None);
    let term = one.campaign().lease(LONG).await.unwrap().expect("nobody leads");
    assert_eq!(two.leader().await.unwrap().unwrap().holder, "one");
    assert!(two.campaign().wait(Wait::Never).await.unwrap().is_none());
    let waiting = tokio::spawn(two.campaign().lease(LONG).into_future());
    until("it waits", async || one.leader().await.unwrap().unwrap().waiting == 1).await;

    assert_eq!(term.release().await.unwrap(), Released::Released);

    let next = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap().expect("its turn");
    let leader = one.leader().await.unwrap().unwrap();
    assert_eq!((leader.holder.as_str(), leader.fence), ("two", next.fence()));
}

#[tokio::test]
async fn an_observer_is_told_each_time_another_one_leads() {
    let conns = team("observe", 3).await;
    let [one, two] = [candidate(&conns[0], "one"), candidate(&conns[1], "two")];
    let mut observer = candidate(&conns[2], "observer").observe().await.unwrap();
    assert_eq!(holder(&mut observer).await, None, "at once");

    let first = one.campaign().lease(LONG).await.unwrap().unwrap();
    assert_eq!(holder(&mut observer).await.as_deref(), Some("one"));
    let waiting = tokio::spawn(two.campaign().lease(LONG).into_future());
    until("it waits", async || one.leader().await.unwrap().unwrap().waiting == 1).await;
    assert_eq!(first.release().await.unwrap(), Released::Released);
    assert_eq!(holder(&mut observer).await.as_deref(), Some("two"));
    let second = waiting.await.unwrap().unwrap().unwrap();
    assert_eq!(second.release().await.unwrap(), Released::Released);
    assert_eq!(holder(&mut observer).await, None);
    // The same candidate once more is another term.
    let third = one.campaign().lease(LONG).await.unwrap().unwrap();
    assert_eq!(told(&mut observer).await.unwrap().fence, third.fence());
    let fourth = {
        assert_eq!(third.release().await.unwrap(), Released::Released);
        one.campaign().lease(LONG).await.unwrap().unwrap()
    };
    let fence = loop {
        if let Some(leader) = told(&mut observer).await {
            break leader.fence;
        }
    };
    assert_eq!(fence, fourth.fence());
}

#[tokio::test]
async fn renewals_are_no_news_and_the_end_of_a_lease_is() {
    let conns = team("observe-lease", 2).await;
    let mut observer = candidate(&conns[1], "observer").observe().await.unwrap();
    let lease = Duration::from_millis(600);
    let one = candidate(&conns[0], "one");
    let term = one.campaign().lease(lease).await.unwrap().unwrap();
    while holder(&mut observer).await.is_none() {}
    assert!(timeout(lease * 2, observer.next()).await.is_err(), "the same one leads");
    let _token = term.into_token();
    let began = Instant::now();
    assert_eq!(holder(&mut observer).await, None);
    assert!(began.elapsed() < lease * 3, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_leader_that_is_deposed_learns_of_it() {
    let locks = locks("deposed").await;
    let election = locks.election("leader");
    let term = election.campaign().lease(Duration::from_secs(3)).await.unwrap().unwrap();
    assert!(locks.force_release("leader").await.unwrap());
    timeout(PATIENCE, term.lost()).await.expect("with the next renewal");
}

#[tokio::test]
async fn an_observer_of_a_connection_that_is_closed_is_told_so() {
    let conn = crate::connect("observe-closed").await;
    let mut observer = candidate(&conn, "one").observe().await.unwrap();
    assert!(observer.next().await.unwrap().is_none());
    let observing = tokio::spawn(async move { observer.next().await });
    rest(Duration::from_millis(20)).await;
    conn.close(PATIENCE).await;
    let error = timeout(PATIENCE, observing).await.expect("at once").unwrap().unwrap_err();
    assert!(!error.is_retryable(), "{error:?}");
}
