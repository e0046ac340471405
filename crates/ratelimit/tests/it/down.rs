//! Servers that are away, stuck, full or read-only.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use redbrick_core_conn::{Conn, ErrorKind};
use redbrick_ratelimit::{Algorithm, Decision, Error, OnError, Quota, RateLimiter, Source};
use redbrick_testkit::{Fault, Server};

use crate::{ALGORITHMS, LONG, PATIENCE, by_redis, eventually, n, server};

/// What a decision may take here: enough for a server that is there, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How much longer than it may a decision takes on a busy machine.
const SLACK: Duration = Duration::from_secs(3);

fn with(conn: &Conn, algorithm: Algorithm) -> RateLimiter {
    let limiter = RateLimiter::builder(conn.clone(), "l", Quota::per(n(5), LONG));
    limiter.algorithm(algorithm).redis_timeout(TIMEOUT).build().unwrap()
}

/// The kind of failure for which the policy decided, and that it did so in time.
async fn outage(deciding: impl Future<Output = Result<Decision, Error>>) -> (ErrorKind, bool) {
    let begun = Instant::now();
    let decision = deciding.await.unwrap();
    let took = begun.elapsed();
    assert!(took < TIMEOUT + SLACK, "{took:?}");
    assert!(decision.is_allowed(), "{decision:?}");
    let Source::Policy(reason) = decision.source() else { panic!("{decision:?}") };
    let Error::Conn(source) = &**reason else { panic!("{reason:?}") };
    assert_eq!(reason.is_timeout(), source.is_timeout());
    (source.kind(), reason.is_outcome_unknown())
}

/// Waits until Redis decides again; looks only, so that nothing is counted.
async fn back(limiter: &RateLimiter) {
    let back = tokio::time::timeout(PATIENCE, async {
        while !by_redis(&limiter.check("nobody").await.unwrap()) {
            tokio::task::yield_now().await;
        }
    });
    back.await.expect("Redis decides again");
}

#[tokio::test]
async fn a_server_that_is_away_is_the_policys_and_decides_again_when_it_is_back() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    for algorithm in ALGORITHMS {
        let limiter = with(&conn, algorithm);
        assert!(by_redis(&limiter.consume("ada").await.unwrap()));
        server.kill().unwrap();

        let (kind, unknown) = outage(limiter.consume("ada")).await;
        // The link can break while the first is under way.
        assert!(kind == ErrorKind::Connect || (kind == ErrorKind::Interrupted && unknown));
        assert_eq!(outage(limiter.check("ada")).await.0, ErrorKind::Connect);

        server.restart().unwrap();
        back(&limiter).await;
        assert_eq!(limiter.consume("ada").await.unwrap().remaining(), 4, "it came back empty");
    }
}

#[tokio::test]
async fn a_lost_reply_is_unclear_and_consumed_once() {
    for algorithm in ALGORITHMS {
        let server = server();
        let proxy = server.proxy().unwrap();
        let conn = Conn::connect(proxy.url()).await.unwrap();
        let limiter = with(&conn, algorithm);
        back(&limiter).await;
        proxy.set(Fault::DropReplies);

        let (kind, unknown) = outage(limiter.consume("ada")).await;

        assert!(matches!(kind, ErrorKind::Timeout | ErrorKind::Interrupted), "{kind:?}");
        assert!(unknown);
        proxy.clear();
        proxy.reset();
        back(&limiter).await;
        assert_eq!(limiter.check("ada").await.unwrap().remaining(), 4, "{algorithm:?}");
    }
}

#[tokio::test]
async fn a_link_that_breaks_is_unclear_and_nothing_is_sent_again() {
    for algorithm in ALGORITHMS {
        let server = server();
        let proxy = server.proxy().unwrap();
        let conn = Conn::connect(proxy.url()).await.unwrap();
        // Time enough for another attempt, if one were made.
        let limiter = RateLimiter::builder(conn.clone(), "l", Quota::per(n(5), LONG))
            .algorithm(algorithm)
            .redis_timeout(PATIENCE)
            .on_error(OnError::Fail)
            .build()
            .unwrap();
        assert!(limiter.check("nobody").await.unwrap().is_allowed());
        proxy.set_for_open(Fault::CutAfterReplyBytes(0));

        let err = limiter.consume("ada").await.unwrap_err();

        assert!(err.is_outcome_unknown() && err.is_retryable() && !err.is_timeout(), "{err:?}");
        conn.ready().await.unwrap();
        let left = limiter.check("ada").await.unwrap().remaining();
        assert!(left >= 4, "{algorithm:?}: it was sent again, {left} are left");
    }
}

