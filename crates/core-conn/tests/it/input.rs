//! What nobody expects to be given.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use redbrick_core_conn::{Codec, Config, Conn, Error, ErrorKind, State};
use redbrick_testkit::{Cluster, CommandCounts, shared};

use crate::{PATIENCE, connect, connect_named, cost, server};

/// Asserts that the link never broke until now, and ends it.
macro_rules! assert_unbroken {
    ($conn:expr, $changes:expr) => {
        $conn.close(PATIENCE).await;
        let change = $changes.next().await.expect("the end");
        assert_eq!(change.current, State::End, "the link never broke: {change:?}");
    };
}

#[tokio::test]
async fn keys_of_any_bytes_and_of_64_kib_work_in_every_call() {
    let conn = connect("input-keys").await;
    let mut changes = conn.state_changes();
    let long = "x".repeat(64 << 10);
    let keys: [&[u8]; 10] = [
        b"",
        b"\0",
        b" ",
        b"{",
        b"}",
        b"{}",
        b"{}{}",
        b"a\r\nb",
        b"\xff\xfe{\x80}",
        long.as_bytes(),
    ];
    for (n, key) in (0_i64..).zip(keys) {
        conn.set(key, &n).await.unwrap();
        assert_eq!(conn.get::<i64>(key).await.unwrap(), Some(n));
        assert!(conn.delete(key).await.unwrap());
        assert_eq!(conn.increment(key, n).await.unwrap(), n);
        assert_eq!(conn.count(key).await.unwrap(), Some(n));
        assert!(conn.delete(key).await.unwrap());
        conn.list(key).push_back(&n).await.unwrap();
        assert_eq!(conn.list(key).range::<i64>(..).await.unwrap(), [n]);
        assert!(conn.delete(key).await.unwrap());
        conn.hash(key).set(key, &n).await.unwrap();
        assert_eq!(conn.hash(key).get::<i64>(key).await.unwrap(), Some(n));
        let mut transaction = conn.transaction();
        let gone = transaction.add(conn.delete(key));
        assert!(transaction.send().await.unwrap().take(gone).unwrap());
        let mut pipeline = conn.pipeline();
        let _set = pipeline.add(conn.set(key, &n));
        pipeline.send().await.check().unwrap();
    }
    let all = conn.get_many::<i64, _>(keys).await.unwrap();
    assert_eq!(all, (0..10).map(Some).collect::<Vec<_>>());
    let absent = conn.get_many::<i64, _>([b"absent".as_slice(), b"\0", b"absent"]).await.unwrap();
    assert_eq!(absent, [None, Some(1), None]);
    assert_eq!(conn.delete_many(keys).await.unwrap(), 10);
    assert_unbroken!(conn, changes);
}

#[tokio::test]
async fn values_of_no_byte_and_of_64_mib_come_back() {
    let conn = connect("input-sizes").await.with_command_timeout(Duration::from_secs(60));
    let mut changes = conn.state_changes();
    let plain = conn.with_codec(Codec::Plain);
    plain.set("empty", "").await.unwrap();
    assert_eq!(plain.get::<String>("empty").await.unwrap().as_deref(), Some(""));
    assert_eq!(
        plain.get_many::<String, _>(["empty", "gone"]).await.unwrap(),
        [Some(String::new()), None]
    );
    plain.list("l").extend(["", ""]).await.unwrap();
    assert_eq!(plain.list("l").range::<String>(..).await.unwrap(), ["", ""]);
    plain.hash("h").set("", "").await.unwrap();
    assert_eq!(plain.hash("h").get_all::<String>().await.unwrap().len(), 1);

    let large = "x".repeat(64 << 20);
    conn.set("large", &large).await.unwrap();
    assert!(conn.get::<String>("large").await.unwrap().is_some_and(|found| found == large));
    let found = conn.get_many::<String, _>(["large"]).await.unwrap();
    assert!(found[0].as_ref().is_some_and(|found| *found == large));
    assert!(conn.delete("large").await.unwrap());
    assert_unbroken!(conn, changes);
}

