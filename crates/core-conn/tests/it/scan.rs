//! Walks through keys.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
};

use redbrick_core_conn::{Config, Conn, Pattern, Prefix};
use redbrick_testkit::{shared, unique};

use crate::{connect, cost, server, with_tls};

async fn all(conn: &Conn, pattern: Pattern) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    let mut scan = conn.scan(pattern).step(7);
    while let Some(keys) = scan.next().await.expect("a step") {
        assert!(!keys.is_empty());
        found.extend(keys.into_iter().map(Vec::from));
    }
    assert!(scan.next().await.expect("no more").is_none(), "the end is the end");
    found
}

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect("a pattern")
}

#[tokio::test]
async fn keys_are_found_on_every_master_and_can_be_used_as_they_are() {
    let conn = connect("scan").await;
    let other = connect("scan-other").await;
    let mut expected = BTreeSet::new();
    for n in 0..300 {
        let key = format!("user:{n}");
        conn.set(&key, &n).await.unwrap();
        other.set(&key, &n).await.unwrap();
        expected.insert(key.into_bytes());
    }
    conn.set("visits", &1).await.unwrap();
    assert_eq!(all(&conn, pattern("user:*")).await, expected);
    assert_eq!(all(&conn, pattern("*")).await.len(), 301, "those of others are not among them");
    assert_eq!(all(&conn, pattern("user:7")).await, BTreeSet::from([b"user:7".to_vec()]));
    assert_eq!(all(&conn, pattern("nothing*")).await, BTreeSet::new());

    let mut scan = conn.scan(pattern("user:*"));
    assert!(!format!("{scan:?}").contains("user"));
    let keys = scan.next().await.unwrap().expect("some");
    let values = conn.get_many::<u32, _>(&keys).await.unwrap();
    for (key, value) in keys.iter().zip(values) {
        assert_eq!(key, &format!("user:{}", value.expect("it is there")));
    }
    assert_eq!(conn.delete_matching(pattern("user:*")).await.unwrap(), 300);
    assert_eq!(all(&conn, pattern("*")).await, BTreeSet::from([b"visits".to_vec()]));
    assert_eq!(all(&other, pattern("*")).await.len(), 300, "those of others are left alone");
    assert_eq!(other.delete_matching(pattern("*")).await.unwrap(), 300);
}

#[tokio::test]
async fn a_lazy_connection_finds_as_much() {
    let prefix = unique("scan-lazy");
    let config = || with_tls(Config::builder().url(shared().url()).key_prefix(&prefix), shared());
    let conn = Conn::connect(config()).await.unwrap();
    for n in 0..50 {
        conn.set(format!("k{n}"), &n).await.unwrap();
    }
    let lazy = Conn::connect_lazy(config()).unwrap();
    assert_eq!(all(&lazy, pattern("*")).await.len(), 50);
    let lazy = Conn::connect_lazy(config()).unwrap();
    assert_eq!(lazy.delete_matching(pattern("*")).await.unwrap(), 50);
}

