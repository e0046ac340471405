//! Which quotas can be kept.

use std::time::Duration;

use redbrick_core_conn::Conn;
use redbrick_ratelimit::{Algorithm, Error, Quota, RateLimiter};

use crate::{ALGORITHMS, LONG, connect, limiter, n};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn made(algorithm: Algorithm, quota: Quota) -> Result<RateLimiter, Error> {
    let conn = Conn::connect_lazy("redis://127.0.0.1:1").unwrap();
    RateLimiter::builder(conn, "l", quota).algorithm(algorithm).build()
}

#[test]
fn one_that_cannot_be_kept_is_refused_before_anything_is_sent() {
    let (most, one) = (u32::MAX, Duration::from_nanos(1));
    let fine =
        [Quota::per(n(1), Duration::ZERO), Quota::per(n(1), one), Quota::per_second(n(most))];
    let long = [Quota::per(n(1), Duration::MAX), Quota::per(n(1), 100 * YEAR + one)];
    for algorithm in ALGORITHMS {
        for quota in fine {
            let err = made(algorithm, quota).unwrap_err();
            assert!(matches!(err, Error::QuotaTooFine), "{quota:?}: {err:?}");
        }
        for quota in long {
            let err = made(algorithm, quota).unwrap_err();
            assert!(matches!(err, Error::QuotaTooLong), "{quota:?}: {err:?}");
        }
    }
    let deep = Quota::per(n(1), YEAR).burst(n(101));
    assert!(matches!(made(Algorithm::Gcra, deep).unwrap_err(), Error::QuotaTooLong));
    assert!(matches!(
        RateLimiter::new(
            Conn::connect_lazy("redis://127.0.0.1:1").unwrap(),
            "l",
            Quota::per(n(1), Duration::ZERO),
        ),
        Err(Error::QuotaTooFine)
    ));
    for algorithm in [Algorithm::SlidingLog, Algorithm::FixedWindow] {
        let err = made(algorithm, Quota::per_second(n(1)).burst(n(2))).unwrap_err();
        assert!(matches!(err, Error::BurstWithoutGcra), "{err:?}");
        assert!(!err.is_retryable() && !err.is_timeout() && !err.is_outcome_unknown());
    }
}

#[tokio::test]
async fn the_finest_and_the_longest_work() {
    let conn = connect("quota-extremes").await;
    let quotas = [
        Quota::per(n(1_000_000), Duration::from_secs(1)),
        Quota::per(n(u32::MAX), Duration::from_micros(u32::MAX.into())),
        Quota::per(n(1), Duration::from_micros(1)),
        Quota::per(n(1), 100 * YEAR),
        Quota::per(n(3), 100 * YEAR),
        Quota::per(n(u32::MAX), 100 * YEAR),
    ];
    for algorithm in ALGORITHMS {
        for (at, quota) in quotas.into_iter().enumerate() {
            let limiter = limiter(&conn, algorithm, quota);
            let subject = format!("s{at}");
            let decision = limiter.consume(&subject).await.unwrap();
            assert!(decision.is_allowed(), "{algorithm:?} {quota:?}: {decision:?}");
            assert_eq!(decision.remaining(), quota.amount().get() - 1, "{algorithm:?} {quota:?}");
            // Of the fine ones it is back by now.
            if quota.period() > 100 * LONG {
                assert_eq!(limiter.count(&subject).await.unwrap(), 1, "{algorithm:?} {quota:?}");
            }
        }
    }
    // All of the deepest at once: nothing is lost in the arithmetic.
    let limiter = limiter(&conn, Algorithm::Gcra, Quota::per(n(u32::MAX), 100 * YEAR));
    let all = limiter.consume_n("all", n(u32::MAX)).await.unwrap();
    assert!(all.is_allowed() && all.remaining() == 0, "{all:?}");
    assert!(all.reset_after() >= 100 * YEAR, "{all:?}");
    assert!(!limiter.consume("all").await.unwrap().is_allowed());
}

#[tokio::test]
async fn more_than_can_ever_pass_is_an_error_and_consumes_nothing() {
    let conn = connect("quota-exceeds").await;
    for algorithm in ALGORITHMS {
        let limiter = limiter(&conn, algorithm, Quota::per(n(3), LONG));
        for asked in [4, u32::MAX] {
            let err = limiter.consume_n("ada", n(asked)).await.unwrap_err();
            let Error::ExceedsQuota { asked: said, limit } = err else { panic!("{err:?}") };
            assert_eq!((said, limit), (n(asked), n(3)));
            assert!(!err.is_retryable());
        }
        assert_eq!(limiter.count("ada").await.unwrap(), 0);
        assert!(limiter.consume_n("ada", n(3)).await.unwrap().is_allowed());
    }
}

#[tokio::test]
async fn a_log_is_not_written_so_long_at_once_that_it_holds_up_the_server() {
    let conn = connect("quota-log").await;
    let limiter = limiter(&conn, Algorithm::SlidingLog, Quota::per(n(1_000_000), LONG));
    let err = limiter.consume_n("ada", n(10_001)).await.unwrap_err();
    let Error::ExceedsQuota { asked, limit } = err else { panic!("{err:?}") };
    assert_eq!((asked, limit), (n(10_001), n(10_000)));
    assert!(limiter.consume_n("ada", n(10_000)).await.unwrap().is_allowed());
    assert!(limiter.consume_n("ada", n(10_000)).await.unwrap().is_allowed());
}

#[tokio::test]
async fn a_quota_of_a_call_is_checked_too() {
    let conn = connect("quota-call").await;
    let limiter = limiter(&conn, Algorithm::SlidingLog, Quota::per(n(3), LONG));
    let subject = limiter.subject("ada").quota(Quota::per(n(1), Duration::ZERO));
    assert!(matches!(subject.consume().await.unwrap_err(), Error::QuotaTooFine));
    assert!(matches!(subject.check().await.unwrap_err(), Error::QuotaTooFine));
    assert!(matches!(subject.count().await.unwrap_err(), Error::QuotaTooFine));
    assert!(matches!(subject.reset().await.unwrap_err(), Error::QuotaTooFine));
    let deep = limiter.subject("ada").quota(Quota::per(n(1), LONG).burst(n(2)));
    assert!(matches!(deep.consume().await.unwrap_err(), Error::BurstWithoutGcra));
}
