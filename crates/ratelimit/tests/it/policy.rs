//! Who decides while Redis is away.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use redbrick_core_conn::{Config, Conn, ErrorKind};
use redbrick_ratelimit::{Decision, Error, OnError, Quota, RateLimiter, Source};
use redbrick_testkit::Server;

use crate::{LONG, n, server};

const POLICIES: &[OnError] = &[OnError::Allow, OnError::Deny, OnError::Fail, OnError::Local];

/// A connection to a server that was there and is not any more.
async fn abandoned() -> (Arc<Server>, Conn) {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let mut changes = conn.state_changes();
    server.kill().unwrap();
    // What is asked before the loss is noticed may have been sent.
    let lost = tokio::time::timeout(crate::PATIENCE, async {
        while conn.is_connected() {
            changes.next().await.unwrap();
        }
    });
    lost.await.expect("the loss is noticed");
    (server, conn)
}

fn with(conn: &Conn, on_error: OnError) -> RateLimiter {
    let limiter = RateLimiter::builder(conn.clone(), "l", Quota::per(n(3), LONG));
    limiter.on_error(on_error).redis_timeout(Duration::from_millis(20)).build().unwrap()
}

/// Why the policy decided.
fn reason(decision: &Decision) -> &Error {
    let Source::Policy(reason) = decision.source() else { panic!("{decision:?}") };
    reason
}

#[tokio::test]
async fn everything_passes_unless_something_else_is_said_and_the_reason_is_told() {
    let (_server, conn) = abandoned().await;
    let unsaid = RateLimiter::new(conn.clone(), "l", Quota::per(n(3), LONG)).unwrap();
    let begun = Instant::now();
    assert!(unsaid.consume("ada").await.unwrap().is_allowed());
    // 100 ms unless something else is said, and 3 s of slack; a command of the connection may take 5 s.
    assert!(begun.elapsed() < Duration::from_millis(3_100), "{:?}", begun.elapsed());
    for limiter in [unsaid, with(&conn, OnError::Allow)] {
        for _ in 0..5 {
            let decision = limiter.consume_n("ada", n(2)).await.unwrap();
            assert!(decision.is_allowed() && decision.retry_after().is_none(), "{decision:?}");
            assert_eq!((decision.limit(), decision.remaining()), (3, 1));
            assert!(decision.reset_after().is_zero(), "{decision:?}");
            assert!(reason(&decision).is_retryable(), "{decision:?}");
            assert!(!reason(&decision).is_outcome_unknown(), "nothing was sent: {decision:?}");
        }
        assert_eq!(limiter.check("ada").await.unwrap().remaining(), 3);
    }
}

#[tokio::test]
async fn nothing_passes_when_that_is_the_policy() {
    let (_server, conn) = abandoned().await;
    let limiter = with(&conn, OnError::Deny);
    for decision in [limiter.consume("ada").await.unwrap(), limiter.check("ada").await.unwrap()] {
        assert!(!decision.is_allowed() && decision.remaining() == 0, "{decision:?}");
        assert_eq!(decision.retry_after_seconds(), Some(1));
        assert!(matches!(reason(&decision), Error::Conn(_)), "{decision:?}");
    }
}

#[tokio::test]
async fn a_call_fails_when_that_is_the_policy() {
    let (_server, conn) = abandoned().await;
    let limiter = with(&conn, OnError::Fail);
    for err in [limiter.consume("ada").await.unwrap_err(), limiter.check("ada").await.unwrap_err()]
    {
        let Error::Conn(source) = &err else { panic!("{err:?}") };
        assert_eq!(source.kind(), ErrorKind::Connect, "{err:?}");
        assert!(err.is_retryable() && !err.is_outcome_unknown(), "{err:?}");
        assert!(!err.to_string().contains(&source.to_string()), "{err}");
    }
}

#[tokio::test]
async fn what_is_counted_and_forgotten_is_asked_of_redis_alone() {
    let (_server, conn) = abandoned().await;
    let conn = conn.with_command_timeout(Duration::from_millis(20));
    for &policy in POLICIES {
        let limiter = with(&conn, policy);
        assert!(limiter.count("ada").await.unwrap_err().is_retryable(), "{policy:?}");
        assert!(limiter.reset("ada").await.unwrap_err().is_retryable(), "{policy:?}");
    }
}

