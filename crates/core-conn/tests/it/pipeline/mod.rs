//! Pipelines.

mod faults;

use std::time::Duration;

use redbrick_core_conn::{Codec, Config, Conn, ErrorKind, Replay, Script};
use redbrick_testkit::Fault;
use tokio::time::Instant;

use crate::{PATIENCE, assert_wrong_type, connect, cost, server};

static COUNT: Script = Script::new("test.count", "return redis.call('INCR', KEYS[1])");

#[tokio::test]
async fn every_kind_of_call_has_its_result() {
    let conn = connect("pipeline").await;
    conn.list("l").extend([1, 2, 3]).await.unwrap();
    let mut pipeline = conn.pipeline();
    assert!(pipeline.is_empty());
    let missing = pipeline.add(conn.get::<String>("missing"));
    let set = pipeline.add(conn.set("k", "v").time_to_live(PATIENCE));
    let absent = pipeline.add(conn.set("k", "w").if_absent());
    let present = pipeline.add(conn.set("k", "x").if_present());
    let get = pipeline.add(conn.get::<String>("k"));
    let count = pipeline.add(conn.increment("n", 5));
    let script = pipeline.add(conn.script(&COUNT).key("n").run::<i64>());
    let range = pipeline.add(conn.list("l").range::<u8>(1..));
    let nothing = pipeline.add(conn.list("l").range::<u8>(..0));
    let field = pipeline.add(conn.hash("h").set("f", &1));
    let all = pipeline.add(conn.hash("h").get_all::<u8>());
    let member = pipeline.add(conn.members("m").add("a"));
    let score = pipeline.add(conn.sorted_set("s").increment("a", 0.5));
    let ttl = pipeline.add(conn.ttl("n"));
    let gone = pipeline.add(conn.delete("k"));
    assert_eq!(pipeline.len(), 15);
    let mut results = pipeline.send().await;
    results.check().unwrap();
    assert_eq!(results.take(missing).unwrap(), None);
    results.take(set).unwrap();
    assert!(!results.take(absent).unwrap() && results.take(present).unwrap());
    assert_eq!(results.take(get).unwrap().as_deref(), Some("x"));
    assert_eq!(results.take(count).unwrap(), 5);
    assert_eq!(results.take(script).unwrap(), 6);
    assert_eq!(results.take(range).unwrap(), [2, 3]);
    assert_eq!(results.take(nothing).unwrap(), [0; 0]);
    assert!(results.take(field).unwrap());
    assert_eq!(results.take(all).unwrap().into_iter().collect::<Vec<_>>(), [("f".to_owned(), 1)]);
    assert!(results.take(member).unwrap());
    assert_eq!(results.take(score).unwrap(), 0.5);
    assert_eq!(results.take(ttl).unwrap(), redbrick_core_conn::Ttl::Persistent);
    assert!(results.take(gone).unwrap());
}

