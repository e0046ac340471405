//! Transactions.

mod faults;
mod refusals;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redbrick_core_conn::{Conn, ErrorKind, Script};
use redbrick_testkit::{Fault, Topology, shared};
use tokio::time::Instant;

use crate::{PATIENCE, assert_wrong_type, connect, cost, server};

static COUNT: Script = Script::new("test.count", "return redis.call('INCR', KEYS[1])");

#[tokio::test]
async fn every_kind_of_call_has_its_result() {
    let conn = connect("transaction").await;
    conn.list("{t}l").extend([1, 2, 3]).await.unwrap();
    let mut transaction = conn.transaction();
    assert!(transaction.is_empty());
    let missing = transaction.add(conn.get::<String>("{t}missing"));
    assert_eq!(transaction.len(), 1);
    let set = transaction.add(conn.set("{t}k", "v").time_to_live(PATIENCE));
    let absent = transaction.add(conn.set("{t}k", "w").if_absent());
    let present = transaction.add(conn.set("{t}k", "x").if_present());
    let get = transaction.add(conn.get::<String>("{t}k"));
    let exists = transaction.add(conn.exists("{t}k"));
    let persist = transaction.add(conn.persist("{t}k"));
    let expire = transaction.add(conn.expire("{t}k", PATIENCE));
    let ttl = transaction.add(conn.ttl("{t}k"));
    let up = transaction.add(conn.increment("{t}n", 5));
    let down = transaction.add(conn.decrement("{t}n", 2));
    let count = transaction.add(conn.count("{t}n"));
    let script = transaction.add(conn.script(&COUNT).key("{t}n").run::<i64>());
    let nothing = transaction.add(conn.list("{t}l").range::<u8>(..0));
    let hash = conn.hash("{t}h");
    let field = transaction.add(hash.set("f", &1));
    let fields = transaction.add(hash.set_many([("g", 2), ("h", 3)]));
    let hget = transaction.add(hash.get::<u8>("f"));
    let has = transaction.add(hash.contains("f"));
    let hcount = transaction.add(hash.increment("n", 4));
    let number = transaction.add(hash.count("n"));
    let gone = transaction.add(hash.delete_many(["g", "n"]));
    let fewer = transaction.add(hash.delete("h"));
    let len = transaction.add(hash.len());
    let all = transaction.add(hash.get_all::<u8>());
    let list = conn.list("{t}l");
    let range = transaction.add(list.range::<u8>(1..));
    let front = transaction.add(list.push_front(&0));
    let back = transaction.add(list.push_back(&4));
    let first = transaction.add(list.pop_front::<u8>());
    let last = transaction.add(list.pop_back::<u8>());
    let trim = transaction.add(list.trim(..2));
    let llen = transaction.add(list.len());
    let members = conn.members("{t}m");
    let member = transaction.add(members.add("a"));
    let both = transaction.add(members.extend(["a", "b"]));
    let out = transaction.add(members.remove("a"));
    let within = transaction.add(members.contains("a"));
    let every = transaction.add(members.all::<String>());
    let card = transaction.add(members.len());
    let sorted = conn.sorted_set("{t}s");
    let added = transaction.add(sorted.add("a", 1.5));
    let raised = transaction.add(sorted.increment("a", 0.25));
    let score = transaction.add(sorted.score("a"));
    let none = transaction.add(sorted.score("b"));
    let ranked = transaction.add(sorted.range::<String>(..));
    let scored = transaction.add(sorted.range_by_score::<String>(1.0..));
    let zcard = transaction.add(sorted.len());
    let removed = transaction.add(sorted.remove_by_score(..2.0));
    let absentee = transaction.add(sorted.remove("a"));
    let deleted = transaction.add(conn.delete("{t}k"));
    let mut results = transaction.send().await.unwrap();
    results.check().unwrap();

    assert_eq!(results.take(missing).unwrap(), None);
    results.take(set).unwrap();
    assert!(!results.take(absent).unwrap() && results.take(present).unwrap());
    assert_eq!(results.take(get).unwrap().as_deref(), Some("x"));
    assert!(results.take(exists).unwrap());
    assert!(!results.take(persist).unwrap() && results.take(expire).unwrap());
    assert!(matches!(results.take(ttl).unwrap(), redbrick_core_conn::Ttl::Expires(_)));
    assert_eq!(results.take(up).unwrap(), 5);
    assert_eq!(results.take(down).unwrap(), 3);
    assert_eq!(results.take(count).unwrap(), Some(3));
    assert_eq!(results.take(script).unwrap(), 4);
    assert_eq!(results.take(nothing).unwrap(), [0; 0]);
    assert!(results.take(field).unwrap());
    assert_eq!(results.take(fields).unwrap(), 2);
    assert_eq!(results.take(hget).unwrap(), Some(1));
    assert!(results.take(has).unwrap());
    assert_eq!(results.take(hcount).unwrap(), 4);
    assert_eq!(results.take(number).unwrap(), Some(4));
    assert_eq!(results.take(gone).unwrap(), 2);
    assert!(results.take(fewer).unwrap());
    assert_eq!(results.take(len).unwrap(), 1);
    assert_eq!(results.take(all).unwrap().into_iter().collect::<Vec<_>>(), [("f".to_owned(), 1)]);
    assert_eq!(results.take(range).unwrap(), [2, 3]);
    assert_eq!(results.take(front).unwrap(), 4);
    assert_eq!(results.take(back).unwrap(), 5);
    assert_eq!(results.take(first).unwrap(), Some(0));
    assert_eq!(results.take(last).unwrap(), Some(4));
    results.take(trim).unwrap();
    assert_eq!(results.take(llen).unwrap(), 2);
    assert!(results.take(member).unwrap());
    assert_eq!(results.take(both).unwrap(), 1);
    assert!(results.take(out).unwrap());
    assert!(!results.take(within).unwrap());
    assert_eq!(results.take(every).unwrap(), ["b"]);
    assert_eq!(results.take(card).unwrap(), 1);
    assert!(results.take(added).unwrap());
    assert_eq!(results.take(raised).unwrap(), 1.75);
    assert_eq!(results.take(score).unwrap(), Some(1.75));
    assert_eq!(results.take(none).unwrap(), None);
    assert_eq!(results.take(ranked).unwrap(), [("a".to_owned(), 1.75)]);
    assert_eq!(results.take(scored).unwrap(), [("a".to_owned(), 1.75)]);
    assert_eq!(results.take(zcard).unwrap(), 1);
    assert_eq!(results.take(removed).unwrap(), 1);
    assert!(!results.take(absentee).unwrap());
    assert!(results.take(deleted).unwrap());
}

