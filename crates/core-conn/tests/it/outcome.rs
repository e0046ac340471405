//! What a failed call says about whether it has run is true.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use redbrick_core_conn::{Call, Config, Conn, Error, ErrorKind, Replay, State};
use redbrick_testkit::{Cluster, Fault, Server};
use tokio::{runtime::Builder, task::JoinSet};

use crate::{PATIENCE, eventually, reach, server};

fn is_stored(server: &Server, key: &str) -> bool {
    server.command(["EXISTS", key]).expect("the server").as_int() == Some(1)
}

/// Waits, off the runtime's thread, until the server has run `command` once.
async fn ran_once(server: &Arc<Server>, command: &'static str) {
    let counting = Arc::clone(server);
    eventually(command, move || {
        counting.command_counts().is_ok_and(|counts| counts.of(command) == 1)
    })
    .await;
}

#[tokio::test]
async fn a_write_that_ran_is_unclear_although_its_repetition_was_never_sent() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let config = Config::builder().url(proxy.url()).command_timeout(Duration::from_secs(1));
    let conn = Conn::connect(config).await.unwrap();
    proxy.set(Fault::DropReplies);
    let call = tokio::spawn({
        let conn = conn.clone();
        async move { conn.set("k", &1).await }
    });
    ran_once(&server, "set").await;
    proxy.refuse();
    proxy.reset();
    let err = call.await.unwrap().unwrap_err();
    assert!(err.is_outcome_unknown(), "{err:?}");
    assert!(err.to_string().contains("nothing was sent"), "says what came after: {err}");
    assert!(is_stored(&server, "k"));
}

#[tokio::test]
async fn a_write_that_ran_is_unclear_when_the_connection_is_closed_over_it() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    proxy.set(Fault::DropReplies);
    let call = tokio::spawn({
        let conn = conn.clone();
        async move { conn.set("k", &1).await }
    });
    ran_once(&server, "set").await;
    let report = conn.close(Duration::from_millis(50)).await;
    assert_eq!(report.abandoned, 1);
    assert!(call.await.unwrap().unwrap_err().is_outcome_unknown());
    assert!(is_stored(&server, "k"));
}

#[test]
fn a_write_that_ran_is_unclear_when_its_runtime_ends() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let first = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let second = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let conn = first.block_on(Conn::connect(proxy.url())).unwrap();
    proxy.set(Fault::DropReplies);
    let call = second.spawn(async move { conn.set("k", &1).await });
    second.block_on(ran_once(&server, "set"));
    drop(first);
    assert!(second.block_on(call).unwrap().unwrap_err().is_outcome_unknown());
}

#[tokio::test]
async fn calls_that_wait_for_an_answer_are_bounded_too() {
    let server = server();
    let most = 10;
    let config = Config::builder().url(server.url()).max_waiting(most.try_into().unwrap());
    let conn = Conn::connect(config).await.unwrap();
    let paused = server.pause().unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..most * 5 {
        let conn = conn.clone();
        calls.spawn(async move { conn.increment("n", 1).await });
    }
    // On this one thread every call is made before any is answered.
    tokio::task::yield_now().await;
    paused.resume();
    let results = calls.join_all().await;
    let busy = results.iter().filter_map(|result| result.as_ref().err());
    assert!(busy.clone().all(|err| err.kind() == ErrorKind::Busy && !err.is_outcome_unknown()));
    assert_eq!(busy.count(), most * 4);
    assert_eq!(conn.count("n").await.unwrap(), Some(10));
}

