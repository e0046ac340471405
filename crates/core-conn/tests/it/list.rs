//! Lists.

use std::ops::Bound;

use redbrick_core_conn::{Codec, Conn, ErrorKind};

use crate::{assert_wrong_type, connect, cost, server};

#[tokio::test]
async fn items_are_pushed_popped_and_counted_at_both_ends() {
    let conn = connect("list").await;
    let list = conn.list("l");
    assert_eq!(list.pop_front::<u8>().await.unwrap(), None);
    assert_eq!(list.pop_back::<u8>().await.unwrap(), None);
    assert_eq!(list.len().await.unwrap(), 0);
    assert_eq!(list.push_back(&2).await.unwrap(), 1);
    assert_eq!(list.push_front(&1).await.unwrap(), 2);
    assert_eq!(list.extend([3, 4, 5]).await.unwrap(), 5);
    assert_eq!(list.extend([0; 0]).await.unwrap(), 5, "nothing to add, and how many there are");
    assert_eq!(list.range::<u8>(..).await.unwrap(), [1, 2, 3, 4, 5]);
    assert_eq!(list.pop_front::<u8>().await.unwrap(), Some(1));
    assert_eq!(list.pop_back::<u8>().await.unwrap(), Some(5));
    assert_eq!(list.len().await.unwrap(), 3);
}

#[tokio::test]
async fn ranges_mean_what_they_say_also_when_there_is_nothing_in_them() {
    let conn = connect("list-ranges").await;
    let list = conn.list("l");
    assert_eq!(list.range::<u8>(..).await.unwrap(), [0; 0], "there is no list");
    list.extend(0..6_u8).await.unwrap();
    for (range, expected) in [
        ((Bound::Unbounded, Bound::Unbounded), [0, 1, 2, 3, 4, 5].as_slice()),
        ((Bound::Included(2), Bound::Excluded(4)), &[2, 3]),
        ((Bound::Excluded(2), Bound::Included(4)), &[3, 4]),
        ((Bound::Included(-2), Bound::Unbounded), &[4, 5]),
        ((Bound::Unbounded, Bound::Excluded(-2)), &[0, 1, 2, 3]),
        ((Bound::Included(4), Bound::Included(100)), &[4, 5]),
        ((Bound::Included(i64::MIN), Bound::Included(i64::MAX)), &[0, 1, 2, 3, 4, 5]),
        ((Bound::Unbounded, Bound::Excluded(0)), &[]),
        ((Bound::Included(-3), Bound::Excluded(0)), &[]),
        ((Bound::Excluded(-1), Bound::Unbounded), &[]),
        ((Bound::Included(3), Bound::Excluded(3)), &[]),
        ((Bound::Included(4), Bound::Included(2)), &[]),
        ((Bound::Included(6), Bound::Unbounded), &[]),
    ] {
        assert_eq!(list.range::<u8>(range).await.unwrap(), expected, "{range:?}");
        // The same is kept by `trim`.
        let copy = conn.list(format!("copy {range:?}"));
        copy.extend(0..6_u8).await.unwrap();
        copy.trim(range).await.unwrap();
        assert_eq!(copy.range::<u8>(..).await.unwrap(), expected, "kept {range:?}");
    }
}

#[tokio::test]
async fn another_type_and_another_shape_are_errors_and_nothing_is_changed() {
    let conn = connect("list-wrong").await;
    conn.set("k", "text").await.unwrap();
    let list = conn.list("k");
    assert_wrong_type!(
        list.push_front(&1),
        list.push_back(&1),
        list.extend([1]),
        list.extend([0; 0]),
        list.pop_front::<u8>(),
        list.pop_back::<u8>(),
        list.range::<u8>(..),
        list.trim(..1),
        list.len(),
    );
    assert_eq!(conn.get::<String>("k").await.unwrap().as_deref(), Some("text"));

    let list = conn.list("l");
    list.push_back(&1).await.unwrap();
    list.push_back("text").await.unwrap();
    assert_eq!(list.range::<u8>(..).await.unwrap_err().kind(), ErrorKind::Codec, "one for all");
    assert_eq!(list.len().await.unwrap(), 2);
    let json = conn.with_codec(Codec::Json);
    let unnamed = std::collections::BTreeMap::from([(vec![1], 1)]);
    assert_eq!(json.list("l").push_back(&unnamed).await.unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(json.list("l").extend([&unnamed]).await.unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(list.len().await.unwrap(), 2, "nothing was sent");
}

#[tokio::test]
async fn every_call_costs_one_round_trip() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let list = conn.list("l");
    list.range::<u8>(..).await.unwrap();
    let used = cost(&server, async {
        list.push_front(&1).await.unwrap();
        list.push_back(&1).await.unwrap();
        list.extend([1, 2, 3]).await.unwrap();
        list.extend([0; 0]).await.unwrap();
        list.range::<u8>(..).await.unwrap();
        list.range::<u8>(..0).await.unwrap();
        list.trim(..4).await.unwrap();
        list.pop_front::<u8>().await.unwrap();
        list.pop_back::<u8>().await.unwrap();
        list.len().await.unwrap();
    });
    let expected = "evalsha 1, llen 2, lpop 1, lpush 1, lrange 1, ltrim 1, rpop 1, rpush 2";
    assert_eq!(used.await, expected);
}