#[tokio::test]
async fn a_server_that_may_not_write_is_the_policys() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    for algorithm in ALGORITHMS {
        let limiter = with(&conn, algorithm);
        back(&limiter).await;
        server.command(["CONFIG", "SET", "min-replicas-to-write", "1"]).unwrap();
        assert_eq!(outage(limiter.consume("ada")).await.0, ErrorKind::NoReplicas);
        server.command(["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();
        back(&limiter).await;
    }
}

#[tokio::test]
async fn a_server_that_stands_still_costs_the_timeout_and_no_more() {
    for algorithm in ALGORITHMS {
        let server = server();
        let conn = Conn::connect(server.url()).await.unwrap();
        let limiter = with(&conn, algorithm);
        back(&limiter).await;
        let paused = server.pause().unwrap();

        let (kind, unknown) = outage(limiter.consume("ada")).await;

        assert!(kind == ErrorKind::Timeout && unknown, "{kind:?}");
        paused.resume();
        back(&limiter).await;
        // What was sent is run when the server goes on.
        let counts = Arc::clone(&server);
        let before = counts.command_counts().unwrap();
        assert!(before.of("evalsha") > 0);
        let left = limiter.check("ada").await.unwrap().remaining();
        assert!(left >= 4, "{algorithm:?}: {left}");
    }
}

#[tokio::test]
async fn a_full_server_looks_and_forgets_and_leaves_the_rest_to_the_policy() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    for algorithm in ALGORITHMS {
        let limiter = with(&conn, algorithm);
        let _ = limiter.consume("ada").await.unwrap();
        server.command(["CONFIG", "SET", "maxmemory", "1"]).unwrap();

        assert_eq!(outage(limiter.consume("ada")).await, (ErrorKind::OutOfMemory, false));
        let seen = limiter.check("ada").await.unwrap();
        assert!(by_redis(&seen) && seen.remaining() == 4, "{algorithm:?}: {seen:?}");
        assert_eq!(limiter.count("ada").await.unwrap(), 1);
        assert!(limiter.reset("ada").await.unwrap());

        server.command(["CONFIG", "SET", "maxmemory", "0"]).unwrap();
        assert!(by_redis(&limiter.consume("ada").await.unwrap()));
    }
}

#[tokio::test]
async fn a_read_only_server_looks_and_leaves_the_rest_to_the_policy() {
    let (server, master) = (server(), server());
    let conn = Conn::connect(server.url()).await.unwrap();
    let limiters = ALGORITHMS.map(|algorithm| with(&conn, algorithm));
    for limiter in &limiters {
        let _ = limiter.consume("ada").await.unwrap();
    }
    let port = master.port().to_string();
    server.command(["REPLICAOF", "127.0.0.1", &port]).unwrap();
    let replica = Arc::clone(&server);
    eventually("the replica is in step", move || {
        let role = replica.command(["INFO", "replication"]);
        role.is_ok_and(|info| info.as_str().unwrap_or("").contains("master_link_status:up"))
    })
    .await;
    for limiter in &limiters {
        let (kind, unknown) = outage(limiter.consume("ada")).await;
        // A server that takes no writes is dialed again, in case another one is the master by now.
        assert!(matches!(kind, ErrorKind::ReadOnly | ErrorKind::Connect), "{kind:?}");
        assert!(!unknown);
        assert!(limiter.check("ada").await.unwrap().is_allowed());
    }
    server.command(["REPLICAOF", "NO", "ONE"]).unwrap();
    let again = tokio::time::timeout(PATIENCE, async {
        while !by_redis(&limiters[0].consume("ada").await.unwrap()) {}
    });
    again.await.expect("it takes writes again");
}

#[tokio::test]
async fn a_server_that_forgot_its_scripts_is_told_again() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    for algorithm in ALGORITHMS {
        let limiter = with(&conn, algorithm);
        for remaining in [4, 3, 2] {
            server.command(["SCRIPT", "FLUSH"]).unwrap();
            let decision = limiter.consume("ada").await.unwrap();
            assert!(by_redis(&decision), "{decision:?}");
            assert_eq!(decision.remaining(), remaining, "{algorithm:?}");
        }
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_the_limiter_usable() {
    let server: Arc<Server> = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let limiter = with(&conn, Algorithm::Gcra);
    back(&limiter).await;
    let pause = Duration::from_millis(5);
    proxy.set(Fault::Latency { up: pause, down: pause });
    for _ in 0..20 {
        let dropped = tokio::time::timeout(Duration::from_millis(1), limiter.consume("ada")).await;
        assert!(dropped.is_err());
    }
    proxy.clear();
    back(&limiter).await;
    let seen = limiter.check("ada").await.unwrap();
    assert!(by_redis(&seen) && seen.limit() == 5, "{seen:?}");
    assert!(limiter.consume("bob").await.unwrap().is_allowed());
}
