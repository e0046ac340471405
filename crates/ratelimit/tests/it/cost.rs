//! What each call costs.

use redbrick_core_conn::Conn;
use redbrick_ratelimit::{Algorithm, Quota, RateLimiter};

use crate::{ALGORITHMS, LONG, limiter, n, server};

/// A limiter whose script its server knows.
async fn known(server: &redbrick_testkit::Server, algorithm: Algorithm) -> RateLimiter {
    let conn = Conn::connect(server.url()).await.unwrap();
    let limiter = limiter(&conn, algorithm, Quota::per(n(2), LONG));
    let _ = limiter.check("first").await.unwrap();
    limiter
}

macro_rules! assert_cost {
    ($server:expr, $call:expr, $expected:expr) => {{
        let cost = $server
            .cost(async {
                let _ = $call.await.unwrap();
            })
            .await
            .unwrap();
        assert_eq!(cost, $expected, "{}", stringify!($call));
    }};
}

#[tokio::test]
async fn gcra_reads_the_clock_and_one_key_and_writes_it_when_one_passes() {
    let server = server();
    let limiter = known(&server, Algorithm::Gcra).await;
    let looked = "evalsha 1, get 1, time 1";
    assert_cost!(server, limiter.check("ada"), looked);
    assert_cost!(server, limiter.count("ada"), looked);
    assert_cost!(server, limiter.consume_n("ada", n(2)), "evalsha 1, get 1, set 1, time 1");
    assert_cost!(server, limiter.consume("ada"), looked);
    assert_cost!(server, limiter.reset("ada"), "unlink 1");
}

#[tokio::test]
async fn the_log_counts_adds_and_forgets() {
    let server = server();
    let limiter = known(&server, Algorithm::SlidingLog).await;
    let nothing = "evalsha 1, time 1, zcount 1";
    assert_cost!(server, limiter.check("ada"), nothing);
    assert_cost!(server, limiter.count("ada"), nothing);
    let first = "evalsha 1, pexpireat 1, time 1, zadd 1, zcount 1, zremrangebyscore 1";
    assert_cost!(server, limiter.consume("ada"), first);
    let looked = "evalsha 1, time 1, zcount 1, zrevrangebyscore 1";
    assert_cost!(server, limiter.check("ada"), looked);
    let passed = format!("{first}, zrevrangebyscore 1");
    assert_cost!(server, limiter.consume("ada"), passed);
    let denied = "evalsha 1, time 1, zcount 1, zrangebyscore 1, zrevrangebyscore 1";
    assert_cost!(server, limiter.consume("ada"), denied);
    assert_cost!(server, limiter.reset("ada"), "unlink 1");
}

#[tokio::test]
async fn a_window_is_a_count_with_an_end() {
    let server = server();
    let limiter = known(&server, Algorithm::FixedWindow).await;
    assert_cost!(server, limiter.check("ada"), "evalsha 1, get 1, time 1");
    assert_cost!(server, limiter.consume("ada"), "evalsha 1, get 1, set 1, time 1");
    let passed = "evalsha 1, get 1, incrby 1, pttl 1, time 1";
    assert_cost!(server, limiter.consume("ada"), passed);
    assert_cost!(server, limiter.consume("ada"), "evalsha 1, get 1, pttl 1, time 1");
    assert_cost!(server, limiter.count("ada"), "evalsha 1, get 1, pttl 1, time 1");
    assert_cost!(server, limiter.reset("ada"), "unlink 1");
}

#[tokio::test]
async fn what_can_never_pass_and_making_a_limiter_send_nothing() {
    let server = server();
    for algorithm in ALGORITHMS {
        let made = known(&server, algorithm).await;
        let nothing = async {
            made.consume_n("ada", n(3)).await.unwrap_err();
            drop(made.subject("ada").action("mail"));
        };
        assert_eq!(server.cost(nothing).await.unwrap(), "", "{algorithm:?}");
    }
}
