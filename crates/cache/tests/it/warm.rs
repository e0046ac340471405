use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{number, numbers};

#[tokio::test]
async fn what_is_missing_is_loaded_so_many_at_a_time_and_failures_are_counted() {
    let cache = numbers("warm").await;
    let keys: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    cache.set("0", &0).await.unwrap();
    cache.set("1", &1).await.unwrap();
    let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let load = async |key: &String| {
        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
        most.fetch_max(now, Ordering::SeqCst);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        running.fetch_sub(1, Ordering::SeqCst);
        let loaded: u64 = key.parse().unwrap();
        if loaded % 10 == 9 { Err(std::io::Error::other("no")) } else { Ok(loaded) }
    };
    let warmed = cache.warm(&keys, NonZeroUsize::new(4).unwrap(), load).await;
    assert_eq!((warmed.loaded, warmed.present, warmed.failed), (43, 2, 5), "{warmed:?}");
    assert!((2..=4).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    assert_eq!(cache.get("17").await.unwrap(), Some(17));
    assert_eq!(cache.get("19").await.unwrap(), None);

    let again = cache.warm(["17", "17", "new", "new"], NonZeroUsize::MAX, |_| number(1)).await;
    assert_eq!((again.loaded + again.present, again.failed), (4, 0), "{again:?}");
    let none = cache.warm(Vec::<&str>::new(), NonZeroUsize::MIN, |_| number(1)).await;
    assert_eq!(none, redbrick_cache::Warmed::default());
}
