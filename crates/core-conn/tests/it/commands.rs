//! The typed commands, on every topology.

use std::{collections::BTreeMap, time::Duration};

use redbrick_core_conn::{Codec, Conn, ErrorKind, Ttl};
use redbrick_testkit::{shared, unique};
use serde::{Deserialize, Serialize};

use crate::{connect, eventually, server};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct User {
    id: u64,
    name: String,
    tags: Vec<String>,
    notes: BTreeMap<String, Option<i64>>,
}

fn ada() -> User {
    User {
        id: u64::MAX,
        name: "Ada".to_owned(),
        tags: vec!["a".to_owned(), String::new()],
        notes: BTreeMap::from([("x".to_owned(), Some(-1)), ("y".to_owned(), None)]),
    }
}

#[tokio::test]
async fn stores_and_reads_values_in_either_codec() {
    let conn = connect("codec").await;
    assert_eq!(conn.get::<User>("user").await.unwrap(), None);
    for codec in [Codec::MessagePack, Codec::Json] {
        conn.with_codec(codec).set("user", &ada()).await.unwrap();
        assert_eq!(conn.get::<User>("user").await.unwrap(), Some(ada()), "{codec:?}");
    }
    conn.set("text", "hello").await.unwrap();
    conn.set("none", &None::<u8>).await.unwrap();
    assert_eq!(conn.get::<String>("text").await.unwrap().as_deref(), Some("hello"));
    assert_eq!(conn.get::<Option<u8>>("none").await.unwrap(), Some(None));
}

#[tokio::test]
async fn an_empty_and_a_large_value_come_back_as_they_were() {
    let conn = connect("sizes").await;
    for size in [0, 1, 1 << 20] {
        let value = "x".repeat(size);
        conn.set("value", &value).await.unwrap();
        assert_eq!(conn.get::<String>("value").await.unwrap(), Some(value));
    }
}

#[tokio::test]
async fn keys_of_any_bytes_stay_apart() {
    let conn = connect("keys").await;
    let keys: [&[u8]; 8] =
        [b"", b" ", b"a b", b"a\0b", b"\xff\xfe", b"{a}b", b"}{", "ключ".as_bytes()];
    for (n, key) in keys.iter().enumerate() {
        conn.set(key, &n).await.unwrap();
    }
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(conn.get::<usize>(key).await.unwrap(), Some(n), "{key:?}");
    }
}

#[tokio::test]
async fn the_prefix_goes_before_every_key() {
    let prefix = unique("prefix");
    let conn = Conn::connect(crate::with_tls(
        redbrick_core_conn::Config::builder().url(shared().url()).key_prefix(&prefix),
        shared(),
    ));
    let conn = conn.await.unwrap();
    conn.increment("hits", 3).await.unwrap();
    let stored = shared().command(["GET", &format!("{prefix}:hits")]).unwrap();
    assert_eq!(stored.as_str(), Some("3"), "a counter is a plain number");
}

#[tokio::test]
async fn a_value_lives_as_long_as_it_was_told() {
    let conn = connect("ttl").await;
    assert_eq!(conn.ttl("k").await.unwrap(), Ttl::Missing);
    assert!(!conn.expire("k", Duration::from_secs(60)).await.unwrap());

    conn.set("k", &1).time_to_live(Duration::from_secs(60)).await.unwrap();
    let Ttl::Expires(left) = conn.ttl("k").await.unwrap() else { panic!("it expires") };
    assert!(left > Duration::from_secs(30) && left <= Duration::from_secs(60), "{left:?}");

    conn.set("k", &2).await.unwrap();
    assert_eq!(conn.ttl("k").await.unwrap(), Ttl::Persistent, "a plain set takes the expiry away");

    assert!(conn.expire("k", Duration::from_millis(1)).await.unwrap());
    let gone = conn.clone();
    let runtime = tokio::runtime::Handle::current();
    eventually("expiry", move || runtime.block_on(gone.get::<i32>("k")).unwrap().is_none()).await;
}

#[tokio::test]
async fn an_impossible_time_to_live_is_refused_and_nothing_is_stored() {
    let conn = connect("bad-ttl").await;
    for wrong in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let err = conn.set("k", &1).time_to_live(wrong).await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::InvalidArgument);
        let err = conn.expire("k", wrong).await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::InvalidArgument);
    }
    assert!(!conn.exists("k").await.unwrap());
}

#[tokio::test]
async fn a_conditional_set_says_whether_it_stored() {
    let conn = connect("conditions").await;
    assert!(!conn.set("k", &1).if_present().await.unwrap());
    assert!(conn.set("k", &2).if_absent().await.unwrap());
    assert!(!conn.set("k", &3).if_absent().await.unwrap());
    assert_eq!(conn.get("k").await.unwrap(), Some(2));
    let minute = Duration::from_secs(60);
    assert!(conn.set("k", &4).if_present().time_to_live(minute).await.unwrap());
    assert_eq!(conn.get("k").await.unwrap(), Some(4));
    assert!(matches!(conn.ttl("k").await.unwrap(), Ttl::Expires(_)));
}

