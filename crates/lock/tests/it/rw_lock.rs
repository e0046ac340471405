#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::time::Duration;

use redbrick_core_conn::{Conn, Prefix, Token};
use redbrick_lock::{Extended, LockGuard, Locks, Released, Wait};
use tokio::time::timeout;

use crate::{EAGER, LONG, PATIENCE, SHORT, connect, locks, team, until};

async fn released(guard: LockGuard) {
    assert_eq!(guard.release().await.unwrap(), Released::Released);
}

/// Waits until so many stand in line for the lock `data`.
async fn in_line(conn: &Conn, count: u64) {
    let name = Prefix::new("lock").join("default").partition("data", 256.try_into().unwrap());
    let queue = name.key("data").join("rw").join("queue");
    let queue = conn.sorted_set(&queue);
    until("they stand in line", async || queue.len().await.unwrap() == count).await;
}

#[tokio::test]
async fn many_read_or_one_writes() {
    let locks = locks("rw").await;
    let data = locks.rw_lock("data");
    assert_eq!(data.name(), b"data");
    let mut readers = Vec::new();
    for _ in 0..5 {
        readers.push(data.try_read().await.unwrap().expect("others only read"));
    }
    assert!(data.try_write().await.unwrap().is_none());
    let last = readers.iter().map(LockGuard::fence).max();
    for reader in readers {
        released(reader).await;
    }
    let writer = data.try_write().await.unwrap().expect("nobody reads");
    assert!(Some(writer.fence()) > last, "fences rise");
    assert!(data.try_read().await.unwrap().is_none());
    assert!(data.try_write().await.unwrap().is_none());
    let _lock =
        locks.try_lock("data").await.unwrap().expect("a lock of this name is another thing");
    released(writer).await;
    assert!(data.try_read().await.unwrap().is_some());
}

/// Two processes.
#[tokio::test]
async fn who_came_first_is_first_and_those_who_read_go_together() {
    let conns = team("rw-order", 2).await;
    let data: Vec<_> = conns.iter().map(|conn| Locks::new(conn.clone()).rw_lock("data")).collect();
    let reads = data[0].read().lease(LONG).await.unwrap().unwrap();

    let writing = tokio::spawn(data[1].write().wait(EAGER).into_future());
    in_line(&conns[0], 1).await;
    let mut reading = Vec::new();
    for n in 0..4 {
        reading.push(tokio::spawn(data[n % 2].read().wait(EAGER).into_future()));
    }
    in_line(&conns[0], 5).await;
    assert!(reading.iter().all(|one| !one.is_finished()), "they came behind who writes");

    released(reads).await;
    let writes = timeout(PATIENCE, writing).await.unwrap().unwrap().unwrap().expect("its turn");
    assert!(reading.iter().all(|one| !one.is_finished()));
    released(writes).await;
    let mut all = Vec::new();
    for one in reading {
        all.push(timeout(PATIENCE, one).await.unwrap().unwrap().unwrap().expect("all at once"));
    }
    assert!(all.iter().all(LockGuard::is_valid));
}

#[tokio::test]
async fn who_forgets_it_has_it_no_more_after_its_lease() {
    let locks = locks("rw-forgotten").await;
    let data = locks.rw_lock("data");
    let _one = data.read().lease(SHORT).renew(false).await.unwrap().unwrap().into_token();
    let _other = data.read().lease(SHORT * 2).renew(false).await.unwrap().unwrap().into_token();
    let writes = data.write().wait(EAGER).lease(LONG).await.unwrap().expect("both end");
    released(writes).await;
}

#[tokio::test]
async fn who_waits_to_write_and_gives_up_lets_those_behind_it_read() {
    let conn = connect("rw-given-up").await;
    let data = Locks::new(conn.clone()).rw_lock("data");
    let _reads = data.read().lease(LONG).await.unwrap().unwrap();
    let writing = data.write().wait(Wait::Forever).into_future();
    let writing = tokio::spawn(writing);
    in_line(&conn, 1).await;
    let reading = tokio::spawn(data.read().lease(LONG).wait(EAGER).into_future());
    in_line(&conn, 2).await;
    writing.abort();
    let read = timeout(PATIENCE, reading).await.expect("at once").unwrap().unwrap();
    assert!(read.is_some(), "others only read");
}

#[tokio::test]
async fn any_process_releases_and_extends_it_by_its_token() {
    let conns = team("rw-token", 2).await;
    let [here, there] = [&conns[0], &conns[1]].map(|conn| Locks::new(conn.clone()).rw_lock("d"));
    for lock in [here.write(), here.read()] {
        let token = lock.lease(Duration::from_secs(5)).await.unwrap().unwrap().into_token();
        assert_eq!(there.extend(&token, LONG).await.unwrap(), Extended::Extended);
        assert_eq!(there.extend(&Token::random(), LONG).await.unwrap(), Extended::Lost);
        assert_eq!(there.release(&Token::random()).await.unwrap(), Released::AlreadyLost);
        assert!(here.try_write().await.unwrap().is_none());
        assert_eq!(there.release(&token).await.unwrap(), Released::Released);
        assert_eq!(there.release(&token).await.unwrap(), Released::Released, "the same once more");
        drop(here.try_write().await.unwrap().expect("it is free"));
        until("that is over", async || here.try_write().await.unwrap().is_some()).await;
        until("and that", async || here.try_read().await.unwrap().is_some()).await;
    }
}
