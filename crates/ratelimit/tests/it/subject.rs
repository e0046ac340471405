//! What is said and asked of a subject.

use std::collections::BTreeSet;

use redbrick_ratelimit::{Quota, RateLimiter};
use redbrick_testkit::{shared, unique};

use crate::{ALGORITHMS, LONG, connect, connect_as, life, limiter, n, server};

#[tokio::test]
async fn looking_consumes_nothing_and_says_what_consuming_would() {
    let conn = connect("subject-look").await;
    for algorithm in ALGORITHMS {
        let limiter = limiter(&conn, algorithm, Quota::per(n(2), LONG));
        for used in 0..2 {
            for _ in 0..3 {
                let seen = limiter.check("ada").await.unwrap();
                assert!(seen.is_allowed() && seen.retry_after().is_none(), "{seen:?}");
                assert_eq!((seen.limit(), u64::from(seen.remaining())), (2, 2 - used));
                assert_eq!(seen.reset_after().is_zero(), used == 0, "{seen:?}");
                assert_eq!(limiter.count("ada").await.unwrap(), used);
            }
            assert!(limiter.consume("ada").await.unwrap().is_allowed());
        }
        let seen = limiter.check("ada").await.unwrap();
        assert!(!seen.is_allowed() && seen.retry_after().is_some(), "{seen:?}");
    }
}

#[tokio::test]
async fn looking_and_counting_write_nothing() {
    let server = server();
    let conn = redbrick_core_conn::Conn::connect(server.url()).await.unwrap();
    let keys = || server.command(["DBSIZE"]).unwrap().as_int().unwrap();
    for algorithm in ALGORITHMS {
        let limiter = limiter(&conn, algorithm, Quota::per(n(3), LONG));
        let _ = limiter.check("nobody").await.unwrap();
        limiter.count("nobody").await.unwrap();
        assert_eq!(keys(), 0, "{algorithm:?}");

        let _ = limiter.consume("ada").await.unwrap();
        let key = server.command(["RANDOMKEY"]).unwrap().as_str().unwrap().to_owned();
        // A life that no script would give it, so that giving it one would show.
        server.command(["PEXPIRE", &key, "3000000"]).unwrap();
        let dump = || server.command(["DUMP", &key]).unwrap();
        let before = dump();
        for _ in 0..3 {
            let _ = limiter.check("ada").await.unwrap();
            assert_eq!(limiter.count("ada").await.unwrap(), 1);
        }
        let left = server.command(["PTTL", &key]).unwrap().as_int().unwrap();
        assert_eq!(dump(), before, "{algorithm:?}");
        assert!((1..=3_000_000).contains(&left), "{left}");
        assert!(limiter.reset("ada").await.unwrap());
    }
}

#[tokio::test]
async fn a_reset_forgets_what_was_counted_and_says_whether_anything_was() {
    let conn = connect("subject-reset").await;
    for algorithm in ALGORITHMS {
        let limiter = limiter(&conn, algorithm, Quota::per(n(1), LONG));
        assert!(!limiter.reset("ada").await.unwrap());
        let _ = limiter.consume("ada").await.unwrap();
        let _ = limiter.consume("bob").await.unwrap();
        assert!(!limiter.consume("ada").await.unwrap().is_allowed());

        assert!(limiter.reset("ada").await.unwrap());

        assert_eq!(limiter.count("ada").await.unwrap(), 0);
        assert!(limiter.consume("ada").await.unwrap().is_allowed());
        assert!(!limiter.consume("bob").await.unwrap().is_allowed(), "others keep theirs");
        assert!(limiter.reset("ada").await.unwrap() && !limiter.reset("ada").await.unwrap());
    }
}

