//! Hashes.

use std::{collections::BTreeMap, time::Duration};

use redbrick_core_conn::{Codec, ErrorKind};
use redbrick_testkit::shared;

use crate::{assert_wrong_type, connect, connect_named, cost, server};

#[tokio::test]
async fn fields_are_set_read_counted_and_deleted() {
    let conn = connect("hash").await;
    let hash = conn.hash("h");
    assert_eq!(hash.get::<String>("a").await.unwrap(), None);
    assert_eq!(hash.get_all::<String>().await.unwrap(), BTreeMap::new());
    assert_eq!(hash.len().await.unwrap(), 0);

    assert!(hash.set("a", "one").await.unwrap());
    assert!(!hash.set("a", "two").await.unwrap(), "not new");
    assert_eq!(hash.get::<String>("a").await.unwrap().as_deref(), Some("two"));
    assert!(hash.contains("a").await.unwrap() && !hash.contains("b").await.unwrap());

    assert_eq!(hash.set_many([("a", "3"), ("b", "4"), ("c", "5")]).await.unwrap(), 2);
    assert_eq!(hash.len().await.unwrap(), 3);
    let all = hash.get_all::<String>().await.unwrap();
    let expected = [("a", "3"), ("b", "4"), ("c", "5")].map(|(k, v)| (k.into(), v.into()));
    assert_eq!(all, BTreeMap::from(expected));

    assert!(hash.delete("a").await.unwrap() && !hash.delete("a").await.unwrap());
    assert_eq!(hash.delete_many(["b", "b", "c", "d"]).await.unwrap(), 2);
    assert!(!conn.exists("h").await.unwrap(), "without fields there is no hash");
}

#[tokio::test]
async fn counters_in_fields_are_plain_numbers() {
    let (conn, prefix) = connect_named("hash-count").await;
    let hash = conn.hash("h");
    assert_eq!(hash.count("n").await.unwrap(), None);
    assert_eq!(hash.increment("n", 5).await.unwrap(), 5);
    assert_eq!(hash.increment("n", -7).await.unwrap(), -2);
    assert_eq!(hash.count("n").await.unwrap(), Some(-2));
    let stored = shared().command(["HGET", &format!("{prefix}:h"), "n"]).unwrap();
    assert_eq!(stored.as_str(), Some("-2"));

    hash.set("text", "x").await.unwrap();
    let err = hash.increment("text", 1).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Server, "{err:?}");
    assert_eq!(hash.count("text").await.unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(hash.get::<i64>("n").await.unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(hash.increment("max", i64::MAX).await.unwrap(), i64::MAX);
    assert_eq!(hash.increment("max", 1).await.unwrap_err().kind(), ErrorKind::Server);
    assert_eq!(hash.count("max").await.unwrap(), Some(i64::MAX), "unchanged");
}

#[tokio::test]
async fn fields_of_any_bytes_stay_apart() {
    let conn = connect("hash-fields").await;
    let hash = conn.hash("h");
    let fields: [&[u8]; 6] = [b"", b" ", b"a\0b", b"{x}", "é".as_bytes(), b"\xff\xfe"];
    for (n, field) in fields.iter().enumerate() {
        assert!(hash.set(field, &n).await.unwrap());
    }
    for (n, field) in fields.iter().enumerate() {
        assert_eq!(hash.get::<usize>(field).await.unwrap(), Some(n));
    }
    let err = hash.get_all::<usize>().await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Codec, "one field is not UTF-8: {err:?}");
    assert!(hash.delete(b"\xff\xfe").await.unwrap());
    let all = hash.get_all::<usize>().await.unwrap();
    assert_eq!(
        all.into_iter().collect::<Vec<_>>(),
        [("", 0), (" ", 1), ("a\0b", 2), ("{x}", 3), ("é", 4)]
            .map(|(field, n)| (field.to_owned(), n))
    );
}