#[tokio::test]
async fn a_server_that_refuses_writes_and_pings_is_up_and_serves_reads() {
    let server = Arc::new(Server::builder().password("pw").start().unwrap());
    let conn = Conn::connect(Config::builder().url(server.url()).password("pw")).await.unwrap();
    conn.set("k", &1).await.unwrap();
    // A snapshot cannot replace a directory. From its failure on, the server answers MISCONF.
    let dir = server.unix_socket().parent().unwrap();
    std::fs::create_dir(dir.join("dump.rdb")).unwrap();
    server.command(["CONFIG", "SET", "save", "3600 1000000"]).unwrap();
    server.command(["BGSAVE"]).unwrap();
    let watched = Arc::clone(&server);
    eventually("the failed snapshot", move || {
        let info = watched.command(["INFO", "persistence"]).expect("the server");
        info.as_str().is_some_and(|info| info.contains("rdb_last_bgsave_status:err"))
    })
    .await;
    let err = conn.set("k", &2).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Persistence, "{err:?}");
    assert!(err.code() == Some("MISCONF") && !err.is_outcome_unknown(), "{err}");

    let mut changes = conn.state_changes();
    server.command(["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    reach(&mut changes, State::Connected).await;
    assert_eq!(conn.get("k").await.unwrap(), Some(1));
}

async fn cluster(config: &[(&str, &str)]) -> Arc<Cluster> {
    let builder = Cluster::builder().replicas(0);
    let builder =
        config.iter().fold(builder, |builder, (name, value)| builder.config(*name, *value));
    let starting = tokio::task::spawn_blocking(move || builder.start());
    Arc::new(starting.await.expect("the start itself").expect("a cluster"))
}

fn cluster_config(cluster: &Cluster) -> redbrick_core_conn::ConfigBuilder {
    Config::builder().cluster(cluster.nodes().iter().map(|node| node.address().to_string()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_increment_counts_once_while_another_call_finds_its_slot_without_a_server() {
    let cluster = cluster(&[("cluster-require-full-coverage", "no")]).await;
    let conn = Conn::connect(cluster_config(&cluster)).await.unwrap();
    let slot = cluster.slot_of("dead").unwrap();
    let owner = cluster.slot_owner(slot).unwrap();
    for node in cluster.nodes() {
        node.command(["CLUSTER", "DELSLOTS", &slot.to_string()]).unwrap();
    }
    // Keys on the node that answers CLUSTERDOWN for the other key, over the same connection.
    let tag = (0..).map(|n| format!("live{n}")).find(|tag| {
        cluster
            .slot_of(tag)
            .and_then(|slot| cluster.slot_owner(slot))
            .is_ok_and(|node| node == owner)
    });
    let tag = tag.unwrap();
    let mut calls = JoinSet::new();
    for task in 0..16 {
        let (conn, tag) = (conn.clone(), tag.clone());
        calls.spawn(async move {
            for n in 0..100 {
                match conn.increment(format!("{{{tag}}}:{task}:{n}"), 1).await {
                    Ok(count) => assert_eq!(count, 1, "counted more than once"),
                    Err(err) => assert!(err.is_outcome_unknown() || err.is_retryable(), "{err:?}"),
                }
            }
        });
    }
    let poison = tokio::spawn({
        let conn = conn.with_command_timeout(Duration::from_millis(50));
        async move {
            loop {
                let err = conn.get::<i32>("dead").await.expect_err("nobody serves it");
                assert!(err.is_retryable(), "{err:?}");
            }
        }
    });
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    poison.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_on_the_move_is_served_by_whichever_node_has_it() {
    let cluster = cluster(&[]).await;
    let conn = Conn::connect(cluster_config(&cluster)).await.unwrap();
    conn.set("{hot}gone", &1).await.unwrap();
    let mut changes = conn.state_changes();
    let slot = cluster.slot_of("{hot}gone").unwrap();
    let from = cluster.slot_owner(slot).unwrap();
    let to = cluster.masters().unwrap().into_iter().find(|master| *master != from).unwrap();
    let migration = cluster.start_migration(slot, to).unwrap();
    while migration.move_keys(100).unwrap() > 0 {}
    assert_eq!(conn.get("{hot}gone").await.unwrap(), Some(1), "moved already");
    let mut calls = JoinSet::new();
    for task in 0..8 {
        let conn = conn.clone();
        calls.spawn(async move {
            for n in 1..=50 {
                let key = format!("{{hot}}{task}");
                assert_eq!(conn.increment(&key, 1).await.unwrap(), n);
                assert_eq!(conn.increment(format!("other{task}"), 1).await.unwrap(), n);
            }
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    migration.finish().unwrap();
    assert_eq!(conn.get("{hot}gone").await.unwrap(), Some(1));
    assert_eq!(conn.increment("{hot}7", 1).await.unwrap(), 51);
    let change = poll_fn(|cx| {
        let mut next = std::pin::pin!(changes.next());
        Poll::Ready(next.as_mut().poll(cx).is_ready())
    });
    assert!(!change.await, "the connection stayed up all the while");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_to_a_lost_node_are_never_sent_and_do_not_hold_up_the_others() {
    let cluster = cluster(&[("cluster-require-full-coverage", "no")]).await;
    let config = cluster_config(&cluster).max_waiting(50.try_into().unwrap());
    let conn = Conn::connect(config).await.unwrap();
    let mut changes = conn.state_changes();
    let key_on = |wanted: fn(usize) -> bool| {
        let mut keys = (0..).map(|n| format!("k{n}"));
        let owner = |key: &String| cluster.slot_owner(cluster.slot_of(key).unwrap()).unwrap();
        keys.find(|key| wanted(owner(key))).unwrap()
    };
    let (live, dead) = (key_on(|node| node != 0), key_on(|node| node == 0));
    cluster.nodes()[0].kill().unwrap();
    reach(&mut changes, State::Reconnecting).await;
    for n in 1..=200 {
        let given_up = tokio::time::timeout(Duration::from_millis(2), conn.increment(&dead, 1));
        assert!(given_up.await.is_err(), "no call can be made while its node is away");
        assert_eq!(conn.increment(&live, 1).await.unwrap(), n);
    }
    let hasty = conn.with_command_timeout(Duration::from_millis(50));
    let err = hasty.increment(&dead, 1).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Connect, "not busy, and surely not sent: {err:?}");
    let mut pipeline = hasty.pipeline();
    let (lost, done) =
        (pipeline.add(hasty.get::<i32>(&dead)), pipeline.add(hasty.increment(&live, 1)));
    let mut results = pipeline.send().await;
    assert_eq!(results.take(done).unwrap(), 201, "a pipeline too");
    assert_eq!(results.take(lost).unwrap_err().kind(), ErrorKind::Connect);
    let node = Arc::clone(&cluster);
    tokio::task::spawn_blocking(move || node.nodes()[0].restart()).await.unwrap().unwrap();
    reach(&mut changes, State::Connected).await;
    let patient = conn.with_command_timeout(PATIENCE);
    assert_eq!(patient.increment(&dead, 1).await.unwrap(), 1, "none of the others ran");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_do_not_know_their_own_host_are_found_where_they_were_asked() {
    // Servers before 7.0 cannot be told to keep their host to themselves.
    let silent = [("cluster-preferred-endpoint-type", "unknown-endpoint")];
    let config = if server().version().at_least(7, 0) { &silent[..] } else { &[] };
    let cluster = cluster(config).await;
    let conn = Conn::connect(cluster_config(&cluster)).await.unwrap();
    let slot = cluster.slot_of("{hot}n").unwrap();
    let from = cluster.slot_owner(slot).unwrap();
    let to = cluster.masters().unwrap().into_iter().find(|master| *master != from).unwrap();
    conn.increment("{hot}n", 1).await.unwrap();
    let migration = cluster.start_migration(slot, to).unwrap();
    while migration.move_keys(100).unwrap() > 0 {}
    assert_eq!(conn.increment("{hot}n", 1).await.unwrap(), 2, "asked for on its way");
    migration.finish().unwrap();
    assert_eq!(conn.increment("{hot}n", 1).await.unwrap(), 3, "moved");
}

#[tokio::test]
async fn a_plain_url_to_a_node_of_a_cluster_says_which_url_to_use() {
    let cluster = cluster(&[]).await;
    let conn = Conn::connect(cluster.nodes()[0].url()).await.unwrap();
    let health = conn.health().await;
    let warned = health.warnings.iter().any(|warning| warning.contains("redis-cluster://"));
    assert!(health.healthy && warned, "{health}");
    let whole = Conn::connect(cluster_config(&cluster)).await.unwrap();
    assert_eq!(whole.health().await.warnings, [""; 0]);
    let elsewhere = (0..).map(|n| format!("k{n}")).find(|key| {
        cluster.slot_of(key).and_then(|slot| cluster.slot_owner(slot)).is_ok_and(|node| node != 0)
    });
    let err = conn.set(elsewhere.unwrap(), &1).await.unwrap_err();
    assert!(err.kind() == ErrorKind::Config && !err.is_retryable(), "{err:?}");
    assert!(err.to_string().contains("redis-cluster://"), "{err}");
}

/// What becomes of a call whose reply is lost: how often its command ran, and what the caller was told.
async fn with_a_lost_reply<T: Send + 'static>(
    command: &'static str,
    call: impl for<'a> FnOnce(&'a Conn) -> Call<'a, T> + Send + 'static,
) -> (u64, Result<(), Error>) {
    let server = server();
    let proxy = server.proxy().expect("a proxy");
    let conn = Conn::connect(proxy.url()).await.expect("the server");
    // What goes through a script is known by the time it counts.
    conn.list("warm").range::<u8>(..).await.expect("a read");
    let before = server.command_counts().expect("the server").of(command);
    proxy.set(Fault::DropReplies);
    let call = tokio::spawn(async move { call(&conn).await.map(drop) });
    let counting = Arc::clone(&server);
    eventually(command, move || {
        counting.command_counts().is_ok_and(|counts| counts.of(command) > before)
    })
    .await;
    proxy.reset();
    proxy.clear();
    let outcome = call.await.expect("no panic");
    (server.command_counts().expect("the server").of(command) - before, outcome)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_the_same_when_done_twice_is_not_done_twice() {
    macro_rules! once {
        ($($command:literal: |$conn:ident| $call:expr),+ $(,)?) => {$(
            let (ran, outcome) = with_a_lost_reply($command, |$conn| $call.into()).await;
            let err = outcome.expect_err(stringify!($call));
            assert!(err.is_outcome_unknown(), "{}: {err:?}", stringify!($call));
            assert_eq!(ran, 1, "{}", stringify!($call));
        )+};
    }
    once!(
        "set": |conn| conn.set("k", &1).if_absent(),
        "set": |conn| conn.set("k", &1).if_present(),
        "incrby": |conn| conn.increment("n", 1),
        "decrby": |conn| conn.decrement("n", 1),
        "hincrby": |conn| conn.hash("h").increment("f", 1),
        "lpush": |conn| conn.list("l").push_front(&1),
        "rpush": |conn| conn.list("l").push_back(&1),
        "rpush": |conn| conn.list("l").extend([1]),
        "lpop": |conn| conn.list("l").pop_front::<u8>(),
        "rpop": |conn| conn.list("l").pop_back::<u8>(),
        "ltrim": |conn| conn.list("l").trim(..1),
        "zincrby": |conn| conn.sorted_set("s").increment(&1, 1.0),
        "get": |conn| conn.get::<u8>("k").replay(Replay::Never),
        "get": |conn| conn.get::<u8>("k").replay(Replay::IfUnsent),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_the_same_when_done_twice_is_sent_again() {
    macro_rules! again {
        ($($command:literal: |$conn:ident| $call:expr),+ $(,)?) => {$(
            let (ran, outcome) = with_a_lost_reply($command, |$conn| $call.into()).await;
            outcome.expect(stringify!($call));
            assert_eq!(ran, 2, "{}", stringify!($call));
        )+};
    }
    again!(
        "get": |conn| conn.get::<u8>("k"),
        "set": |conn| conn.set("k", &1),
        "unlink": |conn| conn.delete("k"),
        "pexpire": |conn| conn.expire("k", PATIENCE),
        "persist": |conn| conn.persist("k"),
        "pttl": |conn| conn.ttl("k"),
        "hset": |conn| conn.hash("h").set("f", &1),
        "hdel": |conn| conn.hash("h").delete("f"),
        "hgetall": |conn| conn.hash("h").get_all::<u8>(),
        "lrange": |conn| conn.list("l").range::<u8>(..),
        "sadd": |conn| conn.members("m").add(&1),
        "srem": |conn| conn.members("m").remove(&1),
        "zadd": |conn| conn.sorted_set("s").add(&1, 1.0),
        "zremrangebyscore": |conn| conn.sorted_set("s").remove_by_score(..),
        "incrby": |conn| conn.increment("n", 1).replay(Replay::Idempotent),
    );
}
