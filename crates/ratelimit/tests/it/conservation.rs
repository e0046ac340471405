//! Never more passes than the quota says, however many ask at the same time.

use std::time::{Duration, SystemTime};

use redbrick_ratelimit::{Algorithm, Quota};
use redbrick_testkit::unique;
use tokio::task::JoinSet;

use crate::{clock, connect_as, limiter, n};

const TASKS: usize = 8;

/// Has tasks with connections of their own ask for about a second of the server's time; returns the moments, in order, at
/// which one passed, in microseconds since the first question.
async fn hammer(algorithm: Algorithm, quota: Quota) -> Vec<u64> {
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
                    passed.push(now);
                }
                if now.duration_since(begun).is_ok_and(|past| past > Duration::from_secs(1)) {
                    return passed;
                }
            }
        });
    }
    let mut passed: Vec<SystemTime> = tasks.join_all().await.into_iter().flatten().collect();
    passed.sort();
    let since = |moment: &SystemTime| moment.duration_since(passed[0]).unwrap();
    passed.iter().map(|moment| u64::try_from(since(moment).as_micros()).unwrap()).collect()
}

/// That between the first and the last of any `count` in a row lies more than `least`.
fn assert_apart(passed: &[u64], count: usize, least: u64) {
    assert!(passed.len() >= count, "only {} passed", passed.len());
    for some in passed.windows(count) {
        let apart = some[count - 1] - some[0];
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
    assert!(passed.len() > 50, "{}", passed.len());
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

    // A window begins when the one before has ended, so the windows are known; the server's two clocks differ by less than
    // ten milliseconds, unless it stood still within a script.
    assert_apart(&passed, 41, 90_000);
    let mut windows = Vec::<(u64, usize)>::new();
    for moment in passed {
        match windows.last_mut() {
            Some((begun, count)) if moment < *begun + 100_000 => *count += 1,
            _ => windows.push((moment, 1)),
        }
    }
    assert!(windows.len() > 5, "{windows:?}");
    assert!(windows.iter().all(|(_, count)| *count <= 20), "{windows:?}");
}