#[tokio::test]
async fn an_error_within_leaves_the_others_done() {
    let conn = connect("transaction-errors").await;
    conn.set("{t}text", "x").await.unwrap();
    let mut transaction = conn.transaction();
    let first = transaction.add(conn.increment("{t}n", 1));
    let wrong = transaction.add(conn.list("{t}text").push_back(&1));
    let nested = transaction.add(conn.list("{t}text").range::<u8>(..));
    let shape = transaction.add(conn.get::<u8>("{t}text"));
    let script = transaction.add(conn.script(&COUNT).key("{t}text").run::<i64>());
    let last = transaction.add(conn.increment("{t}n", 1));
    let mut results = transaction.send().await.unwrap();
    assert_wrong_type!(async { results.take(wrong) }, async { results.take(nested) });
    assert_eq!(results.take(shape).unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(results.take(script).unwrap_err().kind(), ErrorKind::Server);
    assert_eq!(results.take(first).unwrap(), 1);
    assert_eq!(results.take(last).unwrap(), 2);
}

#[tokio::test]
async fn what_cannot_be_sent_whole_is_not_sent() {
    let conn = connect("transaction-refused").await;
    let mut transaction = conn.transaction();
    let _first = transaction.add(conn.increment("{t}n", 1));
    let _bad = transaction.add(conn.expire("{t}n", Duration::ZERO));
    let err = transaction.send().await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err:?}");
    let mut transaction = conn.transaction();
    let _first = transaction.add(conn.increment("a", 1));
    let _other = transaction.add(conn.increment("b", 1));
    let sent = transaction.send().await;
    if shared().topology() == Topology::Cluster {
        let err = sent.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err:?}");
        assert_eq!(conn.count("a").await.unwrap(), None);
    } else {
        sent.unwrap().check().unwrap();
    }
    assert_eq!(conn.count("{t}n").await.unwrap(), None);
}

