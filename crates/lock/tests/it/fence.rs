use std::time::{Duration, SystemTime};

use redbrick_core_conn::Conn;
use redbrick_lock::Locks;

use crate::{EAGER, LONG, SHORT, acquired, locks_on, server};

const FENCE: &str = "lock:default:{90}";

#[tokio::test]
async fn it_rises_with_every_acquisition_however_the_one_before_ended() {
    let server = server();
    let locks = locks_on(server.url()).await;
    let mut last = 0;
    let mut rises = |fence: u64| {
        assert!(fence > last, "{fence} after {last}");
        last = fence;
    };
    for _ in 0..3 {
        let guard = acquired(&locks, "job", LONG).await;
        rises(guard.fence());
        guard.release().await.unwrap();

        let _forgotten = acquired(&locks, "job", SHORT).await.into_token();
        let guard = locks.lock("job").lease(LONG).wait(EAGER).await.unwrap().unwrap();
        rises(guard.fence());

        assert!(locks.force_release("job").await.unwrap());
        let taken = acquired(&locks, "job", LONG).await;
        rises(taken.fence());
        drop(guard);
        assert!(locks.is_locked("job").await.unwrap());
        taken.release().await.unwrap();
    }
}

#[tokio::test]
async fn it_rises_when_the_server_has_lost_its_data() {
    let server = server();
    let locks = locks_on(server.url()).await;
    let first = acquired(&locks, "job", LONG).await.fence();

    server.restart().unwrap();

    let second = locks.lock("job").wait(EAGER).await.unwrap().unwrap().fence();
    assert!(second > first, "{second} after {first}");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    assert!(u128::from(second).abs_diff(now) < 60_000_000, "the clock in microseconds");
}

#[tokio::test]
async fn it_rises_when_the_servers_clock_goes_back() {
    let server = server();
    let locks = locks_on(server.url()).await;
    let first = acquired(&locks, "job", LONG).await;
    first.release().await.unwrap();
    // As if all before had happened in a year to come.
    let ahead: u64 = 4_000_000_000_000_000;
    server.command(["SET", FENCE, &ahead.to_string()]).unwrap();

    for n in 1..=3 {
        let guard = acquired(&locks, "job", LONG).await;
        assert_eq!(guard.fence(), ahead + n);
        guard.release().await.unwrap();
    }
}

#[tokio::test]
async fn it_is_remembered_for_a_day_after_the_lock_has_ended() {
    let server = server();
    let locks = locks_on(server.url()).await;
    let life = || server.command(["PTTL", FENCE]).unwrap().as_int().unwrap();
    let day = 24 * 60 * 60 * 1000;
    let hour = 60 * 60 * 1000;
    let near = |life: i64, expected: i64| {
        assert!(life <= expected && life > expected - 60_000, "{life} of {expected}");
    };

    let mut guard = acquired(&locks, "job", LONG).await;
    near(life(), day + 120_000);
    let _ = guard.extend(Duration::from_secs(30 * 60 * 60)).await.unwrap();
    near(life(), day + 30 * hour);
    let token = *guard.token();
    let _ = locks.extend("job", &token, Duration::from_secs(20 * 60 * 60)).await.unwrap();
    near(life(), day + 30 * hour);
    guard.release().await.unwrap();
    // What is remembered is of other locks too, and lasts for the longest.
    acquired(&locks, "job", LONG).await.release().await.unwrap();
    near(life(), day + 30 * hour);

    server.command(["DEL", FENCE]).unwrap();
    let conn = Conn::connect(server.url()).await.unwrap();
    let forgetful = Locks::builder(conn).fence_memory(Duration::ZERO).build().unwrap();
    acquired(&forgetful, "job", LONG).await.release().await.unwrap();
    near(life(), 120_000);
}