#[tokio::test]
async fn this_process_limits_by_itself_when_that_is_the_policy() {
    let (_server, conn) = abandoned().await;
    let limiter = with(&conn, OnError::Local);
    assert_eq!(limiter.check("ada").await.unwrap().remaining(), 3);
    for remaining in [2, 1, 0] {
        let decision = limiter.consume("ada").await.unwrap();
        assert!(decision.is_allowed() && decision.remaining() == remaining, "{decision:?}");
        assert!(reason(&decision).is_retryable(), "{decision:?}");
    }
    for denied in [limiter.consume("ada").await.unwrap(), limiter.check("ada").await.unwrap()] {
        assert!(!denied.is_allowed() && denied.remaining() == 0, "{denied:?}");
        // One comes back in twenty minutes.
        let wait = denied.retry_after().unwrap();
        assert!(wait <= LONG / 3 && wait > LONG / 4, "{wait:?}");
    }
    // Each subject, each action and each clone.
    assert!(limiter.consume_n("bob", n(3)).await.unwrap().is_allowed());
    assert!(limiter.subject("ada").action("mail").consume().await.unwrap().is_allowed());
    assert!(!limiter.clone().consume("ada").await.unwrap().is_allowed());
    // With the quota of the call.
    let paying = limiter.subject("eve").quota(Quota::per(n(5), LONG));
    assert!(paying.consume_n(n(5)).await.unwrap().is_allowed());
    assert!(!paying.consume().await.unwrap().is_allowed());
    assert!(matches!(limiter.consume_n("ada", n(4)).await, Err(Error::ExceedsQuota { .. })));
}

#[tokio::test]
async fn this_process_limits_by_rate_whatever_the_algorithm() {
    let (_server, conn) = abandoned().await;
    for algorithm in crate::ALGORITHMS {
        let limiter = RateLimiter::builder(conn.clone(), "l", Quota::per(n(2), LONG))
            .algorithm(algorithm)
            .on_error(OnError::Local)
            .redis_timeout(Duration::from_millis(20))
            .local_subjects(std::num::NonZeroUsize::MIN)
            .build()
            .unwrap();
        assert!(limiter.consume_n("ada", n(2)).await.unwrap().is_allowed());
        assert!(!limiter.consume("ada").await.unwrap().is_allowed());
        // There is room for one, and the others share a quota.
        assert!(limiter.consume_n("bob", n(2)).await.unwrap().is_allowed());
        assert!(!limiter.consume("eve").await.unwrap().is_allowed());
    }
}

#[tokio::test]
async fn what_only_a_change_mends_is_no_outage() {
    let server = Server::builder().password("right").start().unwrap();
    let config = Config::builder().host("127.0.0.1").port(server.port()).password("wrong");
    let conn = Conn::connect_lazy(config).unwrap();
    for &policy in POLICIES {
        let limiter = RateLimiter::builder(conn.clone(), "l", Quota::per(n(3), LONG));
        let limiter = limiter.on_error(policy).redis_timeout(crate::PATIENCE).build().unwrap();
        let err = limiter.consume("ada").await.unwrap_err();
        let Error::Conn(source) = &err else { panic!("{err:?}") };
        assert_eq!(source.kind(), ErrorKind::Auth, "{policy:?}: {err:?}");
    }
    conn.close(Duration::ZERO).await;
    let limiter = with(&conn, OnError::Allow);
    let err = limiter.consume("ada").await.unwrap_err();
    assert!(matches!(&err, Error::Conn(source) if source.kind() == ErrorKind::Closed), "{err:?}");
}

#[tokio::test]
async fn a_development_machine_without_a_server_follows_the_policy_at_once() {
    let config = Config::builder().url("redis://127.0.0.1:1").optional(true);
    let conn = Conn::connect(config).await.unwrap();
    let limiter = |policy| {
        let limiter = RateLimiter::builder(conn.clone(), "l", Quota::per(n(1), LONG));
        limiter.on_error(policy).redis_timeout(crate::PATIENCE).build().unwrap()
    };
    let decisions = tokio::time::timeout(crate::PATIENCE / 2, async {
        for _ in 0..3 {
            let decision = limiter(OnError::Allow).consume("ada").await.unwrap();
            assert!(decision.is_allowed() && reason(&decision).is_retryable(), "{decision:?}");
        }
        assert!(!limiter(OnError::Deny).consume("ada").await.unwrap().is_allowed());
        assert!(limiter(OnError::Fail).consume("ada").await.unwrap_err().is_retryable());
        assert_eq!(limiter(OnError::Fail).count("ada").await.unwrap(), 0);
        assert!(!limiter(OnError::Fail).reset("ada").await.unwrap());
    });
    decisions.await.expect("it is known that nobody is there");
}
