//! Never more passes than the quota says, however many ask at the same time.

use std::{
    cmp::Reverse,
    time::{Duration, SystemTime},
};

use redbrick_ratelimit::{Algorithm, Quota};
use redbrick_testkit::unique;
use tokio::task::JoinSet;

use crate::{clock, connect_as, limiter, n};

const TASKS: usize = 8;

/// Has tasks with connections of their own ask for about a second of the server's time; returns, for each that passed, the
/// moment in microseconds since the first one and what remained, in the order in which they were counted.
async fn hammer(algorithm: Algorithm, quota: Quota) -> Vec<(u64, u32)> {
    let prefix = unique("hammer");
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let limiter = limiter(&connect_as(&prefix).await, algorithm, quota);
        tasks.spawn(async move {
            let begun = clock(&limiter.check("ada").await.unwrap());
            let mut passed = Vec::new();
            loop {
                let decision = limiter.consume("ada").await.unwrap();
                let now = clock(&decision);
                if decision.is_allowed() {
                    passed.push((now, decision.remaining()));
                }
                if now.duration_since(begun).is_ok_and(|past| past > Duration::from_secs(1)) {
                    return passed;
                }
            }
        });
    }
    let mut passed: Vec<(SystemTime, u32)> = tasks.join_all().await.into_iter().flatten().collect();
    passed.sort_by_key(|(moment, remaining)| (*moment, Reverse(*remaining)));
    let first = passed[0].0;
    let since = |moment: SystemTime| moment.duration_since(first).unwrap().as_micros();
    passed.iter().map(|(moment, left)| (u64::try_from(since(*moment)).unwrap(), *left)).collect()
}

/// That between the first and the last of any `count` in a row lies more than `least`.
fn assert_apart(passed: &[(u64, u32)], count: usize, least: u64) {
    assert!(passed.len() >= count, "only {} passed", passed.len());
    for some in passed.windows(count) {
        let apart = some[count - 1].0 - some[0].0;
        assert!(apart >= least, "{count} passed within {apart} us, not {least}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn gcra_lets_a_burst_pass_and_what_the_rate_gives() {
    let passed =
        hammer(Algorithm::Gcra, Quota::per(n(1), Duration::from_millis(5)).burst(n(20))).await;

    for more in 1..passed.len().saturating_sub(20) {
        assert_apart(&passed, 20 + more, u64::try_from(more).unwrap() * 5_000);
    }
    assert!(passed.len() > 21, "{}", passed.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_log_lets_no_more_pass_in_any_stretch_of_its_period() {
    let passed = hammer(Algorithm::SlidingLog, Quota::per(n(20), Duration::from_millis(100))).await;

    assert_apart(&passed, 21, 100_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_window_lets_no_more_pass_and_two_of_them_twice_as_many() {
    let passed =
        hammer(Algorithm::FixedWindow, Quota::per(n(20), Duration::from_millis(100))).await;

    let windows: Vec<_> = passed.chunk_by(|_, (_, remaining)| *remaining != 19).collect();
    assert!(windows.len() > 1, "{windows:?}");
    for window in &windows {
        // Each takes one, from the first to the last: nothing is counted twice, and nothing passes uncounted.
        let counted: Vec<_> = window.iter().map(|(_, remaining)| *remaining).collect();
        let expected: Vec<_> = (0..20).rev().take(window.len()).collect();
        assert_eq!(counted, expected, "{windows:?}");
    }
    for two in windows.windows(2) {
        let apart = two[1][0].0 - two[0][0].0;
        assert!(apart >= 100_000, "a window begins {apart} us after the one before");
    }
}