#[tokio::test]
async fn what_means_something_in_a_glob_means_itself_in_a_prefix_and_in_an_id() {
    let prefix = format!("{}[a-z]*?\\", unique("scan-glob"));
    let config = Config::builder().url(shared().url()).key_prefix(&prefix);
    let conn = Conn::connect(with_tls(config, shared())).await.unwrap();
    let lookalike = format!("{}a-anything:k", prefix.trim_end_matches("[a-z]*?\\"));
    shared().command(["SET", &lookalike, "x"]).unwrap();

    let ids: [&[u8]; 12] = [
        b"",
        b"*",
        b"?",
        b"[a]",
        b"\\",
        b"{x}",
        b"a:b",
        b"%",
        b"%3A",
        b" ",
        b"\xff\0",
        "é".as_bytes(),
    ];
    let users = Prefix::new("u*").join("[x]");
    let mut keys = BTreeSet::new();
    for id in ids {
        conn.set(users.key(id), "key").await.unwrap();
        conn.set(users.tagged(id), "tagged").await.unwrap();
        keys.insert(users.key(id).as_ref().to_vec());
    }
    conn.set("u*:other", &1).await.unwrap();
    assert_eq!(all(&conn, users.pattern("*").unwrap()).await, keys);
    assert_eq!(all(&conn, users.tagged_pattern("*").unwrap()).await.len(), ids.len());
    assert_eq!(all(&conn, users.all()).await.len(), 2 * ids.len());
    for (text, id) in [
        ("\\*", b"*".as_slice()),
        ("a:*", b"a:b"),
        ("\\[*", b"[a]"),
        ("{*}", b"{x}"),
        ("\\\\", b"\\"),
    ] {
        let found = all(&conn, users.pattern(text).unwrap()).await;
        assert_eq!(found, BTreeSet::from([users.key(id).as_ref().to_vec()]), "{text}");
    }
    for key in &keys {
        assert!(users.id_of(key).is_some_and(|id| ids.contains(&&*id)));
        assert_eq!(conn.get::<String>(key).await.unwrap().as_deref(), Some("key"));
    }
    assert_eq!(conn.delete_matching(users.pattern("*").unwrap()).await.unwrap(), ids.len() as u64);
    assert_eq!(conn.delete_matching(pattern("*")).await.unwrap(), ids.len() as u64 + 1);
    assert!(shared().command(["GET", &lookalike]).unwrap().as_str().is_some(), "not ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_all_the_time_is_found_while_others_come_and_go() {
    static RUNNING: AtomicBool = AtomicBool::new(true);
    let conn = connect("scan-churn").await;
    for n in 0..200 {
        conn.set(format!("stays:{n}"), &n).await.unwrap();
    }
    let churn = tokio::spawn({
        let conn = conn.clone();
        async move {
            for n in 0.. {
                if !RUNNING.load(Ordering::Relaxed) {
                    return;
                }
                let keys: Vec<_> =
                    (0..50).map(|m| format!("comes:{}", (n * 50 + m) % 5_000)).collect();
                let mut pipeline = conn.pipeline();
                for key in &keys {
                    let _ticket = pipeline.add(conn.set(key, &1));
                }
                pipeline.send().await.check().unwrap();
                conn.delete_many(&keys[..25]).await.unwrap();
            }
        }
    });
    for _ in 0..5 {
        let found = all(&conn, pattern("*")).await;
        for n in 0..200 {
            assert!(found.contains(format!("stays:{n}").as_bytes()), "{n}");
        }
    }
    RUNNING.store(false, Ordering::Relaxed);
    churn.await.unwrap();
    conn.delete_matching(pattern("comes:*")).await.unwrap();
    assert_eq!(all(&conn, pattern("*")).await.len(), 200);
}

#[tokio::test]
async fn a_step_is_one_scan_and_keys_is_never_asked() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    for n in 0..10 {
        conn.set(format!("k{n}"), &n).await.unwrap();
    }
    let used = cost(&server, async {
        let mut scan = conn.scan(pattern("*"));
        assert_eq!(scan.next().await.unwrap().expect("all").len(), 10);
        assert!(scan.next().await.unwrap().is_none());
        assert!(scan.next().await.unwrap().is_none());
    });
    assert_eq!(used.await, "scan 1");
    let used = cost(&server, async {
        assert_eq!(conn.delete_matching(pattern("k*")).await.unwrap(), 10);
    });
    assert_eq!(used.await, "scan 1, unlink 1");
    // Zero counts as one.
    assert!(conn.scan(pattern("*")).step(0).next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_walk_goes_on_after_a_failure() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    for n in 0..100 {
        conn.set(format!("k{n}"), &n).await.unwrap();
    }
    let hasty = conn.with_command_timeout(std::time::Duration::from_millis(100));
    let mut scan = hasty.scan(pattern("*")).step(10);
    let mut found = BTreeSet::new();
    found.extend(scan.next().await.unwrap().expect("some"));
    let paused = server.pause().unwrap();
    assert!(scan.next().await.unwrap_err().is_timeout());
    paused.resume();
    while let Some(keys) = scan.next().await.unwrap() {
        found.extend(keys);
    }
    assert_eq!(found.len(), 100);
}

#[tokio::test]
async fn keys_that_are_words_of_the_protocol_come_back_as_they_are() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    // In the order in which the server happens to keep them; some of so many have the word first.
    for round in 0..40 {
        for (word, others) in [("message", 2), ("pmessage", 3), ("smessage", 2)] {
            let mut expected = BTreeSet::from([word.as_bytes().to_vec()]);
            expected.extend((0..others).map(|n| format!("{round}-{n}").into_bytes()));
            for key in &expected {
                conn.set(key, &1).await.unwrap();
            }
            let mut found = Vec::new();
            let mut scan = conn.scan(pattern("*"));
            while let Some(keys) = scan.next().await.unwrap() {
                found.extend(keys);
            }
            assert_eq!(found.len(), expected.len(), "{found:?}");
            assert!(found.iter().all(|key| expected.contains(&**key)), "{found:?}");
            assert_eq!(conn.delete_matching(pattern("*")).await.unwrap(), expected.len() as u64);
        }
    }
}
