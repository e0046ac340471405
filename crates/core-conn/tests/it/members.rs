//! Sets.

use redbrick_core_conn::{Codec, Conn, ErrorKind};

use crate::{assert_wrong_type, connect, cost, server};

#[tokio::test]
async fn members_are_there_once() {
    let conn = connect("members").await;
    let members = conn.members("m");
    assert_eq!(members.all::<String>().await.unwrap(), Vec::<String>::new());
    assert!(members.add("a").await.unwrap() && !members.add("a").await.unwrap());
    assert_eq!(members.extend(["a", "b", "c", "c"]).await.unwrap(), 2);
    assert_eq!(members.len().await.unwrap(), 3);
    let mut all = members.all::<String>().await.unwrap();
    all.sort();
    assert_eq!(all, ["a", "b", "c"]);
    assert!(members.contains("a").await.unwrap() && !members.contains("d").await.unwrap());
    assert!(members.remove("a").await.unwrap() && !members.remove("a").await.unwrap());
    assert_eq!(members.len().await.unwrap(), 2);
    assert_eq!(members.remove_many(["b", "c", "x"]).await.unwrap(), 2);
    assert_eq!(members.remove_many::<u8>([]).await.unwrap(), 0);
}

#[tokio::test]
async fn another_type_and_another_shape_are_errors_and_nothing_is_changed() {
    let conn = connect("members-wrong").await;
    conn.set("k", "text").await.unwrap();
    let members = conn.members("k");
    assert_wrong_type!(
        members.add(&1),
        members.extend([1]),
        members.remove(&1),
        members.contains(&1),
        members.all::<u8>(),
        members.len(),
    );
    assert_eq!(conn.get::<String>("k").await.unwrap().as_deref(), Some("text"));

    let members = conn.members("m");
    members.add("text").await.unwrap();
    assert_eq!(members.all::<u8>().await.unwrap_err().kind(), ErrorKind::Codec);
    let json = conn.with_codec(Codec::Json);
    assert!(!json.members("m").contains("text").await.unwrap(), "other bytes, other member");
    let unnamed = std::collections::BTreeMap::from([(vec![1], 1)]);
    let json = json.members("m");
    assert_eq!(json.add(&unnamed).await.unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(json.extend([&unnamed]).await.unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(json.remove(&unnamed).await.unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(json.contains(&unnamed).await.unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(members.len().await.unwrap(), 1);
}

#[tokio::test]
async fn every_call_costs_one_round_trip() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let members = conn.members("m");
    members.all::<u8>().await.unwrap();
    let used = cost(&server, async {
        members.add(&1).await.unwrap();
        members.extend([1, 2]).await.unwrap();
        members.extend([0; 0]).await.unwrap();
        members.contains(&1).await.unwrap();
        members.all::<u8>().await.unwrap();
        members.len().await.unwrap();
        members.remove(&1).await.unwrap();
    });
    assert_eq!(used.await, "evalsha 1, sadd 2, scard 1, sismember 1, smembers 1, srem 1");
}
