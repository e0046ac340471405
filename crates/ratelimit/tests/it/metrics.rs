//! What recorders are told.

use redbrick_ratelimit::{Algorithm, Quota};
use redbrick_testkit::Metrics;

use crate::{LONG, connect, limiter, n};

#[tokio::test]
async fn a_recorder_sees_what_was_allowed_and_denied_and_not_to_whom() {
    let metrics = Metrics::new();
    let _listening = metrics.listen();
    let quota = Quota::per(n(2), LONG);
    let limiter = limiter(&connect("metrics").await, Algorithm::FixedWindow, quota);
    for _ in 0..5 {
        let _ = limiter.consume("hunter2").await.unwrap();
        let _ = limiter.check("hunter2").await.unwrap();
    }

    assert_eq!(metrics.counter("redbrick.ratelimit.allowed{redbrick.name=l}"), 2);
    assert_eq!(metrics.counter("redbrick.ratelimit.denied{redbrick.name=l}"), 3);
    assert!(!metrics.series().concat().contains("hunter2"), "{:?}", metrics.series());
}
