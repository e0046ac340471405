//! What recorders are told.

use std::time::Duration;

use redbrick_lock::{Extended, Locks, Released};
use redbrick_testkit::Metrics;

use crate::{LONG, acquired, connect};

#[tokio::test]
async fn a_recorder_sees_what_was_acquired_waited_for_and_lost() {
    let metrics = Metrics::new();
    let _listening = metrics.listen();
    let conn = connect("metrics").await;
    let locks = Locks::new(conn.clone());
    let mut guard = acquired(&locks, "hunter2", LONG).await;
    assert!(locks.try_lock("hunter2").await.unwrap().is_none());
    assert_eq!(metrics.counter("redbrick.lock.acquired"), 1);
    let waited = metrics.histogram("redbrick.lock.waited");
    assert_eq!(waited.len(), 2, "both who got it and who did not");
    assert!(waited.iter().all(|waited| (0.0..LONG.as_secs_f64()).contains(waited)), "{waited:?}");

    assert!(Locks::new(conn).force_release("hunter2").await.unwrap());
    assert_eq!(guard.extend(Duration::from_secs(60)).await.unwrap(), Extended::Lost);
    assert_eq!(guard.release().await.unwrap(), Released::AlreadyLost);
    assert_eq!(metrics.counter("redbrick.lock.lost"), 1, "once, however often it is found so");
    let released = acquired(&locks, "other", LONG).await.release().await.unwrap();
    assert_eq!(released, Released::Released);
    assert_eq!(metrics.counter("redbrick.lock.lost"), 1);
    assert!(!metrics.series().concat().contains("hunter2"), "{:?}", metrics.series());
}
