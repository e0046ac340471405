use std::time::Duration;

use redbrick_cache::{Cache, Error};
use redbrick_core_conn::{ErrorKind, Ttl};

use crate::{PATIENCE, connect};

#[tokio::test]
async fn counters_count_up_and_down_and_are_no_entries() {
    let conn = connect("counters").await;
    let life = Duration::from_secs(500);
    let cache = Cache::<u64>::builder(conn.clone(), "a").time_to_live(life).build().unwrap();
    assert_eq!(cache.count("n").await.unwrap(), None);
    assert_eq!(cache.increment("n", 5).await.unwrap(), 5);
    assert_eq!(cache.decrement("n", 7).await.unwrap(), -2);
    assert_eq!(cache.count("n").await.unwrap(), Some(-2));
    assert_eq!(cache.get("n").await.unwrap(), None);
    cache.set("n", &9).await.unwrap();
    assert_eq!(cache.count("n").await.unwrap(), Some(-2));

    let left = conn.ttl("cache:a:count:{n}").await.unwrap();
    assert!(matches!(left, Ttl::Expires(left) if left <= life && left + PATIENCE * 3 > life));
    // The life is that of the first count.
    conn.expire("cache:a:count:{n}", Duration::from_secs(5)).await.unwrap();
    cache.increment("n", 1).await.unwrap();
    let left = conn.ttl("cache:a:count:{n}").await.unwrap();
    assert!(matches!(left, Ttl::Expires(left) if left <= Duration::from_secs(5)), "{left:?}");

    assert!(cache.delete_count("n").await.unwrap() && !cache.delete_count("n").await.unwrap());
}

#[tokio::test]
async fn counts_are_exact_over_the_whole_range_and_never_leave_it() {
    let cache = Cache::<u64>::new(connect("range").await, "a");
    assert_eq!(cache.increment("n", i64::MAX).await.unwrap(), i64::MAX);
    assert_eq!(cache.decrement("n", 1).await.unwrap(), i64::MAX - 1);
    for by in [2, i64::MAX] {
        let Error::Conn(error) = cache.increment("n", by).await.unwrap_err() else { panic!() };
        assert_eq!(error.kind(), ErrorKind::Server);
    }
    cache.decrement("m", i64::MIN).await.unwrap_err();
    assert_eq!(cache.increment("m", i64::MIN).await.unwrap(), i64::MIN);
    assert_eq!(cache.count("n").await.unwrap(), Some(i64::MAX - 1));
}