#[tokio::test]
async fn what_a_subject_does_is_counted_by_action() {
    let conn = connect("subject-action").await;
    for algorithm in ALGORITHMS {
        let limiter = limiter(&conn, algorithm, Quota::per(n(1), LONG));
        let (mail, call) =
            (limiter.subject("ada").action("mail"), limiter.subject("ada").action("call"));
        assert!(mail.consume().await.unwrap().is_allowed());
        assert!(!mail.consume().await.unwrap().is_allowed());

        assert!(call.consume().await.unwrap().is_allowed());
        assert!(limiter.consume("ada").await.unwrap().is_allowed());
        // Named again, it is the same one; the last word counts.
        let again = limiter.subject("ada").action("call").action("mail");
        assert_eq!(again.count().await.unwrap(), 1);
        assert!(again.reset().await.unwrap());
        assert_eq!(mail.count().await.unwrap(), 0);
        assert_eq!(call.count().await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_call_can_have_a_quota_of_its_own() {
    let conn = connect("subject-quota").await;
    for algorithm in ALGORITHMS {
        let limiter = limiter(&conn, algorithm, Quota::per(n(1), LONG));
        let paying = limiter.subject("ada").quota(Quota::per(n(5), LONG));
        assert_eq!(paying.consume_n(n(5)).await.unwrap().limit(), 5);
        assert!(!paying.consume().await.unwrap().is_allowed());
        assert_eq!(limiter.check("bob").await.unwrap().limit(), 1);
        paying.reset().await.unwrap();
    }
}

#[tokio::test]
async fn no_two_things_share_a_key() {
    let prefix = unique("subject-keys");
    let conn = connect_as(&prefix).await;
    let words = ["", "gcra", "log", "window", "a", "a:b", "{a}", "a:gcra", "%", "\0"];
    let quota = Quota::per(n(10), LONG);
    let mut things = 0;
    let all = |name: &'static str| {
        let conn = conn.clone();
        ALGORITHMS.map(move |algorithm| {
            RateLimiter::builder(conn.clone(), name, quota).algorithm(algorithm).build().unwrap()
        })
    };
    for name in ["l", "m", "l:{a}"] {
        for limiter in all(name) {
            for id in words {
                let _ = limiter.consume(id).await.unwrap();
                for action in words {
                    let _ = limiter.subject(id).action(action).consume().await.unwrap();
                }
                things += 1 + words.len();
            }
        }
    }
    for limiter in all("l") {
        for id in words {
            assert_eq!(limiter.count(id).await.unwrap(), 1, "{id:?}");
            for action in words {
                let of = limiter.subject(id).action(action);
                assert_eq!(of.count().await.unwrap(), 1, "{id:?} {action:?}");
            }
        }
    }
    let mut keys = BTreeSet::new();
    let mut scan = conn.scan(redbrick_core_conn::Prefix::new("ratelimit").all());
    while let Some(found) = scan.next().await.unwrap() {
        keys.extend(found.iter().map(|key| key.as_ref().to_vec()));
    }
    assert_eq!(keys.len(), things);
}

#[tokio::test]
async fn limiters_of_one_name_count_together() {
    let prefix = unique("subject-name");
    let (one, other) = (connect_as(&prefix).await, connect_as(&prefix).await);
    for algorithm in ALGORITHMS {
        let one = limiter(&one, algorithm, Quota::per(n(1), LONG));
        let other = limiter(&other, algorithm, Quota::per(n(1), LONG));
        assert!(one.consume("ada").await.unwrap().is_allowed());
        assert!(!other.consume("ada").await.unwrap().is_allowed());
    }
    let key = format!("{prefix}:ratelimit:l:{{ada}}:gcra");
    assert!(life(&key) > 0 && shared().command(["EXISTS", &key]).unwrap().as_int() == Some(1));
}

#[test]
fn it_shows_no_subject_and_is_made_without_a_server() {
    let conn = redbrick_core_conn::Conn::connect_lazy("redis://127.0.0.1:1").unwrap();
    let limiter = RateLimiter::new(conn, "lo:gin", Quota::per_minute(n(5))).unwrap();
    let subject = limiter.subject("secret-id").action("secret-action");

    assert!(!format!("{subject:?}").contains("secret"), "{subject:?}");
    assert_eq!(limiter.prefix().to_string(), "ratelimit:lo%3Agin");
    assert_eq!(limiter.quota(), Quota::per_minute(n(5)));
    let shown = format!("{limiter:?}");
    assert!(shown.contains("Gcra") && shown.contains("ratelimit:lo%3Agin"), "{shown}");
}
