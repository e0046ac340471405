//! Each guard of each script, with several connections at once.

use redbrick_ratelimit::{Algorithm, Quota, RateLimiter};
use redbrick_testkit::{shared, unique};
use tokio::task::JoinSet;

use crate::{ALGORITHMS, LONG, connect_as, life, limiter, n, stored};

const TASKS: u32 = 8;
const CALLS: u32 = 40;

async fn limiters(prefix: &str, algorithm: Algorithm, quota: Quota) -> Vec<RateLimiter> {
    let mut all = Vec::new();
    for _ in 0..TASKS {
        all.push(limiter(&connect_as(prefix).await, algorithm, quota));
    }
    all
}

/// Each task consumes, each time as many as its number says; returns how many passed.
async fn consume(limiters: Vec<RateLimiter>, calls: u32) -> u32 {
    let mut tasks = JoinSet::new();
    for (number, limiter) in limiters.into_iter().enumerate() {
        tasks.spawn(async move {
            let cost = 1 + u32::try_from(number).unwrap() % 3;
            let mut passed = 0;
            for _ in 0..calls {
                if limiter.consume_n("ada", n(cost)).await.unwrap().is_allowed() {
                    passed += cost;
                }
            }
            passed
        });
    }
    tasks.join_all().await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn together_they_pass_exactly_as_often_as_the_quota_says() {
    for algorithm in ALGORITHMS {
        let prefix = unique("race-exact");
        let all = limiters(&prefix, algorithm, Quota::per(n(200), 200 * LONG)).await;
        let one = all[0].clone();

        let passed = consume(all, CALLS).await;

        assert_eq!(passed, 200, "{algorithm:?}");
        assert_eq!(one.count("ada").await.unwrap(), 200, "{algorithm:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_that_passed_is_counted_and_nothing_else() {
    for algorithm in ALGORITHMS {
        let prefix = unique("race-counted");
        let all = limiters(&prefix, algorithm, Quota::per(n(1_000_000), 1_000 * LONG)).await;
        let one = all[0].clone();

        let passed = consume(all, CALLS).await;

        let counted = one.count("ada").await.unwrap();
        // GCRA's give one back every 3.6 s.
        let came_back = if algorithm == Algorithm::Gcra { 10 } else { 0 };
        assert!(counted <= passed.into(), "{algorithm:?}: {counted} of {passed}");
        assert!(counted + came_back >= passed.into(), "{algorithm:?}: {counted} of {passed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_window_keeps_the_end_that_its_first_gave_it() {
    let prefix = unique("race-window");
    let all = limiters(&prefix, Algorithm::FixedWindow, Quota::per(n(1_000_000), LONG)).await;
    let key = format!("{prefix}:ratelimit:l:{{ada}}:window");
    let first = all[0].consume("ada").await.unwrap();
    // So that a life that began anew could be told from this one.
    shared().command(["PEXPIRE", &key, "1000000"]).unwrap();

    let passed = consume(all, 5).await;

    assert!(first.is_allowed());
    assert_eq!(stored(&key), Some(u64::from(passed) + 1));
    assert!((1..=1_000_000).contains(&life(&key)), "{}", life(&key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_only_looks_changes_nothing_for_those_who_consume() {
    for algorithm in ALGORITHMS {
        let prefix = unique("race-looks");
        let mut all = limiters(&prefix, algorithm, Quota::per(n(100), 100 * LONG)).await;
        let one = all[0].clone();
        let mut tasks = JoinSet::new();
        for looks in all.split_off(4) {
            tasks.spawn(async move {
                for _ in 0..CALLS {
                    let decision = looks.check("ada").await.unwrap();
                    assert_eq!(decision.is_allowed(), decision.remaining() > 0, "{decision:?}");
                    assert!(looks.count("ada").await.unwrap() <= 100);
                }
            });
        }

        let passed = consume(all, CALLS).await;

        tasks.join_all().await;
        assert_eq!(passed, 100, "{algorithm:?}");
        assert_eq!(one.count("ada").await.unwrap(), 100, "{algorithm:?}");
    }
}
