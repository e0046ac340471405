//! What users may send, and what they get for it.

use std::{sync::Arc, time::Duration};

use redbrick_cache::{Cache, Change, Error, Fetched, OnError, Origin, Rules, Target};
use redbrick_core_conn::{Codec, Conn, ErrorKind};
use redbrick_testkit::{Fault, Server, unique};
use serde::{Deserialize, Serialize, Serializer};

use crate::{
    PATIENCE, connect, connect_below, never, number, numbers, numbers_below, patient, until,
};

fn hostile() -> Vec<Vec<u8>> {
    vec![
        Vec::new(),
        vec![b'x'; 65_536],
        b"{}".to_vec(),
        b"{a}b".to_vec(),
        b"}{".to_vec(),
        b" a b ".to_vec(),
        b"a\0b\r\n".to_vec(),
        b"../../a/b".to_vec(),
        b"a:b".to_vec(),
        b"lease".to_vec(),
        b"lease:a".to_vec(),
        b"tag:{a}".to_vec(),
        b"*".to_vec(),
        b"%".to_vec(),
        vec![0xFF, 0xFE],
    ]
}

#[tokio::test]
async fn every_bytes_are_a_key_a_name_and_a_tag_of_their_own() {
    let prefix = unique("hostile");
    for name in hostile() {
        let cache = Cache::<u64>::builder(connect_below(&prefix).await, &name);
        let cache = cache.redis_timeout(PATIENCE).build().unwrap();
        for (n, key) in (0..).zip(hostile()) {
            cache.set(&key, &n).tags([&key]).await.unwrap();
            assert_eq!(cache.increment(&key, n as i64).await.unwrap(), n as i64);
        }
        for (n, key) in (0..).zip(hostile()) {
            assert_eq!(cache.get(&key).await.unwrap(), Some(n));
            assert_eq!(cache.get_or_load(&key, never).tags([&key]).await.unwrap(), n);
            assert_eq!(cache.count(&key).await.unwrap(), Some(n as i64));
            assert!(cache.invalidate_tag(&key).await.unwrap());
            assert_eq!(cache.get(&key).await.unwrap(), None);
        }
        assert_eq!(cache.clear_all().await.unwrap(), hostile().len() as u64);
    }
}

#[tokio::test]
async fn lives_that_no_server_takes_are_refused_before_anything_is_sent() {
    let conn = || Conn::connect_lazy("redis://127.0.0.1:1").unwrap();
    let cache = Cache::<u64>::new(conn(), "a");
    for wrong in [Duration::ZERO, Duration::from_micros(999), Duration::MAX] {
        let is_refused = |error: Error| matches!(error, Error::InvalidDuration);
        assert!(is_refused(cache.set("a", &1).time_to_live(wrong).await.unwrap_err()));
        assert!(is_refused(cache.set_many([("a", &1)]).time_to_live(wrong).await.unwrap_err()));
        assert!(is_refused(cache.get_or_load("a", never).time_to_live(wrong).await.unwrap_err()));
        let builder = || Cache::<u64>::builder(conn(), "a");
        assert!(is_refused(builder().time_to_live(wrong).build().unwrap_err()));
        assert!(is_refused(builder().load_timeout(wrong).build().unwrap_err()));
    }
}

#[tokio::test]
async fn the_longest_life_is_taken_with_tags() {
    let cache = numbers("longest").await;
    let longest = Duration::from_secs(100 * 366 * 24 * 60 * 60);
    cache.set("a", &1).time_to_live(longest).tags(["t"]).await.unwrap();
    cache.get_or_load("b", || number(2)).time_to_live(longest).tags(["t"]).await.unwrap();
    assert_eq!(cache.get_many(["a", "b"]).await.unwrap(), [Some(1), Some(2)]);
}

/// Bytes as they are.
struct Bare(Vec<u8>);

