//! Reads from replicas.

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Config, Confirm, Conn, ReadFrom, Script};
use redbrick_testkit::{Cluster, CommandCounts, Sentinel, Server};

use crate::{PATIENCE, assert_wrong_type, eventually};

static READS: Script = Script::new("test.reads", "return redis.call('EXISTS', KEYS[1])");

/// What both kinds of server have been asked.
struct Counts {
    masters: CommandCounts,
    replicas: CommandCounts,
}

async fn reads_and_writes(conn: &Conn, keys: &[String]) {
    for key in keys {
        conn.set(key, key).await.expect("a write");
        conn.get::<String>(key).await.expect("a read");
        conn.exists(key).await.expect("a read");
        conn.ttl(key).await.expect("a read");
        conn.get_many::<String, _>([key]).await.expect("a read");
        let list = conn.list(format!("list:{key}"));
        list.push_back("x").await.expect("a write");
        list.range::<String>(..).await.expect("a read");
        list.len().await.expect("a read");
    }
}

fn check(counts: &Counts, keys: u64) {
    for read in ["get", "exists", "pttl", "mget", "lrange", "llen"] {
        assert_eq!(counts.masters.of(read), 0, "{read}");
        assert_eq!(counts.replicas.of(read), keys, "{read}");
    }
    assert_eq!(counts.masters.of("set"), keys);
    assert_eq!(counts.masters.of("rpush"), keys);
}

