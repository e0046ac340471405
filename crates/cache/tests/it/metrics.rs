//! What recorders are told; the counts themselves are those of `statistics`.

use redbrick_testkit::Metrics;

use crate::{never, number, numbers};

#[tokio::test]
async fn a_recorder_sees_hits_misses_loads_and_what_is_stale_under_the_name_of_the_cache() {
    let metrics = Metrics::new();
    let _listening = metrics.listen();
    let cache = numbers("metrics").await;
    cache.get_or_load("hunter2", || number(1)).tags(["t"]).await.unwrap();
    cache.get_or_load("hunter2", never).tags(["t"]).await.unwrap();
    cache.invalidate_tag("t").await.unwrap();
    assert_eq!(cache.get_many(["hunter2"]).await.unwrap(), [None]);

    let count =
        |what: &str| metrics.counter(&format!("redbrick.cache.{what}{{redbrick.name=products}}"));
    assert_eq!((count("hits"), count("misses"), count("loads")), (1, 2, 1));
    assert_eq!((count("stale"), count("bypassed")), (1, 0));
    assert!(metrics.described("redbrick.cache.hits").is_some());
    assert!(!metrics.series().concat().contains("hunter2"), "{:?}", metrics.series());
}