impl Serialize for Bare {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

#[derive(Debug, Deserialize)]
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("never"))
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_encoded_is_an_error_and_nothing_is_stored() {
    let cache = patient::<Unwritable>(connect("unwritable").await);
    let kind = |error: Error| match error {
        Error::Unencodable(error) => error
            .downcast_ref::<redbrick_core_conn::Error>()
            .expect("core-conn's codec says why")
            .kind(),
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(cache.set("a", &Unwritable).await.unwrap_err()), ErrorKind::Codec);
    let many = cache.set_many([("a", &Unwritable)]).await.unwrap_err();
    assert_eq!(kind(many), ErrorKind::Codec);
    let load = async || Ok::<_, std::io::Error>(Unwritable);
    assert_eq!(kind(cache.get_or_load("a", load).await.unwrap_err()), ErrorKind::Codec);
    assert!(!cache.exists("a").await.unwrap());
}

#[tokio::test]
async fn what_cannot_be_read_is_a_miss_and_is_loaded_anew() {
    let prefix = unique("unreadable");
    let (conn, cache) = (connect_below(&prefix).await, numbers_below(&prefix).await);
    let plain = conn.with_codec(Codec::Plain);
    let key = "cache:products:{a}";
    let newer = [b"\xCA\x02markmark\0\0".as_slice(), b"later"].concat();
    let mut unreadable = 0;
    for round in 0..7 {
        match round {
            0 => plain.set(key, "hello from another program").await.unwrap(),
            1 => plain.set(key, "").await.unwrap(),
            2 => plain.set(key, &Bare(newer.clone())).await.unwrap(),
            3 => drop(conn.hash(key).set("field", &1).await.unwrap()),
            // Of another shape, as before a release.
            4 => patient::<String>(conn.clone()).set("a", &"text".to_owned()).await.unwrap(),
            // As long as a lease, and beginning nearly like one.
            5 => {
                let nearly = Bare(b"\xCBx and so on, and ".to_vec());
                plain.set(key, &nearly).time_to_live(PATIENCE * 100).await.unwrap();
            }
            _ => drop(conn.increment(key, 7).await.unwrap()),
        }
        assert_eq!(cache.get("a").await.unwrap(), None, "{round}");
        assert_eq!(cache.get_many(["a"]).await.unwrap(), [None], "{round}");
        let counted = cache.statistics().unreadable - unreadable;
        // What is of another type is read as missing.
        assert_eq!(counted, if round == 3 { 0 } else { 2 }, "{round}");
        assert_eq!(cache.get_or_load("a", || number(round)).await.unwrap(), round);
        assert_eq!(cache.get("a").await.unwrap(), Some(round), "it is replaced");
        assert!(cache.delete("a").await.unwrap());
        unreadable = cache.statistics().unreadable;
    }
}

