//! No reply is taken for something else, whatever words of the protocol users choose.

use std::time::Duration;

use redbrick_core_conn::Conn;
use redbrick_ratelimit::{Algorithm, OnError, Quota, RateLimiter};
use redbrick_testkit::poison;

use crate::{ALGORITHMS, LONG, PATIENCE, connect, n};

type Words = Vec<&'static str>;

/// Every public call, with the words as name, subject and action.
async fn every_call(conn: &Conn, algorithm: Algorithm, words: &Words) {
    let [first, .., last] = [words[0], words[words.len() / 2], words[words.len() - 1]];
    let joined = words.join(" ");
    let limiter = RateLimiter::builder(conn.clone(), first, Quota::per(n(4), LONG))
        .algorithm(algorithm)
        .on_error(OnError::Fail)
        .redis_timeout(PATIENCE)
        .build()
        .unwrap();
    for subject in [first, last, &joined] {
        limiter.reset(subject).await.unwrap();
        assert!(limiter.check(subject).await.unwrap().is_allowed(), "{words:?}");
        assert_eq!(limiter.consume(subject).await.unwrap().remaining(), 3, "{words:?}");
        assert_eq!(limiter.consume_n(subject, n(3)).await.unwrap().remaining(), 0, "{words:?}");
        assert!(!limiter.consume(subject).await.unwrap().is_allowed(), "{words:?}");
        assert_eq!(limiter.count(subject).await.unwrap(), 4, "{words:?}");
        for action in [first, last, &joined] {
            let of = limiter.subject(subject).action(action).quota(Quota::per(n(2), LONG));
            of.reset().await.unwrap();
            assert_eq!(of.consume().await.unwrap().remaining(), 1, "{words:?}");
            assert!(of.check().await.unwrap().is_allowed(), "{words:?}");
            assert_eq!(of.count().await.unwrap(), 1, "{words:?}");
        }
    }
}

/// The words where another program put them: an error whose text is theirs must not lead a reply astray.
async fn foreign_values(conn: &Conn, algorithm: Algorithm, words: &Words) {
    let limiter = RateLimiter::builder(conn.clone(), "foreign", Quota::per(n(4), LONG))
        .algorithm(algorithm)
        .redis_timeout(PATIENCE)
        .build()
        .unwrap();
    let word = match algorithm {
        Algorithm::SlidingLog => "log",
        Algorithm::FixedWindow => "window",
        _ => "gcra",
    };
    let key = limiter.prefix().tagged(words[0]).join(word);
    let plain = conn.with_codec(redbrick_core_conn::Codec::Plain);
    plain.set(&key, words[words.len() - 1]).await.unwrap();
    limiter.consume(words[0]).await.unwrap_err();
    limiter.check(words[0]).await.unwrap_err();
    limiter.count(words[0]).await.unwrap_err();
    assert!(limiter.reset(words[0]).await.unwrap());
    if algorithm == Algorithm::SlidingLog {
        let members = conn.sorted_set(&key);
        for word in words {
            members.add(word, 1e18).await.unwrap();
        }
        let _ = limiter.consume(words[0]).await.unwrap();
        limiter.reset(words[0]).await.unwrap();
    }
}

#[tokio::test]
async fn no_word_that_users_choose_leads_a_reply_astray() {
    let conn = connect("poison").await.with_command_timeout(Duration::from_secs(30));
    for victim in 0..poison::VICTIMS {
        conn.set(format!("victim:{victim}"), &poison::answer(victim)).await.unwrap();
    }
    let read = |victim: usize| {
        let conn = conn.clone();
        async move { conn.get::<String>(format!("victim:{victim}")).await }
    };
    for algorithm in ALGORITHMS {
        let attack = async {
            for words in poison::lists() {
                every_call(&conn, algorithm, &words).await;
                foreign_values(&conn, algorithm, &words).await;
            }
        };
        poison::beside(&format!("{algorithm:?}"), attack, read).await;
    }
}