/// Waits until `conn` asks the replicas alone.
async fn settled(conn: &Conn, replicas: impl Fn() -> u64 + Send + 'static, reads: u64) {
    let runtime = tokio::runtime::Handle::current();
    let conn = conn.clone();
    eventually("links to the replicas", move || {
        let before = replicas();
        for n in 0..reads {
            runtime.block_on(conn.exists(format!("settled:{n}"))).expect("a read");
        }
        replicas() == before + reads
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_cluster_replicas_answer_reads_and_masters_the_rest() {
    let starting = tokio::task::spawn_blocking(Cluster::start);
    let cluster = Arc::new(starting.await.unwrap().unwrap());
    // A cluster names its replicas when they have got something from their masters.
    for n in 0..40 {
        cluster.command(["SET", &format!("seed:{n}"), "x"]).unwrap();
    }
    let listing = Arc::clone(&cluster);
    eventually("replicas with an address", move || {
        listing.nodes().iter().all(|node| {
            let slots = node.command(["CLUSTER", "SLOTS"]).unwrap();
            slots.as_array().unwrap().iter().all(|range| range.as_array().unwrap().len() == 4)
        })
    })
    .await;
    let config = Config::builder().url(cluster.url()).read_from(ReadFrom::Replica);
    let conn = Conn::connect(config).await.unwrap();
    let sum = |cluster: &Cluster, nodes: &[usize]| {
        let mut all = CommandCounts::default();
        for node in nodes {
            all += &cluster.nodes()[*node].command_counts().expect("the node");
        }
        all
    };
    let (masters, replicas) = (cluster.masters().unwrap(), cluster.replicas().unwrap());
    let counting = {
        let (cluster, replicas) = (Arc::clone(&cluster), replicas.clone());
        move || sum(&cluster, &replicas).of("exists")
    };
    settled(&conn, counting, 60).await;
    let before = [sum(&cluster, &masters), sum(&cluster, &replicas)];
    let since = || Counts {
        masters: sum(&cluster, &masters).since(&before[0]),
        replicas: sum(&cluster, &replicas).since(&before[1]),
    };
    let keys: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
    reads_and_writes(&conn, &keys).await;
    check(&since(), 40);

    // Pipelines, transactions, scripts and whatever is asked for it read from masters.
    let gets = since();
    let mut pipeline = conn.pipeline();
    let _get = pipeline.add(conn.get::<String>("k0"));
    pipeline.send().await.check().unwrap();
    let mut transaction = conn.transaction();
    let _get = transaction.add(conn.get::<String>("k0"));
    transaction.send().await.unwrap().check().unwrap();
    assert!(conn.script(&READS).key("k0").run::<bool>().await.unwrap());
    conn.with_read_from(ReadFrom::Master).get::<String>("k0").await.unwrap();
    let now = since();
    assert_eq!(now.masters.of("get"), gets.masters.of("get") + 3);
    assert_eq!(now.masters.of("exists"), 1);
    assert_eq!(now.replicas.of("get"), gets.replicas.of("get"));

    // An error is the replica's own, and its link goes on.
    for master in &masters {
        cluster.nodes()[*master].command(["WAIT", "1", "5000"]).unwrap();
    }
    assert_wrong_type!(conn.list("k0").len(), conn.list("k0").range::<u8>(..));
    assert_eq!(conn.get::<String>("k0").await.unwrap().as_deref(), Some("k0"));

    // Without its replica the master answers.
    for replica in &replicas {
        cluster.nodes()[*replica].kill().unwrap();
    }
    let hasty = conn.with_command_timeout(Duration::from_secs(3));
    for key in &keys {
        assert_eq!(hasty.get::<String>(key).await.unwrap().as_ref(), Some(key));
    }
    assert_eq!(hasty.list("list:k0").range::<String>(..).await.unwrap(), ["x"]);
    conn.flush(Confirm::DeleteEveryKey).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_sentinels_the_replica_answers_reads_and_the_master_the_rest() {
    let starting = tokio::task::spawn_blocking(Sentinel::start);
    let sentinel = Arc::new(starting.await.unwrap().unwrap());
    let config = Config::builder().url(sentinel.url()).read_from(ReadFrom::Replica);
    let conn = Conn::connect(config).await.unwrap();
    let asking = Arc::clone(&sentinel);
    let counting = move || {
        let replica = asking.replica().expect("the replica");
        replica.command_counts().expect("the replica").of("exists")
    };
    settled(&conn, counting, 10).await;
    let (master, replica) = (sentinel.master().unwrap(), sentinel.replica().unwrap());
    let before = [master, replica].map(|server| server.command_counts().unwrap());
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    reads_and_writes(&conn, &keys).await;
    check(
        &Counts {
            masters: master.command_counts().unwrap().since(&before[0]),
            replicas: replica.command_counts().unwrap().since(&before[1]),
        },
        20,
    );
    replica.kill().unwrap();
    let hasty = conn.with_command_timeout(Duration::from_secs(3));
    for key in &keys {
        assert_eq!(hasty.get::<String>(key).await.unwrap().as_ref(), Some(key));
    }
}

fn replica_of(master: &Server) -> Server {
    Server::builder()
        .config("replicaof", format!("127.0.0.1 {}", master.port()))
        .config("repl-diskless-sync-delay", "0")
        .start()
        .expect("a replica")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_master_names_its_replicas_and_they_are_used_when_they_come() {
    let master = Arc::new(Server::start().unwrap());
    let config = Config::builder().url(master.url()).read_from(ReadFrom::Replica);
    let conn = Conn::connect(config).await.unwrap();
    conn.set("k", &1).await.unwrap();
    assert_eq!(conn.get::<i32>("k").await.unwrap(), Some(1), "there is none yet");
    let replica = Arc::new(replica_of(&master));
    // A change of the layout that a call does not run into is seen in half a minute only, so a new one is asked.
    let listing = Arc::clone(&master);
    eventually("the replica", move || {
        listing.command(["INFO", "replication"]).unwrap().as_str().unwrap().contains("state=online")
    })
    .await;
    let reading = Arc::clone(&replica);
    eventually("its data", move || {
        reading.command(["EXISTS", "k"]).is_ok_and(|found| found.as_int() == Some(1))
    })
    .await;
    let config = Config::builder().url(master.url()).read_from(ReadFrom::Replica);
    let conn = Conn::connect(config).await.unwrap();
    let counting = Arc::clone(&replica);
    settled(&conn, move || counting.command_counts().unwrap().of("exists"), 5).await;
    assert_eq!(conn.get::<i32>("k").await.unwrap(), Some(1));
    assert_eq!(conn.health().await.warnings, [""; 0]);
    replica.kill().unwrap();
    let hasty = conn.with_command_timeout(PATIENCE);
    assert_eq!(hasty.get::<i32>("k").await.unwrap(), Some(1));
    conn.set("k", &2).await.unwrap();
    let warnings = hasty.health().await.warnings;
    assert!(warnings.iter().any(|warning| warning.contains("no replica is up")), "{warnings:?}");

    // Who does not know replicas cannot be told to read from them.
    let plain = Conn::connect(master.url()).await.unwrap().with_read_from(ReadFrom::Replica);
    assert_eq!(plain.get::<i32>("k").await.unwrap(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lost_its_master_and_serves_nothing_is_made_up_for_by_the_master() {
    let master = Arc::new(Server::start().unwrap());
    let replica = Arc::new(replica_of(&master));
    let listing = Arc::clone(&master);
    eventually("the replica", move || {
        listing.command(["INFO", "replication"]).unwrap().as_str().unwrap().contains("state=online")
    })
    .await;
    let config = Config::builder().url(master.url()).read_from(ReadFrom::Replica);
    let conn = Conn::connect(config).await.unwrap();
    conn.set("k", &1).await.unwrap();
    let counting = Arc::clone(&replica);
    settled(&conn, move || counting.command_counts().unwrap().of("exists"), 5).await;
    replica.command(["CONFIG", "SET", "replica-serve-stale-data", "no"]).unwrap();
    replica.command(["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    assert_eq!(conn.get::<i32>("k").await.unwrap(), Some(1));
}

/// What other links wrote before counts as well, and nobody waits meanwhile who did not ask for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_waits_until_replicas_have_what_it_wrote() {
    let master = Arc::new(Server::start().unwrap());
    let conn = Conn::connect(master.url()).await.unwrap();
    let short = Duration::from_millis(300);
    let (_, alone) = conn.increment("n", 1).replicated(1, short).await.unwrap();
    assert_eq!(alone, 0, "there is none");
    let replica = Arc::new(replica_of(&master));
    let (asking, runtime) = (conn.clone(), tokio::runtime::Handle::current());
    eventually("a replica that is up to date", move || {
        runtime.block_on(asking.increment("n", 1).replicated(1, short)).unwrap().1 == 1
    })
    .await;
    let count = conn.count("n").await.unwrap().unwrap();
    let paused = replica.pause().unwrap();
    conn.set("before", &1).await.unwrap();
    let waiting = tokio::spawn({
        let conn = conn.clone();
        async move { conn.increment("n", 1).replicated(1, PATIENCE).await }
    });
    let began = std::time::Instant::now();
    let (_, missing) = conn.increment("m", 1).replicated(1, short).await.unwrap();
    assert_eq!(missing, 0, "the replica stands still");
    assert!(began.elapsed() >= short);
    for _ in 0..100 {
        conn.exists("before").await.unwrap();
    }
    assert!(!waiting.is_finished());
    drop(paused);
    assert_eq!(waiting.await.unwrap().unwrap(), (count + 1, 1));
    for key in ["n", "before"] {
        let there = replica.command(["EXISTS", key]).unwrap();
        assert_eq!(there.as_int(), Some(1), "{key}");
    }
    // What is given up holds up nothing.
    let paused = replica.pause().unwrap();
    let given_up = conn.increment("n", 1).replicated(1, PATIENCE);
    assert!(tokio::time::timeout(short, given_up).await.is_err());
    drop(paused);
    let (_, count) = conn.increment("n", 1).replicated(1, PATIENCE).await.unwrap();
    assert_eq!(count, 1);
}

#[tokio::test]
async fn a_call_that_fails_says_so_and_is_not_waited_for() {
    let conn = crate::connect("replicated-fails").await;
    conn.list("list").push_back("x").await.unwrap();
    let error = conn.increment("list", 1).replicated(1, PATIENCE).await.unwrap_err();
    assert_eq!(error.kind(), redbrick_core_conn::ErrorKind::WrongType, "{error:?}");
    assert_eq!(conn.increment("n", 1).replicated(0, PATIENCE).await.unwrap().0, 1);
}