#[tokio::test]
async fn it_costs_one_round_trip_and_nothing_in_it_sends_nothing() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let used = cost(&server, async {
        conn.transaction().send().await.unwrap().check().unwrap();
        let mut transaction = conn.transaction();
        let ticket = transaction.add(conn.members("m").extend([0; 0]));
        assert_eq!(transaction.send().await.unwrap().take(ticket).unwrap(), 0);
    });
    assert_eq!(used.await, "");
    let connections = crate::client_list(&server).len();
    let mut first = conn.transaction();
    let _ticket = first.add(conn.get::<i32>("k0"));
    let used = cost(&server, async { first.send().await.unwrap().check().unwrap() });
    assert_eq!(used.await, "discard 1, exec 1, get 1, multi 2", "the link asks whether it may");
    let used = cost(&server, async {
        let mut transaction = conn.transaction();
        for n in 0..10 {
            let _ticket = transaction.add(conn.set(format!("k{n}"), &n));
        }
        let _all = transaction.add(conn.members("m").all::<u8>());
        transaction.send().await.unwrap().check().unwrap();
    });
    assert_eq!(used.await, "exec 1, multi 1, set 10, smembers 1");
    assert_eq!(crate::client_list(&server).len(), connections + 1, "a link of its own");

    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let mut transaction = conn.transaction();
    let _ticket = transaction.add(conn.get::<i32>("k0"));
    transaction.send().await.unwrap().check().unwrap();
    let up = Duration::from_millis(300);
    proxy.set(Fault::Latency { up, down: Duration::ZERO });
    let mut transaction = conn.transaction();
    for n in 0..10 {
        let _ticket = transaction.add(conn.get::<i32>(format!("k{n}")));
    }
    let started = Instant::now();
    transaction.send().await.unwrap().check().unwrap();
    let took = started.elapsed();
    assert!(took >= up && took < 4 * up, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_see_half_of_it_and_each_gets_its_own_results() {
    let conn = connect("transaction-atomic").await;
    let running = Arc::new(AtomicBool::new(true));
    let writers: Vec<_> = (0..6)
        .map(|task| {
            let conn = conn.clone();
            tokio::spawn(async move {
                for round in 0..60 {
                    let mut transaction = conn.transaction();
                    let a = transaction.add(conn.increment("{t}a", 1));
                    let own: Vec<_> = (0..40)
                        .map(|n| {
                            let key = format!("{{t}}own:{task}:{n}");
                            let _set = transaction.add(conn.set(&key, &(round, n)));
                            transaction.add(conn.get::<(i32, i32)>(&key))
                        })
                        .collect();
                    let b = transaction.add(conn.increment("{t}b", 1));
                    let mut results = transaction.send().await.unwrap();
                    results.check().unwrap();
                    assert_eq!(results.take(a).unwrap(), results.take(b).unwrap());
                    for (n, ticket) in (0..).zip(own) {
                        assert_eq!(results.take(ticket).unwrap(), Some((round, n)));
                    }
                }
            })
        })
        .collect();
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (conn, running) = (conn.clone(), Arc::clone(&running));
            tokio::spawn(async move {
                let mut seen = 0;
                while running.load(Ordering::Relaxed) {
                    let mut transaction = conn.transaction();
                    let a = transaction.add(conn.count("{t}a"));
                    let b = transaction.add(conn.count("{t}b"));
                    let mut results = transaction.send().await.unwrap();
                    assert_eq!(results.take(a).unwrap(), results.take(b).unwrap());
                    seen += 1;
                }
                seen
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    running.store(false, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 10);
    }
    assert_eq!(conn.count("{t}a").await.unwrap(), Some(360));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_calls_stay_in_one_piece() {
    let conn = connect("transaction-many").await;
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let conn = conn.clone();
            tokio::spawn(async move {
                for _ in 0..3 {
                    let mut transaction = conn.transaction();
                    let tickets: Vec<_> =
                        (0..1_000).map(|_| transaction.add(conn.increment("n", 1))).collect();
                    let mut results = transaction.send().await.unwrap();
                    let mut counts =
                        tickets.into_iter().map(|ticket| results.take(ticket).unwrap());
                    let first = counts.next().unwrap();
                    assert_eq!(first % 1_000, 1, "whole ones came before");
                    assert!(counts.eq(first + 1..first + 1_000));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}
