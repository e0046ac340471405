use redbrick_core_conn::{Codec, Config, Conn};
use redbrick_lock::{Fenced, Locks, Written};

use crate::{SHORT, acquired, locks, server, until};

#[tokio::test]
async fn who_had_the_lock_before_writes_no_more() {
    let locks = locks("fenced").await;
    let value: Fenced<String> = locks.fenced("report");
    assert_eq!(value.get().await.unwrap(), None);
    let first = acquired(&locks, "report", SHORT).await;
    assert_eq!(value.set(first.fence(), &"one".to_owned()).await.unwrap(), Written::Written);
    first.lost().await;
    until("its end", async || !locks.is_locked("report").await.unwrap()).await;
    let next = acquired(&locks, "report", SHORT).await;
    assert_eq!(value.set(first.fence(), &"still".to_owned()).await.unwrap(), Written::Written);
    for text in ["two", ""] {
        assert_eq!(value.set(next.fence(), &text.to_owned()).await.unwrap(), Written::Written);
        assert_eq!(value.set(first.fence(), &"late".to_owned()).await.unwrap(), Written::Refused);
        assert_eq!(value.delete(first.fence()).await.unwrap(), Written::Refused);
        assert_eq!(value.get().await.unwrap().as_deref(), Some(text));
    }
    assert_eq!(value.delete(next.fence()).await.unwrap(), Written::Written);
    assert_eq!(value.get().await.unwrap(), None);
    assert_eq!(value.set(first.fence(), &"late".to_owned()).await.unwrap(), Written::Refused);
    assert_eq!(value.clone().set(next.fence(), &"new".to_owned()).await.unwrap(), Written::Written);
}

#[tokio::test]
async fn bytes_of_a_fence_are_compared_as_a_number() {
    let locks = locks("fence-order").await;
    let value: Fenced<u64> = locks.fenced("n");
    for (before, fence) in [(1, 2), (255, 256), (127, 128), (0x7fff, 0x8000), (1 << 47, 1 << 48)] {
        let value: Fenced<u64> = locks.fenced(format!("{fence}"));
        assert_eq!(value.set(fence, &fence).await.unwrap(), Written::Written);
        assert_eq!(value.set(before, &0).await.unwrap(), Written::Refused, "{before} {fence}");
        assert_eq!(value.get().await.unwrap(), Some(fence));
    }
    assert_eq!(value.get().await.unwrap(), None);
}

#[tokio::test]
async fn a_value_ends_and_an_empty_one_is_one() {
    let server = server();
    let config = Config::builder().url(server.url()).codec(Codec::Plain);
    let locks = Locks::new(Conn::connect(config).await.unwrap());
    let value = locks.fenced::<String>("text").time_to_live(SHORT);
    assert_eq!(value.set(7, &String::new()).await.unwrap(), Written::Written);
    assert_eq!(value.get().await.unwrap().as_deref(), Some(""));
    until("its end", async || crate::keys(&server) == 0).await;
    assert_eq!(value.set(6, &"x".to_owned()).await.unwrap(), Written::Written);
}