#[tokio::test]
async fn one_error_leaves_the_others_alone() {
    let conn = connect("pipeline-errors").await.with_codec(Codec::Json);
    conn.set("text", "x").await.unwrap();
    let unnamed = std::collections::BTreeMap::from([(vec![1], 1)]);
    let mut pipeline = conn.pipeline();
    let first = pipeline.add(conn.increment("n", 1));
    let wrong = pipeline.add(conn.list("text").push_back(&1));
    let nested = pipeline.add(conn.list("text").range::<u8>(..));
    let shape = pipeline.add(conn.get::<u8>("text"));
    let unencoded = pipeline.add(conn.set("k", &unnamed));
    let invalid = pipeline.add(conn.expire("n", Duration::ZERO));
    let last = pipeline.add(conn.increment("n", 1));
    let mut results = pipeline.send().await;
    assert_eq!(results.check().unwrap_err().kind(), ErrorKind::WrongType, "the first of all");
    assert_eq!(results.take(last).unwrap(), 2);
    assert_wrong_type!(async { results.take(wrong) }, async { results.take(nested) });
    assert_eq!(results.check().unwrap_err().kind(), ErrorKind::Codec, "what was taken is left out");
    assert_eq!(results.take(shape).unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(results.take(unencoded).unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(results.take(invalid).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(results.take(first).unwrap(), 1);
    results.check().unwrap();
    assert!(!conn.exists("k").await.unwrap());
}

#[tokio::test]
async fn an_error_names_its_call() {
    let (conn, prefix) = crate::connect_named("pipeline-names").await;
    conn.set("{t}text", "x").await.unwrap();
    let mut pipeline = conn.pipeline();
    let refused = pipeline.add(conn.list("{t}text").len());
    let misread = pipeline.add(conn.get::<u8>("{t}text"));
    let mut results = pipeline.send().await;
    let err = results.check().unwrap_err();
    assert!(err.to_string().starts_with(&format!("LLEN of `{prefix}:*`: ")), "{err}");
    assert_eq!(results.take(refused).unwrap_err().to_string(), err.to_string());
    let err = results.take(misread).unwrap_err();
    assert!(err.to_string().starts_with(&format!("GET of `{prefix}:*`: ")), "{err}");

    let mut transaction = conn.transaction();
    let refused = transaction.add(conn.list("{t}text").len());
    let err = transaction.send().await.unwrap().take(refused).unwrap_err();
    assert!(err.to_string().starts_with(&format!("LLEN of `{prefix}:*`: ")), "{err}");
}

#[tokio::test]
async fn a_call_keeps_the_codec_that_it_was_made_with() {
    let conn = connect("pipeline-codec").await;
    let plain = conn.with_codec(Codec::Plain);
    plain.set("k", "bare").await.unwrap();
    let mut pipeline = conn.pipeline();
    let bare = pipeline.add(plain.get::<String>("k"));
    let packed = pipeline.add(conn.get::<String>("k"));
    let mut results = pipeline.send().await;
    assert_eq!(results.take(bare).unwrap().as_deref(), Some("bare"));
    assert_eq!(results.take(packed).unwrap_err().kind(), ErrorKind::Codec);

    let mut transaction = conn.transaction();
    let bare = transaction.add(plain.get::<String>("k"));
    let mut results = transaction.send().await.unwrap();
    assert_eq!(results.take(bare).unwrap().as_deref(), Some("bare"));
}

#[tokio::test]
async fn tickets_and_calls_of_others_are_refused() {
    let conn = connect("pipeline-tickets").await;
    let mut one = conn.pipeline();
    let foreign = one.add(conn.increment("n", 1));
    let mut other = conn.pipeline();
    let own = other.add(conn.increment("n", 10));
    let mut results = other.send().await;
    assert_eq!(results.take(foreign).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(results.take(own).unwrap(), 10, "the first pipeline was never sent");

    let other = connect("pipeline-tickets-other").await;
    let mut pipeline = conn.pipeline();
    let foreign = pipeline.add(other.increment("n", 1));
    let patient = conn.clone().with_command_timeout(PATIENCE);
    let own = pipeline.add(patient.increment("n", 1).replay(Replay::Never));
    let mut results = pipeline.send().await;
    assert_eq!(results.take(foreign).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(results.take(own).unwrap(), 11);
    let mut transaction = conn.transaction();
    let _ticket = transaction.add(other.increment("n", 1));
    assert_eq!(transaction.send().await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(other.count("n").await.unwrap(), None);
}

#[tokio::test]
async fn thousands_of_calls_are_answered_in_order_each_key_by_itself() {
    let conn = connect("pipeline-many").await;
    let mut pipeline = conn.pipeline();
    let tickets: Vec<_> =
        (0..5_000).map(|n| pipeline.add(conn.increment(format!("n{}", n % 7), 1))).collect();
    let mut results = pipeline.send().await;
    for (n, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(results.take(ticket).unwrap(), n as i64 / 7 + 1, "call {n}");
    }
}

#[tokio::test]
async fn order_holds_over_several_links_and_before_the_first_connect() {
    let links = 3.try_into().unwrap();
    for lazy in [false, true] {
        let config = crate::shared_config("pipeline-links").command_links(links).lazy(lazy);
        let conn = Conn::connect(config).await.unwrap();
        for round in 0..50_i64 {
            let mut pipeline = conn.pipeline();
            let tickets: Vec<_> = (0..20)
                .map(|n| {
                    let list = conn.list(format!("l{round}"));
                    // What is flushed by itself between what is not.
                    if n % 3 == 0 {
                        pipeline.add(list.push_back(&n))
                    } else {
                        pipeline.add(conn.script(&PUSH).key(format!("l{round}")).value(&n).run())
                    }
                })
                .collect();
            let mut results = pipeline.send().await;
            for (n, ticket) in tickets.into_iter().enumerate() {
                assert_eq!(results.take(ticket).unwrap(), n as u64 + 1);
            }
            let all = conn.list(format!("l{round}")).range::<i32>(..).await.unwrap();
            assert_eq!(all, (0..20).collect::<Vec<_>>());
        }
    }
}

static PUSH: Script = Script::new("test.push", "return redis.call('RPUSH', KEYS[1], ARGV[1])");

#[tokio::test]
async fn nothing_in_it_sends_nothing() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let used = cost(&server, async {
        conn.pipeline().send().await.check().unwrap();
    });
    assert_eq!(used.await, "");
    let used = cost(&server, async {
        let mut pipeline = conn.pipeline();
        for n in 0..10 {
            let _ticket = pipeline.add(conn.set(format!("k{n}"), &n));
        }
        pipeline.send().await.check().unwrap();
    });
    assert_eq!(used.await, "set 10");
}

#[tokio::test]
async fn it_waits_for_the_slowest_answer_and_not_for_each() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let up = Duration::from_millis(300);
    proxy.set(Fault::Latency { up, down: Duration::ZERO });
    let mut pipeline = conn.pipeline();
    for n in 0..50 {
        let _ticket = pipeline.add(conn.set(format!("k{n}"), &n));
    }
    let started = Instant::now();
    pipeline.send().await.check().unwrap();
    let took = started.elapsed();
    assert!(took >= up && took < 10 * up, "one round trip: {took:?}");
}

#[tokio::test]
async fn more_calls_than_may_wait_are_refused_whole() {
    let server = server();
    let config = Config::builder().url(server.url()).max_waiting(10.try_into().unwrap());
    let conn = Conn::connect(config).await.unwrap();
    for (calls, fits) in [(10, true), (11, false), (10, true)] {
        let mut pipeline = conn.pipeline();
        for _ in 0..calls {
            let _ticket = pipeline.add(conn.increment("n", 1));
        }
        let checked = pipeline.send().await.check();
        assert_eq!(checked.is_ok(), fits);
        if let Err(err) = checked {
            assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err:?}");
        }
    }
    assert_eq!(conn.count("n").await.unwrap(), Some(20), "nothing of the one that was refused");
    conn.close(PATIENCE).await;
    let mut pipeline = conn.pipeline();
    let ticket = pipeline.add(conn.increment("n", 1));
    assert_eq!(pipeline.send().await.take(ticket).unwrap_err().kind(), ErrorKind::Closed);
}
