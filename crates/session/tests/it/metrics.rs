//! What recorders are told.

use redbrick_session::Sessions;
use redbrick_testkit::Metrics;

use crate::connect;

#[tokio::test]
async fn a_recorder_sees_sessions_begin_and_end_and_not_whose() {
    let metrics = Metrics::new();
    let _listening = metrics.listen();
    let conn = connect("metrics").await;
    let staff = Sessions::<u8>::builder(conn.clone()).name("staff").build();
    let first = staff.create("hunter2", 1).await.unwrap();
    for data in 0..3 {
        staff.create("hunter2", data).await.unwrap();
    }
    assert!(staff.delete(first.id()).await.unwrap());
    assert!(!staff.delete(first.id()).await.unwrap());
    assert_eq!(staff.delete_all("hunter2").await.unwrap(), 3);
    Sessions::new(conn).create("hunter2", 0).await.unwrap();

    assert_eq!(metrics.counter("redbrick.session.created{redbrick.name=staff}"), 4);
    assert_eq!(metrics.counter("redbrick.session.ended{redbrick.name=staff}"), 4);
    assert_eq!(metrics.counter("redbrick.session.created"), 1, "those without a name");
    assert!(!metrics.series().concat().contains("hunter2"), "{:?}", metrics.series());
}
