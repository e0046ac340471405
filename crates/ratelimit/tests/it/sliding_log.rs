//! The sliding log.

use std::time::{Duration, SystemTime};

use redbrick_ratelimit::{Algorithm, Decision, Quota, RateLimiter};
use redbrick_testkit::{shared, unique};

use crate::{LONG, clock, connect, connect_as, life, limiter, n, until_it_passes};

const HALF_A_SECOND: Duration = Duration::from_millis(500);

async fn entries(prefix: &str) -> (String, impl Fn() -> i64) {
    let key = format!("{prefix}:ratelimit:l:{{ada}}:log");
    let counted = key.clone();
    (key, move || shared().command(["ZCARD", &counted]).unwrap().as_int().unwrap())
}

async fn of(prefix: &str, quota: Quota) -> RateLimiter {
    limiter(&connect_as(prefix).await, Algorithm::SlidingLog, quota)
}

#[tokio::test]
async fn as_many_pass_as_the_quota_says_and_what_is_denied_counts_for_nothing() {
    let prefix = unique("log-passes");
    let limiter = of(&prefix, Quota::per(n(3), LONG)).await;
    let (key, entries) = entries(&prefix).await;

    for remaining in [2, 1, 0] {
        let decision = limiter.consume("ada").await.unwrap();
        assert!(decision.is_allowed() && decision.retry_after().is_none(), "{decision:?}");
        assert_eq!((decision.limit(), decision.remaining()), (3, remaining));
        assert_eq!(decision.reset_after(), LONG);
    }
    for _ in 0..20 {
        let decision = limiter.consume("ada").await.unwrap();
        assert!(!decision.is_allowed() && decision.remaining() == 0, "{decision:?}");
        let wait = decision.retry_after().unwrap();
        assert!(wait < LONG && wait > LONG - Duration::from_secs(60), "{wait:?}");
        assert!(decision.reset_after() >= wait && decision.reset_after() < LONG, "{decision:?}");
    }
    assert_eq!((limiter.count("ada").await.unwrap(), entries()), (3, 3));
    assert!((1..=3_600_001).contains(&life(&key)), "{}", life(&key));
}

#[tokio::test]
async fn one_passes_when_the_oldest_has_left_and_several_when_as_many_have() {
    let conn = connect("log-leaves").await;
    let limiter = limiter(&conn, Algorithm::SlidingLog, Quota::per(n(3), HALF_A_SECOND));
    let mut passed = Vec::new();
    for _ in 0..3 {
        passed.push(clock(&limiter.consume("ada").await.unwrap()));
    }

    let two = limiter.consume_n("ada", n(2)).await.unwrap();
    let one = limiter.check("ada").await.unwrap();
    for (denied, last) in [(&two, passed[1]), (&one, passed[0])] {
        assert_eq!(clock(denied) + denied.retry_after().unwrap(), last + HALF_A_SECOND);
        assert_eq!(denied.reset_at(), passed[2] + HALF_A_SECOND);
    }

    let (next, denied) = until_it_passes(&limiter, "ada").await;
    assert!(clock(&next) >= passed[0] + HALF_A_SECOND, "{next:?}");
    assert!(denied.iter().all(|one| clock(one) < passed[0] + HALF_A_SECOND), "{denied:?}");
}

#[tokio::test]
async fn many_at_once_are_as_many_entries() {
    let prefix = unique("log-many");
    let limiter = of(&prefix, Quota::per(n(10_000), LONG)).await;
    let (_, entries) = entries(&prefix).await;

    assert_eq!(limiter.consume_n("ada", n(4_500)).await.unwrap().remaining(), 5_500);
    assert_eq!(limiter.consume_n("ada", n(5_500)).await.unwrap().remaining(), 0);

    assert_eq!(entries(), 10_000);
    assert!(!limiter.consume("ada").await.unwrap().is_allowed());
}

