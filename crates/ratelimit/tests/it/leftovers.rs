//! Nothing is left behind.

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::Conn;
use redbrick_ratelimit::Quota;

use crate::{ALGORITHMS, LONG, eventually, limiter, n, server};

#[tokio::test]
async fn everything_expires_when_nothing_counts_any_more() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    for algorithm in ALGORITHMS {
        let limiter = limiter(&conn, algorithm, Quota::per(n(3), Duration::from_millis(200)));
        for subject in ["ada", "bob"] {
            for _ in 0..5 {
                let _ = limiter.consume(subject).await.unwrap();
                let _ = limiter.subject(subject).action("mail").consume_n(n(2)).await.unwrap();
                let _ = limiter.check(subject).await.unwrap();
            }
        }
    }
    let counted = Arc::clone(&server);
    eventually("every key expires", move || {
        counted.command(["DBSIZE"]).is_ok_and(|keys| keys.as_int() == Some(0))
    })
    .await;
}

#[tokio::test]
async fn every_key_has_a_life_and_a_reset_removes_it() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let keys = || server.command(["DBSIZE"]).unwrap().as_int().unwrap();
    for algorithm in ALGORITHMS {
        let limiter = limiter(&conn, algorithm, Quota::per(n(3), LONG));
        let subject = limiter.subject("ada").action("mail");
        for _ in 0..4 {
            let _ = subject.consume().await.unwrap();
            let key = server.command(["RANDOMKEY"]).unwrap();
            let left = server.command(["PTTL", key.as_str().unwrap()]).unwrap().as_int().unwrap();
            assert!((1..=3_600_001).contains(&left), "{algorithm:?}: {left}");
        }
        assert_eq!(keys(), 1, "{algorithm:?}");
        assert!(subject.reset().await.unwrap());
        assert_eq!(keys(), 0, "{algorithm:?}");
    }
}
