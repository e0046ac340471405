//! The fixed window.

use std::time::Duration;

use redbrick_ratelimit::{Algorithm, Quota, RateLimiter};
use redbrick_testkit::{shared, unique};

use crate::{LONG, clock, connect, connect_as, life, limiter, n, stored, until_it_passes};

const MILLISECOND: Duration = Duration::from_millis(1);

async fn of(prefix: &str, quota: Quota) -> (RateLimiter, String) {
    let limiter = limiter(&connect_as(prefix).await, Algorithm::FixedWindow, quota);
    (limiter, format!("{prefix}:ratelimit:l:{{ada}}:window"))
}

#[tokio::test]
async fn as_many_pass_as_the_quota_says_and_what_is_denied_counts_for_nothing() {
    let (limiter, key) = of(&unique("window-passes"), Quota::per(n(3), LONG)).await;

    for remaining in [2, 1, 0] {
        let decision = limiter.consume("ada").await.unwrap();
        assert!(decision.is_allowed() && decision.retry_after().is_none(), "{decision:?}");
        assert_eq!((decision.limit(), decision.remaining()), (3, remaining));
    }
    for _ in 0..20 {
        let decision = limiter.consume("ada").await.unwrap();
        assert!(!decision.is_allowed() && decision.remaining() == 0, "{decision:?}");
        let wait = decision.retry_after().unwrap();
        assert!(wait <= LONG + MILLISECOND && wait > LONG - Duration::from_secs(60), "{wait:?}");
        assert_eq!(decision.reset_after(), wait);
    }
    assert_eq!((limiter.count("ada").await.unwrap(), stored(&key)), (3, Some(3)));
    assert!((1..=3_600_000).contains(&life(&key)), "{}", life(&key));
}

#[tokio::test]
async fn several_pass_together_or_not_at_all() {
    let (limiter, key) = of(&unique("window-several"), Quota::per(n(5), LONG)).await;
    assert_eq!(limiter.consume_n("ada", n(3)).await.unwrap().remaining(), 2);

    let denied = limiter.consume_n("ada", n(3)).await.unwrap();

    assert!(!denied.is_allowed() && denied.remaining() == 2, "{denied:?}");
    assert_eq!(stored(&key), Some(3));
    assert!(limiter.consume_n("ada", n(2)).await.unwrap().is_allowed());
}

#[tokio::test]
async fn a_window_begins_with_its_first_and_ends_when_it_was_said() {
    let period = Duration::from_millis(300);
    let conn = connect("window-ends").await;
    let limiter = limiter(&conn, Algorithm::FixedWindow, Quota::per(n(2), period));
    let first = limiter.consume("ada").await.unwrap();
    let _ = limiter.consume("ada").await.unwrap();
    assert_eq!(first.reset_after(), period + MILLISECOND);

    let (next, denied) = until_it_passes(&limiter, "ada").await;

    assert!(clock(&next) > clock(&first) + period, "{next:?}");
    assert_eq!(next.remaining(), 1, "the new window has a count of its own");
    for one in denied {
        // The server counts in milliseconds, and reads its clock for the life of a key a moment before the script does.
        let promised = clock(&one) + one.retry_after().unwrap();
        assert!(promised <= clock(&first) + period + 50 * MILLISECOND, "{one:?} after {first:?}");
        assert!(clock(&next) + 50 * MILLISECOND >= promised, "{one:?} before {next:?}");
    }
}

#[tokio::test]
async fn a_period_is_rounded_up_to_whole_milliseconds() {
    let conn = connect("window-rounded").await;
    for (micros, millis) in [(1, 1), (1_000, 1), (1_001, 2), (61_999_999, 62_000)] {
        let quota = Quota::per(n(1), Duration::from_micros(micros));
        let limiter = limiter(&conn, Algorithm::FixedWindow, quota);
        let first = limiter.consume(micros.to_string()).await.unwrap();
        assert_eq!(first.reset_after(), (millis + 1) * MILLISECOND, "{micros} us");
    }
}

#[tokio::test]
async fn a_count_without_an_end_or_with_one_too_far_away_gets_its_own() {
    let period = Duration::from_millis(200);
    let (limiter, key) = of(&unique("window-heals"), Quota::per(n(2), period)).await;
    for set in [vec!["SET", &key, "7"], vec!["SET", &key, "7", "PX", "100000000"]] {
        shared().command(&set).unwrap();
        let before = life(&key);

        let seen = limiter.check("ada").await.unwrap();
        assert_eq!(seen.retry_after(), Some(period + MILLISECOND), "{seen:?}");
        assert!(
            life(&key) <= before && (before < 0 || life(&key) > 1_000),
            "looking heals nothing"
        );

        let denied = limiter.consume("ada").await.unwrap();
        assert_eq!(denied.retry_after(), Some(period + MILLISECOND), "{denied:?}");
        assert!((0..=200).contains(&life(&key)) || life(&key) == -2, "{}", life(&key));
        let _ = until_it_passes(&limiter, "ada").await;
        limiter.reset("ada").await.unwrap();
    }
}

#[tokio::test]
async fn a_quota_that_changes_stays_sane() {
    let (limiter, key) = of(&unique("window-change"), Quota::per(n(100), LONG)).await;
    let _ = limiter.consume_n("ada", n(100)).await.unwrap();

    let smaller = limiter.subject("ada").quota(Quota::per(n(2), LONG));
    let denied = smaller.consume_n(n(2)).await.unwrap();
    assert!(!denied.is_allowed() && denied.remaining() == 0, "{denied:?}");
    assert_eq!(smaller.count().await.unwrap(), 100);

    let greater = limiter.subject("ada").quota(Quota::per(n(101), 2 * LONG));
    assert_eq!(greater.consume().await.unwrap().remaining(), 0);
    assert!(life(&key) <= 3_600_000, "a window keeps the end that it began with");
}