#[tokio::test]
async fn an_entry_counts_through_its_last_microsecond_and_no_longer() {
    const PERIOD: u64 = 10_000_000;
    const DENSE: u64 = 20_000;
    let prefix = unique("log-edge");
    let limiter = of(&prefix, Quota::per(n(1_000_000), Duration::from_micros(PERIOD))).await;
    let (key, _) = entries(&prefix).await;
    let now = |decision: &Decision| {
        let since = clock(decision).duration_since(SystemTime::UNIX_EPOCH).unwrap();
        u64::try_from(since.as_micros()).unwrap()
    };
    let looks = tokio::time::timeout(crate::PATIENCE, async {
        let (mut seen, mut lead) = (0, 100_000);
        while seen == 0 {
            // An entry for each microsecond, so that there is one at the edge of the window whenever it is looked at.
            let first = now(&limiter.check("ada").await.unwrap()) - PERIOD + lead;
            let scores = (first..first + DENSE).map(|score| score.to_string());
            let mut command = vec!["ZADD".to_owned(), key.clone()];
            command.extend(scores.flat_map(|score| [score.clone(), score]));
            shared().command(&command).unwrap();
            loop {
                let decision = limiter.check("ada").await.unwrap();
                let edge = now(&decision) - PERIOD;
                if edge >= first + DENSE {
                    break;
                }
                let counted = first + DENSE - 1 - edge.max(first - 1);
                assert_eq!(u64::from(1_000_000 - decision.remaining()), counted);
                seen += usize::from(edge >= first);
            }
            shared().command(["DEL", &key]).unwrap();
            // Writing them may have taken too long.
            lead *= 2;
        }
    });
    looks.await.expect("it is looked at in time");
}

#[tokio::test]
async fn what_has_left_is_removed() {
    let prefix = unique("log-removed");
    let limiter = of(&prefix, Quota::per(n(1_000), Duration::from_millis(50))).await;
    let (key, entries) = entries(&prefix).await;
    let _ = limiter.consume_n("ada", n(500)).await.unwrap();
    // It does not expire by itself, so that only the script can remove it.
    shared().command(["PERSIST", &key]).unwrap();

    let left = tokio::time::timeout(crate::PATIENCE, async {
        while limiter.count("ada").await.unwrap() > 0 {}
    });
    left.await.expect("it leaves the window");

    assert_eq!(entries(), 500, "looking removes nothing");
    assert_eq!(limiter.consume("ada").await.unwrap().remaining(), 999);
    assert_eq!(entries(), 1);
    assert!(life(&key) <= 51, "{}", life(&key));
}

#[tokio::test]
async fn a_clock_that_was_set_back_blocks_for_no_longer_than_the_period() {
    let prefix = unique("log-clock");
    let limiter = of(&prefix, Quota::per(n(2), Duration::from_millis(200))).await;
    let (key, _) = entries(&prefix).await;
    // In the year 2100, and never.
    shared().command(["ZADD", &key, "4102444800000000", "a", "+inf", "b"]).unwrap();

    let seen = limiter.check("ada").await.unwrap();
    assert_eq!(seen.retry_after(), Some(Duration::from_millis(200)), "{seen:?}");
    assert_eq!(seen.reset_after(), Duration::from_millis(200), "{seen:?}");
    let score = shared().command(["ZSCORE", &key, "b"]).unwrap();
    assert_eq!(score.as_str(), Some("inf"), "looking changes nothing");

    let (passed, denied) = until_it_passes(&limiter, "ada").await;
    assert_eq!(denied[0].retry_after(), Some(Duration::from_millis(200)));
    assert_eq!(clock(&passed).max(clock(&denied[0]) + Duration::from_millis(200)), clock(&passed));
}

#[tokio::test]
async fn a_quota_that_changes_stays_sane() {
    let conn = connect("log-change").await;
    let limiter = limiter(&conn, Algorithm::SlidingLog, Quota::per(n(100), LONG));
    let _ = limiter.consume_n("ada", n(100)).await.unwrap();

    let smaller = limiter.subject("ada").quota(Quota::per(n(2), LONG));
    let denied = smaller.consume_n(n(2)).await.unwrap();
    assert!(!denied.is_allowed() && denied.remaining() == 0, "{denied:?}");
    assert!(denied.retry_after().unwrap() <= LONG, "{denied:?}");
    assert_eq!(smaller.count().await.unwrap(), 100);

    let greater = limiter.subject("ada").quota(Quota::per(n(101), LONG));
    assert_eq!(greater.consume().await.unwrap().remaining(), 0);
}