#[tokio::test]
async fn a_counter_is_read_as_a_number_and_a_value_is_not() {
    let conn = connect("count").await;
    assert_eq!(conn.count("n").await.unwrap(), None);
    conn.increment("n", -5).await.unwrap();
    assert_eq!(conn.count("n").await.unwrap(), Some(-5));
    assert!(!conn.exists("other").await.unwrap(), "reading makes no counter");
    let err = conn.get::<i64>("n").await.unwrap_err();
    assert!(err.kind() == ErrorKind::Codec && err.to_string().contains("Conn::count"), "{err}");
    conn.set("value", &7).await.unwrap();
    let err = conn.count("value").await.unwrap_err();
    assert!(err.kind() == ErrorKind::Codec && err.to_string().contains("Conn::get"), "{err}");
}

#[tokio::test]
async fn debug_output_shows_neither_keys_nor_values() {
    let conn = connect("debug").await;
    let set = conn.set("key-secret", "value-secret").time_to_live(Duration::from_secs(9));
    let shown = format!("{set:?} {:?}", conn.set("key-secret", "value-secret").if_absent());
    assert!(!shown.contains("secret") && shown.contains("SET"), "{shown}");
    set.await.unwrap();
    let err = conn.get::<u8>("key-secret").await.unwrap_err();
    assert!(!format!("{err:?} {err}").contains("secret"), "{err:?}");
    assert!(std::error::Error::source(&err).is_some(), "the reason is there for who asks");
}

#[tokio::test]
async fn deleting_says_whether_there_was_anything() {
    let conn = connect("delete").await;
    conn.set("k", &1).await.unwrap();
    assert!(conn.exists("k").await.unwrap());
    assert!(conn.delete("k").await.unwrap());
    assert!(!conn.delete("k").await.unwrap());
    assert!(!conn.exists("k").await.unwrap());
}

#[tokio::test]
async fn counters_count_up_and_down_and_refuse_what_is_no_number() {
    let conn = connect("counters").await;
    assert_eq!(conn.increment("n", 5).await.unwrap(), 5);
    assert_eq!(conn.decrement("n", 7).await.unwrap(), -2);
    assert_eq!(conn.increment("n", i64::MAX).await.unwrap(), i64::MAX - 2);
    let err = conn.increment("n", 3).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Server, "overflow: {err}");
    assert_eq!(conn.decrement("n", 1).await.unwrap(), i64::MAX - 3, "unchanged by the failure");

    conn.set("text", "x").await.unwrap();
    let err = conn.increment("text", 1).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Server);
    assert!(err.to_string().contains("no whole number"), "{err}");
}

#[tokio::test]
async fn what_somebody_else_stored_is_a_typed_error_and_the_link_goes_on() {
    let prefix = unique("foreign");
    let config = redbrick_core_conn::Config::builder().url(shared().url()).key_prefix(&prefix);
    let conn = Conn::connect(crate::with_tls(config, shared())).await.unwrap();
    let key = |name: &str| format!("{prefix}:{name}");
    shared().command(["SET", &key("plain"), "hello"]).unwrap();
    shared().command(["LPUSH", &key("list"), "a"]).unwrap();
    conn.set("shape", "text").await.unwrap();

    for (name, kind) in
        [("plain", ErrorKind::Codec), ("list", ErrorKind::WrongType), ("shape", ErrorKind::Codec)]
    {
        let err = conn.get::<User>(name).alone().await.unwrap_err();
        assert_eq!(err.kind(), kind, "{name}: {err}");
        assert!(!err.is_outcome_unknown() && !err.is_retryable());
    }
    // A list is no value, as it is none to `get_many`, unless that is to be told.
    assert_eq!(conn.get::<User>("list").await.unwrap(), None);
    assert_eq!(conn.count("list").await.unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(conn.get::<String>("shape").await.unwrap().as_deref(), Some("text"));
}

#[tokio::test]
async fn every_command_costs_one_round_trip() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let before = server.command_counts().unwrap();

    conn.set("k", &1).time_to_live(Duration::from_secs(60)).await.unwrap();
    conn.set("k", &1).if_absent().await.unwrap();
    conn.get::<i32>("k").await.unwrap();
    conn.exists("k").await.unwrap();
    conn.expire("k", Duration::from_secs(1)).await.unwrap();
    conn.ttl("k").await.unwrap();
    conn.delete("k").await.unwrap();
    conn.increment("n", 1).await.unwrap();
    conn.decrement("n", 1).await.unwrap();
    conn.count("n").await.unwrap();
    conn.ping().await.unwrap();

    let used = server.command_counts().unwrap().since(&before);
    let used: Vec<_> = used.iter().collect();
    let expected = [
        ("decrby", 1),
        ("exists", 1),
        ("get", 2),
        ("incrby", 1),
        ("pexpire", 1),
        ("ping", 1),
        ("pttl", 1),
        ("set", 2),
        ("unlink", 1),
    ];
    assert_eq!(used, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_on_one_link_each_get_their_own_answer() {
    let conn = connect("many").await;
    let tasks = (0..200_u32).map(|n| {
        let conn = conn.clone();
        tokio::spawn(async move {
            for round in 0..20 {
                conn.set(format!("k{n}"), &(n, round)).await.unwrap();
                assert_eq!(conn.get(format!("k{n}")).await.unwrap(), Some((n, round)));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}