#[tokio::test]
async fn values_that_nobody_here_wrote_are_typed_errors_and_nothing_is_lost() {
    let (conn, prefix) = connect_named("input-values").await;
    let mut changes = conn.state_changes();
    let packed = Codec::MessagePack;
    let conn = conn.with_codec(packed);
    conn.set("right", &("text".to_owned(), 1)).await.unwrap();
    let stored = shared().command(["GET", &format!("{prefix}:right")]).unwrap();
    let stored = stored.as_bytes().unwrap().to_vec();
    let changed = |at: usize, byte: u8| {
        let mut bytes = stored.clone();
        bytes[at] = byte;
        bytes
    };
    let wrong: [(&str, Vec<u8>); 10] = [
        ("foreign", b"hello".to_vec()),
        ("number", b"12".to_vec()),
        ("empty", vec![]),
        ("one byte", stored[..1].to_vec()),
        ("header", stored[..4].to_vec()),
        ("truncated", stored[..stored.len() - 1].to_vec()),
        ("longer", [stored.clone(), vec![0]].concat()),
        ("newer", changed(1, 2)),
        ("codec", changed(2, 99)),
        ("flags", changed(3, 1)),
    ];
    for (name, bytes) in &wrong {
        let key = format!("{prefix}:{name}");
        shared().command([b"SET".as_slice(), key.as_bytes(), bytes]).unwrap();
        let list = format!("{prefix}:list {name}");
        shared().command([b"RPUSH".as_slice(), list.as_bytes(), bytes]).unwrap();
        let errors: [Error; 4] = [
            conn.get::<(String, i32)>(name).await.unwrap_err(),
            conn.get_many::<(String, i32), _>(["right", name]).await.unwrap_err(),
            conn.list(format!("list {name}")).range::<(String, i32)>(..).await.unwrap_err(),
            conn.list(format!("list {name}")).pop_front::<(String, i32)>().await.unwrap_err(),
        ];
        for err in errors {
            assert_eq!(err.kind(), ErrorKind::Codec, "{name}: {err:?}");
            assert!(!err.is_outcome_unknown() && !err.is_retryable(), "{name}: {err:?}");
            let shown = format!("{err} {err:?}");
            assert!(!shown.contains("hello") && !shown.contains(&key), "{shown}");
            assert!(shown.contains(&format!("`{prefix}:*`")), "which keys: {shown}");
        }
        let left = shared().command(["GET", &key]).unwrap();
        assert_eq!(left.as_bytes(), Some(bytes.as_slice()), "{name}: nothing is lost");
    }
    let newer = conn.get::<(String, i32)>("newer").await.unwrap_err();
    assert!(newer.to_string().contains("newer"), "{newer}");
    assert_eq!(conn.get("right").await.unwrap(), Some(("text".to_owned(), 1)));
    assert_unbroken!(conn, changes);
}

#[tokio::test]
async fn get_many_keeps_order_knows_what_is_missing_and_reads_a_key_twice() {
    let conn = connect("input-many").await;
    for n in 0..50 {
        conn.set(format!("k{n}"), &n).await.unwrap();
    }
    conn.list("list").push_back(&1).await.unwrap();
    let keys = (0..60).rev().map(|n| format!("k{n}"));
    let found = conn.get_many::<i32, _>(keys).await.unwrap();
    let expected = (0..60).rev().map(|n| (n < 50).then_some(n));
    assert_eq!(found, expected.collect::<Vec<_>>());
    let found = conn.get_many::<i32, _>(["k1", "list", "k1", "none", "k1"]).await.unwrap();
    assert_eq!(found, [Some(1), None, Some(1), None, Some(1)]);
    assert_eq!(conn.get_many::<i32, _>([""; 0]).await.unwrap(), []);
    conn.set("text", "x").await.unwrap();
    let err = conn.get_many::<i32, _>(["k1", "text"]).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Codec, "{err:?}");

    assert_eq!(conn.delete_many([""; 0]).await.unwrap(), 0);
    assert_eq!(conn.delete_many(["k1", "k1", "none", "list"]).await.unwrap(), 2);
    let keys = (0..60).map(|n| format!("k{n}"));
    assert_eq!(conn.delete_many(keys).await.unwrap(), 49);
}

#[tokio::test]
async fn bytes_are_read_as_they_are_stored_whatever_the_codec() {
    let conn = connect("input-bytes").await;
    let stored = Bytes::from_static(b"\0\xFF redbrick");
    assert!(conn.set_bytes("a", Bytes::new()).if_absent().await.unwrap());
    conn.set("b", "text").await.unwrap();
    conn.list("list").push_back(&1).await.unwrap();
    let encoded = Codec::MessagePack.encode("text").unwrap();
    for conn in [&conn, &conn.with_codec(Codec::Json), &conn.with_codec(Codec::Plain)] {
        conn.set_bytes("a", stored.clone()).await.unwrap();
        assert_eq!(conn.get_bytes("a").await.unwrap().as_ref(), Some(&stored));
        assert_eq!(conn.get_bytes("b").await.unwrap().as_ref(), Some(&encoded));
        assert_eq!(conn.get_bytes("none").await.unwrap(), None);
        assert_eq!(conn.get_bytes("list").await.unwrap(), None);
        assert_eq!(conn.get_bytes("list").alone().await.unwrap_err().kind(), ErrorKind::WrongType);
        let found = conn.get_many_bytes(["b", "list", "a", "none", "b"]).await.unwrap();
        let (a, b) = (Some(stored.clone()), Some(encoded.clone()));
        assert_eq!(found, [b.clone(), None, a, None, b]);
        assert_eq!(conn.get_many_bytes([""; 0]).await.unwrap(), [] as [Option<Bytes>; 0]);
    }
}

