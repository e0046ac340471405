//! What users and other programs may send.

use std::time::Duration;

use redbrick_ratelimit::{Algorithm, Error, OnError, Quota, RateLimiter};
use redbrick_testkit::{shared, unique};

use crate::{ALGORITHMS, LONG, PATIENCE, connect, connect_as, limiter, n, server};

#[tokio::test]
async fn any_bytes_are_a_name_a_subject_and_an_action() {
    let conn = connect("input-bytes").await;
    let inputs: [&[u8]; 12] = [
        b"",
        b" ",
        b"\0",
        b"a\r\nb",
        b"{}",
        b"}{",
        b"a{b}c",
        b"a/b:c",
        b"*?[a]",
        b"%",
        b"\xff\xfe",
        &[b':'; 64 << 10],
    ];
    for algorithm in ALGORITHMS {
        for input in inputs {
            let limiter = RateLimiter::builder(conn.clone(), input, Quota::per(n(2), LONG))
                .algorithm(algorithm)
                .on_error(OnError::Fail)
                .redis_timeout(PATIENCE)
                .build()
                .unwrap();
            for subject in [limiter.subject(input), limiter.subject(input).action(input)] {
                assert_eq!(subject.consume().await.unwrap().remaining(), 1);
                assert_eq!(subject.consume().await.unwrap().remaining(), 0);
                assert!(!subject.consume().await.unwrap().is_allowed());
                assert_eq!(subject.count().await.unwrap(), 2);
                assert!(subject.reset().await.unwrap());
                assert!(!subject.reset().await.unwrap(), "once is enough");
            }
        }
    }
}

#[tokio::test]
async fn what_another_program_wrote_is_an_error_that_a_reset_mends() {
    let prefix = unique("input-foreign");
    let conn = connect_as(&prefix).await;
    let numbers = ["", "-1", "1.5", "1e9", "07", " 7", "7 ", "0x10", "nan", "inf", "-0", "\u{e9}"];
    for (algorithm, word) in [
        (Algorithm::Gcra, "gcra"),
        (Algorithm::SlidingLog, "log"),
        (Algorithm::FixedWindow, "window"),
    ] {
        let limiter = limiter(&conn, algorithm, Quota::per(n(2), LONG));
        let key = format!("{prefix}:ratelimit:l:{{ada}}:{word}");
        let mut foreign =
            vec![vec!["LPUSH", &key, "1"], vec!["HSET", &key, "a", "1"], vec!["SADD", &key, "1"]];
        if algorithm == Algorithm::SlidingLog {
            foreign.push(vec!["SET", &key, "1"]);
        } else {
            foreign.push(vec!["ZADD", &key, "1", "1"]);
            foreign.extend(numbers.map(|number| vec!["SET", &key, number]));
        }
        for written in foreign {
            shared().command(&written).unwrap();
            for err in [
                limiter.consume("ada").await.unwrap_err(),
                limiter.consume_n("ada", n(2)).await.unwrap_err(),
                limiter.check("ada").await.unwrap_err(),
                limiter.count("ada").await.unwrap_err(),
            ] {
                assert!(matches!(err, Error::ForeignValue(_)), "{written:?}: {err:?}");
                assert!(!err.is_retryable() && !err.is_outcome_unknown(), "{err:?}");
                assert!(std::error::Error::source(&err).is_some(), "{err:?}");
            }
            assert!(limiter.reset("ada").await.unwrap(), "{written:?}");
            assert!(limiter.consume("ada").await.unwrap().is_allowed(), "{written:?}");
            limiter.reset("ada").await.unwrap();
        }
    }
}

#[tokio::test]
async fn numbers_of_any_size_deny_and_come_back() {
    let prefix = unique("input-sizes");
    let conn = connect_as(&prefix).await;
    let huge = "9".repeat(400);
    for number in ["9007199254740993", "18446744073709551616", &huge] {
        for (algorithm, word) in [(Algorithm::Gcra, "gcra"), (Algorithm::FixedWindow, "window")] {
            let quota = Quota::per(n(2), Duration::from_millis(50));
            let limiter = limiter(&conn, algorithm, quota);
            shared()
                .command(["SET", &format!("{prefix}:ratelimit:l:{{ada}}:{word}"), number])
                .unwrap();
            let denied = limiter.consume("ada").await.unwrap();
            assert!(!denied.is_allowed() && denied.remaining() == 0, "{number}: {denied:?}");
            assert!(limiter.count("ada").await.unwrap() <= 1 << 53, "{number}");
            let _ = crate::until_it_passes(&limiter, "ada").await;
            limiter.reset("ada").await.unwrap();
        }
    }
}

#[tokio::test]
async fn members_of_any_kind_in_a_log_count_and_leave() {
    let prefix = unique("input-members");
    let conn = connect_as(&prefix).await;
    let quota = Quota::per(n(2), Duration::from_millis(50));
    let limiter = limiter(&conn, Algorithm::SlidingLog, quota);
    let key = format!("{prefix}:ratelimit:l:{{ada}}:log");
    shared()
        .command([
            "ZADD", &key, "-inf", "a", "0.5", "b", "1e300", "c", "+inf", "d", "inf", "\0", "-7", "",
        ])
        .unwrap();
    let denied = limiter.consume("ada").await.unwrap();
    assert!(!denied.is_allowed(), "{denied:?}");
    assert!(denied.retry_after().unwrap() <= Duration::from_millis(50), "{denied:?}");
    let _ = crate::until_it_passes(&limiter, "ada").await;
}

#[tokio::test]
async fn any_timeout_is_a_timeout() {
    let server = server();
    let conn = redbrick_core_conn::Conn::connect(server.url()).await.unwrap();
    for timeout in [Duration::MAX, Duration::from_secs(u64::MAX), PATIENCE] {
        let limiter = RateLimiter::builder(conn.clone(), "l", Quota::per(n(2), LONG));
        let limiter = limiter.redis_timeout(timeout).on_error(OnError::Fail).build().unwrap();
        assert!(limiter.check("ada").await.unwrap().is_allowed(), "{timeout:?}");
    }
    // None at all is a millisecond: it passes in time or by the policy.
    let limiter = RateLimiter::builder(conn, "l", Quota::per(n(2), LONG));
    let limiter = limiter.redis_timeout(Duration::ZERO).build().unwrap();
    assert!(limiter.consume("ada").await.unwrap().is_allowed());
}

#[tokio::test]
async fn handles_and_futures_go_anywhere() {
    fn is_handle<T: Clone + Send + Sync + 'static>(_: &T) {}
    let conn = connect("input-send").await;
    let limiter = limiter(&conn, Algorithm::Gcra, Quota::per(n(9), LONG));
    is_handle(&limiter);
    let task = tokio::spawn(async move {
        let named = limiter.subject(String::from("ada")).action(vec![1, 2]);
        let decision = named.consume().await?;
        let _ = limiter.consume_n("ada", n(2)).await?;
        let _ = limiter.check("ada").await?;
        limiter.count("ada").await?;
        limiter.reset("ada").await?;
        Ok::<_, Error>(decision)
    });
    let decision = task.await.unwrap().unwrap();
    is_handle(&decision);
    assert!(decision.is_allowed());
}
