//! What recorders are told.

use redbrick_resource::Error;
use redbrick_testkit::Metrics;

use crate::{user, users};

#[tokio::test]
async fn a_recorder_sees_conflicts_and_not_over_what() {
    let metrics = Metrics::new();
    let _listening = metrics.listen();
    let users = users("metrics").await;
    let hunter = user("hunter2");
    users.create(&hunter).await.unwrap();
    assert!(matches!(users.create(&hunter).await, Err(Error::Exists)));
    let mut thief = user("other");
    thief.email.clone_from(&hunter.email);
    assert!(matches!(users.save(&thief).await, Err(Error::UniqueTaken { .. })));
    assert!(matches!(users.replace(&user("nobody")).await, Err(Error::Unknown)));

    assert_eq!(metrics.counter("redbrick.resource.conflicts{redbrick.name=users}"), 2);
    assert!(!metrics.series().concat().contains("hunter2"), "{:?}", metrics.series());
}
