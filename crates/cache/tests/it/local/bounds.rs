//! No more is kept than there may be.

use redbrick_cache::{Cache, Local};
use redbrick_core_conn::Conn;

use crate::{PATIENCE, connect};

fn texts(conn: Conn, local: Local<String>) -> Cache<String> {
    Cache::builder(conn, "texts").redis_timeout(PATIENCE).local(local).build().unwrap()
}

/// Stores and reads so many values of so many bytes.
async fn churn(cache: &Cache<String>, count: usize, len: usize) {
    let names: Vec<String> = (0..count).map(|n| format!("text {n}")).collect();
    let value = "x".repeat(len);
    for some in names.chunks(200) {
        cache.set_many(some.iter().map(|name| (name, &value))).await.unwrap();
        for _ in 0..3 {
            assert!(cache.get_many(some).await.unwrap().iter().all(Option::is_some));
        }
    }
}

#[tokio::test]
async fn no_more_entries_are_kept_than_there_may_be() {
    let cache = texts(connect("local_entries").await, Local::new().max_entries(100));
    churn(&cache, 1000, 10).await;
    let size = cache.local_size();
    assert!((50..=100).contains(&size.entries), "{size:?}");
}

#[tokio::test]
async fn no_more_entries_are_kept_than_there_may_be_however_large_they_may_be() {
    for max_bytes in [1 << 40, u64::MAX] {
        let local = Local::new().max_entries(50).max_bytes(max_bytes);
        let cache = texts(connect("local_large").await, local);
        churn(&cache, 400, 10).await;
        let size = cache.local_size();
        assert!((25..=50).contains(&size.entries), "{size:?}");
    }
}

#[tokio::test]
async fn no_more_bytes_are_kept_than_there_may_be() {
    let local = Local::new().max_bytes(100_000);
    let cache = texts(connect("local_bytes").await, local);
    churn(&cache, 200, 2000).await;
    let size = cache.local_size();
    assert!((20..=50).contains(&size.entries) && size.bytes <= 100_000, "{size:?}");
}

#[tokio::test]
async fn a_value_weighs_what_it_is_said_to() {
    let local = Local::new().max_bytes(100_000).weigher(|text: &String| text.len() * 10);
    let cache = texts(connect("local_weigher").await, local);
    churn(&cache, 200, 900).await;
    let size = cache.local_size();
    assert!((5..=10).contains(&size.entries), "{size:?}");
}

#[tokio::test]
async fn where_nothing_may_be_kept_nothing_is() {
    for local in [Local::new().max_entries(0), Local::new().max_bytes(0)] {
        let cache = texts(connect("local_none").await, local);
        churn(&cache, 10, 10).await;
        assert_eq!((cache.local_size().entries, cache.statistics().local_hits), (0, 0));
    }
}

#[tokio::test]
async fn as_many_are_kept_as_there_may_be() {
    for most in [1, 2, 3, 7, 10] {
        let cache = texts(connect("local_few").await, Local::new().max_entries(most));
        let names: Vec<String> = (0..most).map(|n| n.to_string()).collect();
        let text = "text".to_owned();
        cache.set_many(names.iter().map(|name| (name, &text))).await.unwrap();
        for name in &names {
            super::until_kept(&cache, name).await;
        }
        assert_eq!(cache.local_size().entries, most);
    }
}

#[tokio::test]
async fn what_is_too_heavy_is_not_kept() {
    let local = Local::new().weigher(|_| usize::MAX);
    let cache = texts(connect("local_heavy").await, local);
    churn(&cache, 10, 10).await;
    assert_eq!(cache.local_size().entries, 0);
}
