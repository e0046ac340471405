use std::time::Duration;

use redbrick_core_conn::{Bytes, Config, Conn, ErrorKind, ReadFrom};
use redbrick_testkit::{Cluster, Fault};
use tokio::time::timeout;

use super::{at_once, begin, read_on_tasks};
use crate::{PATIENCE, cost, server};

/// Stores 0 at `k:0`, and so on.
async fn fill(conn: &Conn, count: usize) {
    let mut pipeline = conn.pipeline();
    let tickets: Vec<_> =
        (0..count).map(|n| pipeline.add(conn.set(format!("k:{n}"), &n))).collect();
    let mut results = pipeline.send().await;
    for ticket in tickets {
        results.take(ticket).unwrap();
    }
}

fn values(results: Vec<redbrick_core_conn::Result<Option<usize>>>) -> Vec<Option<usize>> {
    results.into_iter().map(|result| result.unwrap()).collect()
}

#[tokio::test]
async fn reads_at_the_same_time_leave_together_and_each_has_its_own_value() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    fill(&conn, 100).await;
    let before = conn.statistics();
    let reads = cost(&server, async {
        let keys = (0..101).map(|n| conn.get::<usize>(format!("k:{n}")));
        let expected: Vec<_> = (0..100).map(Some).chain([None]).collect();
        assert_eq!(values(at_once(keys).await), expected);
    });
    // The first two find hardly anybody, the others each other: half of them leaves behind the other half.
    assert_eq!(reads.await, "get 2, mget 2");
    let used = conn.statistics().since(&before);
    assert_eq!((used.round_trips, used.batches, used.batched_calls), (4, 2, 99));
}

#[tokio::test]
async fn a_call_that_finds_nobody_is_a_plain_get() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    fill(&conn, 2).await;
    let reads = cost(&server, async {
        for n in 0..2 {
            assert_eq!(conn.get::<usize>(format!("k:{n}")).await.unwrap(), Some(n));
        }
    });
    assert_eq!(reads.await, "get 2");
}

#[tokio::test]
async fn a_key_that_several_ask_for_is_read_once() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    conn.set("big", &Bytes::from(vec![7; 4000])).await.unwrap();
    conn.set("k:1", &1_usize).await.unwrap();
    let before = proxy.reply_bytes();
    let reads = cost(&server, async {
        let calls = (0..50).map(|_| conn.get::<Bytes>("big"));
        for found in at_once(calls).await {
            assert_eq!(found.unwrap().unwrap(), vec![7; 4000]);
        }
    });
    // Two alone, and the others in two batches, who all ask for the same.
    assert_eq!(reads.await, "get 4");
    assert!(proxy.reply_bytes() - before < 18_000);

    let conn = Conn::connect(proxy.url()).await.unwrap();
    let reads = cost(&server, async {
        let calls = (0..50).map(|n| conn.get::<Bytes>(if n % 2 == 0 { "big" } else { "none" }));
        for (n, found) in at_once(calls).await.into_iter().enumerate() {
            assert_eq!(found.unwrap().is_some(), n % 2 == 0);
        }
    });
    assert_eq!(reads.await, "get 2, mget 2");
}

#[tokio::test]
async fn a_key_of_another_type_is_missing_unless_it_is_asked_for_alone() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    fill(&conn, 3).await;
    server.command(["LPUSH", "k:list", "a"]).unwrap();
    let keys = ["k:list", "k:1", "k:list", "k:2", "k:list"];
    let found = at_once(keys.map(|key| conn.get::<usize>(key))).await;
    assert_eq!(values(found), [None, Some(1), None, Some(2), None]);
    assert_eq!(conn.get::<usize>("k:list").await.unwrap(), None);
    let alone = at_once(keys.map(|key| conn.get::<usize>(key).alone())).await;
    for (key, found) in keys.into_iter().zip(alone) {
        match found {
            Ok(found) => assert!(found.is_some(), "{key}"),
            Err(err) => assert_eq!((key, err.kind()), ("k:list", ErrorKind::WrongType)),
        }
    }
}

#[tokio::test]
async fn what_is_to_be_alone_is_alone() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    fill(&conn, 8).await;
    let reads = cost(&server, async {
        let calls = (0..8).map(|n| conn.get::<usize>(format!("k:{n}")).alone());
        assert_eq!(values(at_once(calls).await), (0..8).map(Some).collect::<Vec<_>>());
    });
    assert_eq!(reads.await, "get 8");
}

#[tokio::test]
async fn a_call_that_nobody_polls_holds_up_no_other() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    fill(&conn, 3).await;
    let mut idle = [conn.get::<usize>("k:0"), conn.get("k:1"), conn.get("k:2")];
    idle.iter_mut().for_each(begin);
    let others = async {
        for n in 0..3 {
            assert_eq!(conn.get::<usize>(format!("k:{n}")).await.unwrap(), Some(n));
        }
    };
    timeout(PATIENCE, others).await.expect("they are served");
    for (n, call) in idle.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), Some(n));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_task_gets_its_own_values_whatever_the_others_do() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    fill(&conn, 1000).await;
    let given_up = conn.clone();
    // Calls that are given up at any moment, among those that are not.
    let noise = tokio::spawn(async move {
        for n in 0_usize.. {
            let call = given_up.get::<usize>(format!("k:{}", n % 1000));
            let wait = Duration::from_micros(u64::try_from(n % 200).unwrap());
            if let Ok(found) = timeout(wait, call).await {
                assert_eq!(found.unwrap(), Some(n % 1000));
            }
        }
    });
    let key = |n| format!("k:{}", n % 1001);
    read_on_tasks(&conn, 64, 200, key, |n, found| {
        assert_eq!(found.unwrap(), (n % 1001 < 1000).then_some(n % 1001));
    })
    .await;
    assert!(!noise.is_finished(), "it has seen nothing wrong");
    noise.abort();
    let mgets = server.command_counts().unwrap().of("mget");
    let gets = server.command_counts().unwrap().of("get");
    assert!(mgets > 0 && mgets + gets < 64 * 200 / 2, "{mgets} MGET and {gets} GET");
}