#[tokio::test]
async fn asking_whether_something_is_there_that_cannot_be_read_counts_in_no_statistics() {
    let prefix = unique("unreadable and uncounted");
    let (conn, cache) = (connect_below(&prefix).await, numbers_below(&prefix).await);
    conn.with_codec(Codec::Plain).set("cache:products:{a}", "hello").await.unwrap();
    assert!(!cache.exists("a").await.unwrap());
    assert_eq!(cache.statistics().unreadable, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_replaces_foreign_bytes_with_the_same_beginning_is_found() {
    let server = Arc::new(Server::start().unwrap());
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(server.url()).await.unwrap();
    let here = patient::<u64>(Conn::connect(proxy.url()).await.unwrap());
    let plain = conn.with_codec(Codec::Plain);
    plain.set("cache:products:{a}", &Bare(b"\xCA\x03".to_vec())).await.unwrap();
    proxy.set(Fault::StallReplies);
    let load = tokio::spawn(async move { here.get_or_load("a", never).with_origin().await });
    let asked = Arc::clone(&server);
    until("it has looked", move || asked.command_counts().unwrap().of("get") > 0).await;
    patient::<u64>(conn).set("a", &5).await.unwrap();
    proxy.clear();
    let found = load.await.unwrap().unwrap();
    assert_eq!(found, Fetched { value: 5, origin: Origin::Cached });
}

#[tokio::test]
async fn leases_and_tags_that_another_program_changed_are_made_anew() {
    let prefix = unique("changed");
    let (conn, cache) = (connect_below(&prefix).await, numbers_below(&prefix).await);
    let (lease, tag) = ("cache:products:lease:{a}", "cache:products:tag:{t}");
    for round in 0..3 {
        for key in [lease, tag] {
            match round {
                0 => drop(conn.hash(key).set("field", &1).await.unwrap()),
                1 => conn.with_codec(Codec::Plain).set(key, "").await.unwrap(),
                _ => conn.with_codec(Codec::Plain).set(key, "something else").await.unwrap(),
            }
        }
        let loaded = cache.get_or_load("a", || number(round)).tags(["t"]).await.unwrap();
        assert_eq!(loaded, round);
        assert_eq!(cache.get("a").await.unwrap(), Some(round), "{round}");
        conn.with_codec(Codec::Plain).set(tag, "something else").await.unwrap();
        assert_eq!(cache.get("a").await.unwrap(), None, "its tag is not as it was");
        cache.set("a", &9).tags(["t"]).await.unwrap();
        assert_eq!(cache.get("a").await.unwrap(), Some(9), "{round}");
        cache.delete("a").await.unwrap();
        cache.invalidate_tag("t").await.unwrap();
    }
}

#[tokio::test]
async fn other_kinds_of_values_at_the_keys_of_counters_are_errors() {
    let prefix = unique("wrong counter");
    let (conn, cache) = (connect_below(&prefix).await, numbers_below(&prefix).await);
    let key = "cache:products:count:{n}";
    conn.hash(key).set("field", &1).await.unwrap();
    for error in [cache.increment("n", 1).await.unwrap_err(), cache.count("n").await.unwrap_err()] {
        let Error::Conn(error) = error else { panic!("{error:?}") };
        assert_eq!(error.kind(), ErrorKind::WrongType);
    }
    conn.set(key, &1).await.unwrap();
    cache.increment("n", 1).await.unwrap_err();
    cache.count("n").await.unwrap_err();
    assert!(cache.delete_count("n").await.unwrap());
    assert_eq!(cache.increment("n", 1).await.unwrap(), 1);
}

#[tokio::test]
async fn values_of_a_megabyte_and_unusual_keys_pass_through_rules_and_loads() {
    let cache = patient::<String>(connect("big").await);
    let big = "x".repeat(1 << 20);
    let load = async || Ok::<_, std::io::Error>(big.clone());
    assert_eq!(cache.get_or_load("a b\0", load).await.unwrap(), big);
    assert_eq!(cache.get("a b\0").await.unwrap().as_ref(), Some(&big));
    let rules =
        Rules::builder().on("", Change::Delete, [Target::key("{}}{{x}}".replace("{}}", "{v}"))]);
    let rules = rules.build().unwrap();
    cache.set("a b\0{x}", &String::new()).await.unwrap();
    let applied = cache.apply(&rules, "", Change::Delete, &[("v", "a b\0")]).await.unwrap();
    assert_eq!(applied.deleted, 1);
}

#[test]
fn nothing_that_users_give_shows() {
    let conn = Conn::connect_lazy("redis://127.0.0.1:1").unwrap();
    let cache = Cache::<u64>::builder(conn, "shop").on_error(OnError::Fail).build().unwrap();
    let shown = [
        format!("{:?}", cache.set("secret", &4711).tags(["secret"])),
        format!("{:?}", cache.set_many([("secret", &4711)])),
        format!("{:?}", cache.get_or_load("secret", never).tags(["secret"]).with_origin()),
        format!("{cache:?}"),
    ];
    for shown in shown {
        assert!(!shown.contains("secret") && !shown.contains("4711"), "{shown}");
    }
}