#[tokio::test]
async fn another_type_and_another_shape_are_errors_and_nothing_is_changed() {
    let conn = connect("hash-wrong").await;
    conn.set("k", "text").await.unwrap();
    let hash = conn.hash("k");
    assert_wrong_type!(
        hash.get::<u8>("f"),
        hash.set("f", &1),
        hash.set_many([("f", 1)]),
        hash.get_all::<u8>(),
        hash.delete("f"),
        hash.delete_many(["f"]),
        hash.contains("f"),
        hash.len(),
        hash.increment("f", 1),
        hash.count("f"),
    );
    assert_eq!(conn.get::<String>("k").await.unwrap().as_deref(), Some("text"));

    let hash = conn.hash("h");
    hash.set("good", &1).await.unwrap();
    hash.set("bad", "text").await.unwrap();
    assert_eq!(hash.get::<u8>("bad").await.unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(hash.get_all::<u8>().await.unwrap_err().kind(), ErrorKind::Codec, "one for all");
    assert_eq!(hash.get::<u8>("good").await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_value_that_cannot_be_encoded_is_refused_before_anything_is_sent() {
    let conn = connect("hash-encode").await.with_codec(Codec::Json);
    let unnamed = BTreeMap::from([(vec![1], 1)]);
    let hash = conn.hash("h");
    assert_eq!(hash.set("f", &unnamed).await.unwrap_err().kind(), ErrorKind::Codec);
    let several = [("a", BTreeMap::new()), ("b", unnamed)];
    assert_eq!(hash.set_many(several).await.unwrap_err().kind(), ErrorKind::Codec);
    assert!(!conn.exists("h").await.unwrap());
}

#[tokio::test]
async fn every_call_costs_one_round_trip() {
    let server = server();
    let conn = redbrick_core_conn::Conn::connect(server.url()).await.unwrap();
    let hash = conn.hash("h");
    hash.get_all::<u8>().await.unwrap();
    let used = cost(&server, async {
        hash.set("a", &1).await.unwrap();
        hash.set_many([("b", 1), ("c", 2)]).await.unwrap();
        hash.get::<u8>("a").await.unwrap();
        hash.get_all::<u8>().await.unwrap();
        hash.increment("n", 1).await.unwrap();
        hash.count("n").await.unwrap();
        hash.contains("a").await.unwrap();
        hash.len().await.unwrap();
        hash.delete("a").await.unwrap();
        hash.delete_many(["b", "c"]).await.unwrap();
    });
    let expected = "evalsha 1, hdel 2, hexists 1, hget 2, hgetall 1, hincrby 1, hlen 1, hset 2";
    assert_eq!(used.await, expected);

    let nothing = cost(&server, async {
        assert_eq!(hash.set_many(BTreeMap::<String, u8>::new()).await.unwrap(), 0);
        assert_eq!(hash.delete_many(Vec::<String>::new()).await.unwrap(), 0);
    });
    assert_eq!(nothing.await, "", "there is nothing to ask");
}

#[tokio::test]
async fn asking_nothing_needs_no_server() {
    let conn = redbrick_core_conn::Conn::connect_lazy("redis://127.0.0.1:1").unwrap();
    let conn = conn.with_command_timeout(Duration::from_secs(60));
    let nothing = BTreeMap::<String, u8>::new();
    let asking = async {
        assert_eq!(conn.hash("h").set_many(nothing.clone()).await.unwrap(), 0);
        let mut pipeline = conn.pipeline();
        let ticket = pipeline.add(conn.hash("h").set_many(nothing.clone()));
        assert_eq!(pipeline.send().await.take(ticket).unwrap(), 0);
        let mut transaction = conn.transaction();
        let ticket = transaction.add(conn.hash("h").set_many(nothing));
        assert_eq!(transaction.send().await.unwrap().take(ticket).unwrap(), 0);
    };
    tokio::time::timeout(crate::PATIENCE, asking).await.expect("at once");
}