#[tokio::test]
async fn big_values_are_read_one_by_one() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let big = Bytes::from(vec![1; 100 * 1024]);
    for n in 0..20 {
        conn.set(format!("k:{n}"), &big).await.unwrap();
    }
    // It learns how big they are from the first ones.
    for n in 0..20 {
        assert_eq!(conn.get::<Bytes>(format!("k:{n}")).await.unwrap().unwrap(), big);
    }
    let reads = cost(&server, async {
        let calls = (0..20).map(|n| conn.get::<Bytes>(format!("k:{n}")));
        for found in at_once(calls).await {
            assert_eq!(found.unwrap().unwrap(), big);
        }
    });
    assert_eq!(reads.await, "get 20");
}

#[tokio::test]
async fn a_value_that_is_kept_does_not_keep_what_was_read_with_it() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    for n in 0..100 {
        conn.set(format!("k:{n}"), &Bytes::from(vec![2; 600])).await.unwrap();
    }
    let found = at_once((0..100).map(|n| conn.get::<Bytes>(format!("k:{n}")))).await;
    for kept in found {
        // The only owner of its bytes, which are its own: nothing else is behind them.
        let bytes = kept.unwrap().unwrap();
        assert!(bytes.is_unique());
        let own = bytes.try_into_mut().unwrap();
        assert!(own.capacity() < 1200, "{} bytes are kept", own.capacity());
    }
}

#[tokio::test]
async fn where_the_server_is_far_calls_do_not_wait_for_each_other() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    fill(&conn, 64).await;
    proxy.set(Fault::Latency { up: Duration::from_millis(10), down: Duration::from_millis(10) });
    // It learns how far that is.
    for _ in 0..10 {
        at_once((0..8).map(|n| conn.get::<usize>(format!("k:{n}")))).await;
    }
    // From now on there is time to see that each leaves before the first one has returned.
    let way = Duration::from_millis(500);
    proxy.set(Fault::Latency { up: way, down: way });
    let before = conn.statistics().round_trips;
    let mut calls = Vec::new();
    for n in 0..20_usize {
        let reader = conn.clone();
        calls.push(tokio::spawn(async move { reader.get::<usize>(format!("k:{n}")).await }));
        // Each finds those before it under way.
        let left = async {
            while conn.statistics().round_trips - before <= n as u64 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, left).await.expect("it leaves");
    }
    assert!(!calls[0].is_finished(), "none waited for the first one");
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap(), Some(n));
    }
}

#[tokio::test]
async fn on_a_cluster_those_of_one_slot_leave_together() {
    let cluster = Cluster::start().unwrap();
    let conn = Conn::connect(cluster.url()).await.unwrap();
    for n in 0..50 {
        conn.set(format!("{{one}}{n}"), &n).await.unwrap();
        conn.set(format!("k:{n}"), &n).await.unwrap();
    }
    let before = cluster.command_counts().unwrap();
    let found = at_once((0..50).map(|n| conn.get::<usize>(format!("{{one}}{n}")))).await;
    assert_eq!(values(found), (0..50).map(Some).collect::<Vec<_>>());
    let used = cluster.command_counts().unwrap().since(&before);
    assert_eq!((used.of("get"), used.of("mget")), (2, 2));

    read_on_tasks(
        &conn,
        32,
        100,
        |n| format!("k:{}", n % 50),
        |n, found| {
            assert_eq!(found.unwrap(), Some(n % 50));
        },
    )
    .await;
}

#[tokio::test]
async fn those_who_may_read_from_replicas_are_gathered_too() {
    let cluster = Cluster::builder().replicas(1).start().unwrap();
    let config = Config::builder().url(cluster.url()).read_from(ReadFrom::Replica);
    let conn = Conn::connect(config).await.unwrap();
    for n in 0..18 {
        conn.set(format!("{{r}}{n}"), &n).await.unwrap();
    }
    timeout(PATIENCE, async {
        while conn.get::<usize>("{r}17").await.unwrap() != Some(17) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the replica follows");
    let owner = cluster.slot_owner(cluster.slot_of("{r}").unwrap()).unwrap();
    let at_master = |what| cluster.nodes()[owner].command_counts().unwrap().of(what);
    timeout(PATIENCE, async {
        loop {
            let before = at_master("exists");
            conn.exists("{r}").await.unwrap();
            if at_master("exists") == before {
                return;
            }
        }
    })
    .await
    .expect("the replica answers");
    let (before, all) = (at_master("mget"), cluster.command_counts().unwrap().of("mget"));
    let found = at_once((0..18).map(|n| conn.get::<usize>(format!("{{r}}{n}")))).await;
    assert_eq!(values(found), (0..18).map(Some).collect::<Vec<_>>());
    assert_eq!(cluster.command_counts().unwrap().of("mget"), all + 1);
    assert_eq!(at_master("mget"), before, "a replica has answered");
    let master = conn.with_read_from(ReadFrom::Master);
    let found = at_once((0..18).map(|n| master.get::<usize>(format!("{{r}}{n}")))).await;
    assert_eq!(values(found), (0..18).map(Some).collect::<Vec<_>>());
}