#[tokio::test]
async fn many_keys_cost_one_command_and_on_a_cluster_one_for_each_slot() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let keys: Vec<String> = (0..100).map(|n| format!("k{n}")).collect();
    let used = cost(&server, async {
        conn.get_many::<u8, _>(&keys).await.unwrap();
        conn.get_many::<u8, _>([""; 0]).await.unwrap();
        conn.delete_many(&keys).await.unwrap();
        conn.delete_many([""; 0]).await.unwrap();
        conn.persist("k").await.unwrap();
    });
    assert_eq!(used.await, "mget 1, persist 1, unlink 1");

    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap().unwrap();
    let conn = Conn::connect(cluster.url()).await.unwrap();
    let keys: Vec<String> = (0..300).map(|n| format!("{{{}}}{n}", n % 100)).collect();
    let slots: BTreeSet<u16> = keys.iter().map(|key| cluster.slot_of(key).unwrap()).collect();
    let slots = slots.len() as u64;
    let counts = || {
        let mut all = CommandCounts::default();
        for master in cluster.masters().unwrap() {
            all += &cluster.nodes()[master].command_counts().unwrap();
        }
        all
    };
    let before = counts();
    let mut pipeline = conn.pipeline();
    for (n, key) in keys.iter().enumerate() {
        let _ticket = pipeline.add(conn.set(key, &n));
    }
    pipeline.send().await.check().unwrap();
    let found = conn.get_many::<usize, _>(&keys).await.unwrap();
    assert!(found.into_iter().eq((0..300).map(Some)));
    assert_eq!(conn.delete_many(&keys).await.unwrap(), 300);
    let used = counts().since(&before);
    assert_eq!((used.of("set"), used.of("mget"), used.of("unlink")), (300, slots, slots));
    assert_eq!((used.of("asking"), used.of("evalsha"), used.of("get")), (0, 0, 0));

    // More slots than calls may wait.
    let config = Config::builder().url(cluster.url()).max_waiting(10.try_into().unwrap());
    let conn = Conn::connect(config).await.unwrap();
    conn.set(&keys[7], &7).await.unwrap();
    let found = conn.get_many::<usize, _>(&keys).await.unwrap();
    assert_eq!(found.iter().position(Option::is_some), Some(7));
    assert_eq!(conn.delete_many(&keys).await.unwrap(), 1);
}

#[tokio::test]
async fn a_user_who_may_only_touch_the_prefix_can_call_everything() {
    let server = redbrick_testkit::Server::builder()
        .user("app", "secret", "~shop:* &* +@all")
        .start()
        .unwrap();
    let config = Config::builder().url(server.url()).username("app").password("secret");
    let conn = Conn::connect(config.clone().key_prefix("shop")).await.unwrap();
    conn.set("k", &1).await.unwrap();
    assert_eq!(conn.get_many::<i32, _>(["k"]).await.unwrap(), [Some(1)]);
    assert_eq!(conn.list("l").range::<i32>(..).await.unwrap(), [0; 0]);

    let outside = Conn::connect(config).await.unwrap();
    for err in [
        outside.get::<i32>("k").await.unwrap_err(),
        outside.get_many::<i32, _>(["k"]).await.unwrap_err(),
        outside.list("k").range::<i32>(..).await.unwrap_err(),
        outside.hash("k").get_all::<i32>().await.unwrap_err(),
    ] {
        assert_eq!(err.kind(), ErrorKind::Denied, "{err:?}");
        assert!(!err.is_outcome_unknown(), "{err:?}");
    }
}

#[tokio::test]
async fn a_call_that_was_polled_is_no_part_of_anything_else() {
    let conn = connect("input-polled").await;
    let mut call = Box::pin(conn.increment("n", 1));
    tokio::select! {
        biased;
        done = &mut call => drop(done),
        () = std::future::ready(()) => {}
    }
    let call = *std::pin::Pin::into_inner(call);
    let mut pipeline = conn.pipeline();
    let ticket = pipeline.add(call);
    let err = pipeline.send().await.take(ticket).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err:?}");
}
