//! The generic cell rate algorithm.

use std::time::{Duration, SystemTime};

use redbrick_ratelimit::{Algorithm, Quota};
use redbrick_testkit::{shared, unique};

use crate::{clock, connect, connect_as, life, limiter, n, stored, until_it_passes};

#[tokio::test]
async fn a_burst_passes_and_what_is_denied_counts_for_nothing() {
    let conn = connect("gcra-burst").await;
    let quota = Quota::per_minute(n(1)).burst(n(3));
    let limiter = limiter(&conn, Algorithm::Gcra, quota);

    for remaining in [2, 1, 0] {
        let decision = limiter.consume("ada").await.unwrap();
        assert!(decision.is_allowed() && decision.retry_after().is_none(), "{decision:?}");
        assert_eq!((decision.limit(), decision.remaining()), (3, remaining));
        let whole = Duration::from_secs(60) * (3 - remaining);
        // The minute that the test may take at most has begun to come back.
        assert!(decision.reset_after() <= whole, "{decision:?}");
        assert!(decision.reset_after() > whole - Duration::from_secs(30), "{decision:?}");
    }
    for _ in 0..20 {
        let decision = limiter.consume("ada").await.unwrap();
        assert!(!decision.is_allowed(), "{decision:?}");
        assert_eq!(decision.remaining(), 0);
        let wait = decision.retry_after().unwrap();
        assert!(wait <= Duration::from_secs(60) && wait > Duration::from_secs(30), "{wait:?}");
        assert_eq!(decision.retry_after_seconds(), Some(wait.as_secs() + 1));
    }
    assert_eq!(limiter.count("ada").await.unwrap(), 3);
    assert!(limiter.consume("bob").await.unwrap().is_allowed(), "others are not concerned");
}

#[tokio::test]
async fn what_was_denied_passes_after_the_wait_that_was_said_and_not_before() {
    let conn = connect("gcra-wait").await;
    let quota = Quota::per(n(1), Duration::from_millis(100)).burst(n(2));
    let limiter = limiter(&conn, Algorithm::Gcra, quota);
    let _ = limiter.consume_n("ada", n(2)).await.unwrap();

    let (passed, denied) = until_it_passes(&limiter, "ada").await;

    let promised: Vec<SystemTime> =
        denied.iter().map(|one| clock(one) + one.retry_after().unwrap()).collect();
    assert!(!promised.is_empty(), "it was not asked in time");
    assert!(promised.iter().all(|moment| *moment == promised[0]), "{promised:?}");
    assert!(clock(&passed) >= promised[0], "{passed:?}");
    assert!(denied.iter().all(|one| clock(one) < promised[0]), "{denied:?}");
}

#[tokio::test]
async fn several_pass_together_or_not_at_all() {
    let conn = connect("gcra-several").await;
    let limiter = limiter(&conn, Algorithm::Gcra, Quota::per_hour(n(5)));
    assert_eq!(limiter.consume_n("ada", n(3)).await.unwrap().remaining(), 2);

    let denied = limiter.consume_n("ada", n(3)).await.unwrap();

    assert!(!denied.is_allowed() && denied.remaining() == 2, "{denied:?}");
    // One more is needed, and one comes back in twelve minutes.
    let wait = denied.retry_after().unwrap();
    assert!(wait <= Duration::from_secs(720) && wait > Duration::from_secs(660), "{wait:?}");
    assert!(limiter.consume_n("ada", n(2)).await.unwrap().is_allowed());
}

#[tokio::test]
async fn a_quota_that_does_not_divide_is_rounded_to_fewer() {
    let conn = connect("gcra-rounded").await;
    let limiter = limiter(&conn, Algorithm::Gcra, Quota::per(n(3), Duration::from_secs(100)));

    let decision = limiter.consume("ada").await.unwrap();

    assert_eq!(decision.reset_after(), Duration::from_micros(33_333_334));
}

#[tokio::test]
async fn its_key_is_the_moment_of_the_reset_and_lives_until_then() {
    let prefix = unique("gcra-key");
    let limiter = limiter(&connect_as(&prefix).await, Algorithm::Gcra, Quota::per_minute(n(10)));

    let decision = limiter.consume_n("ada", n(4)).await.unwrap();

    let key = format!("{prefix}:ratelimit:l:{{ada}}:gcra");
    let since = decision.reset_at().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(stored(&key), Some(u64::try_from(since.as_micros()).unwrap()));
    assert!((1..=24_001).contains(&life(&key)), "{}", life(&key));
}

#[tokio::test]
async fn a_clock_that_was_set_back_blocks_for_no_longer_than_a_burst_takes() {
    let prefix = unique("gcra-clock");
    let conn = connect_as(&prefix).await;
    let limiter = limiter(&conn, Algorithm::Gcra, Quota::per(n(2), Duration::from_millis(400)));
    let key = format!("{prefix}:ratelimit:l:{{ada}}:gcra");
    // In the year 2100.
    shared().command(["SET", &key, "4102444800000000", "PX", "100000"]).unwrap();

    let seen = limiter.check("ada").await.unwrap();
    assert_eq!(seen.retry_after(), Some(Duration::from_millis(200)), "{seen:?}");
    assert_eq!(stored(&key), Some(4_102_444_800_000_000), "looking changes nothing");
    assert_eq!(limiter.count("ada").await.unwrap(), 2);

    let (passed, denied) = until_it_passes(&limiter, "ada").await;
    assert_eq!(denied[0].retry_after(), Some(Duration::from_millis(200)));
    assert!(clock(&passed) >= clock(&denied[0]) + Duration::from_millis(200));
    assert!(life(&key) <= 401, "{}", life(&key));
}

#[tokio::test]
async fn a_quota_that_changes_stays_sane() {
    let conn = connect("gcra-change").await;
    let small = Quota::per_minute(n(2));
    let limiter = limiter(&conn, Algorithm::Gcra, Quota::per_minute(n(100)));
    let _ = limiter.consume_n("ada", n(100)).await.unwrap();

    let denied = limiter.subject("ada").quota(small).consume().await.unwrap();
    assert!(!denied.is_allowed() && denied.remaining() == 0, "{denied:?}");
    assert!(denied.retry_after().unwrap() <= Duration::from_secs(30), "{denied:?}");
    assert!(denied.reset_after() <= Duration::from_secs(60), "{denied:?}");

    let greater = limiter.subject("ada").quota(Quota::per_second(n(1_000)).burst(n(100_000)));
    assert!(greater.consume().await.unwrap().is_allowed());
    assert!(greater.count().await.unwrap() > 1);
}
