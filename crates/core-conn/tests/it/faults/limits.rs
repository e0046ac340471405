//! Servers that refuse: what they refuse, until when, and what goes on meanwhile.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use redbrick_core_conn::{Config, Conn, Error, ErrorKind, Script, State};
use redbrick_testkit::Server;
use tokio::time::Instant;

use super::{Load, REPLACED, SLACK, count, forward, measured};
use crate::{PATIENCE, reach, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_clients_come_back_under_load() {
    let server = server();
    let config = Config::builder().url(server.url()).command_links(2.try_into().unwrap());
    let conn = Conn::connect(config).await.unwrap();
    let mut load = Load::start(&conn, |n| format!("n{}", n % 8));
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        load.works_after(Instant::now()).await;
        let killed = Instant::now();
        let of_them = server.command(["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
        assert!(of_them.as_int() >= Some(1), "{of_them:?}");
        load.works_after(killed).await;
        longest = longest.max(killed.elapsed());
    }
    measured("10 x CLIENT KILL, the longest until calls worked", Instant::now() - longest);
    assert!(longest < SLACK, "{longest:?}");
    let calls = load.end().await;
    let tally = calls.tally();
    assert_eq!(tally.failed, 0, "what was not sent is sent later: {tally:?}");
    calls.explain(|key| count(&server, key));
}

#[tokio::test]
async fn a_server_without_room_for_a_client_is_asked_again_until_it_has_some() {
    let server = Server::builder().config("maxclients", "4").start().unwrap();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let mut changes = conn.state_changes();
    proxy.refuse();
    proxy.reset();
    reach(&mut changes, State::Reconnecting).await;
    let mut others = Vec::new();
    let refused = tokio::task::spawn_blocking(move || {
        loop {
            // The server speaks first to those whom it has no room for, and to nobody else.
            let mut other = TcpStream::connect(server.address()).unwrap();
            other.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let mut answer = [0; 64];
            match other.read(&mut answer) {
                Ok(read) if read > 0 => return (server, others, answer),
                _ => others.push(other),
            }
        }
    });
    let (_server, others, answer) = refused.await.unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("max number of clients"));
    proxy.accept().unwrap();

    let hasty = conn.with_command_timeout(Duration::from_secs(1));
    let err = hasty.increment("n", 1).await.unwrap_err();
    assert!(err.kind() == ErrorKind::Connect && !err.is_outcome_unknown(), "{err:?}");
    drop(others);
    reach(&mut changes, State::Connected).await;
    assert_eq!(conn.increment("n", 1).await.unwrap(), 1, "the first one never ran");
}

#[tokio::test]
async fn a_server_out_of_memory_refuses_writes_serves_reads_and_recovers() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    conn.set("k", &1).await.unwrap();
    conn.increment("n", 1).await.unwrap();
    conn.set("big", &"x".repeat(1 << 20)).await.unwrap();
    server.command(["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let started = Instant::now();
    for result in [conn.set("k", &2).await, conn.increment("n", 1).await.map(drop)] {
        let err = result.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::OutOfMemory, "{err:?}");
        assert!(err.is_retryable() && !err.is_outcome_unknown(), "{err:?}");
    }
    assert!(started.elapsed() < SLACK, "at once");
    assert_eq!(conn.get("k").await.unwrap(), Some(1));
    assert_eq!(conn.count("n").await.unwrap(), Some(1));
    assert!(conn.is_connected());
    // Freeing memory is allowed, and so is what the others need it for then.
    assert!(conn.delete("big").await.unwrap());
    server.command(["CONFIG", "SET", "maxmemory", "100mb"]).unwrap();
    conn.set("k", &2).await.unwrap();
    assert_eq!(conn.increment("n", 1).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_became_a_replica_refuses_writes_until_it_is_one_again() {
    let (server, master) = (server(), server());
    let conn = Conn::connect(server.url()).await.unwrap();
    conn.increment("n", 1).await.unwrap();
    let port = master.port().to_string();
    server.command(["REPLICAOF", "127.0.0.1", &port]).unwrap();
    let err = conn.increment("n", 1).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::ReadOnly, "{err:?}");
    assert!(err.is_retryable() && !err.is_outcome_unknown(), "{err:?}");

    // Calls that wait find it a master again; those that ran out of attempts surely did not run.
    let mut load = Load::start(&conn, |_| "m".to_owned());
    server.command(["REPLICAOF", "NO", "ONE"]).unwrap();
    let back = Instant::now();
    load.works_after(back).await;
    let took = measured("READONLY: back after", back);
    assert!(took < SLACK, "{took:?}");
    let tally = load.end().await.tally();
    assert_eq!(tally.unknown, 0, "{tally:?}");
    assert_eq!(count(&server, "m"), tally.done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_became_a_replica_is_left_for_the_one_behind_its_address() {
    let (server, master) = (server(), server());
    let target = Arc::new(AtomicU16::new(server.port()));
    let port = forward(Arc::clone(&target)).await;
    let conn = Conn::connect(format!("redis://127.0.0.1:{port}")).await.unwrap();
    let transact = async || {
        let mut transaction = conn.transaction();
        let _ = transaction.add(conn.set("t", &1));
        transaction.send().await?.check()
    };
    transact().await.unwrap();
    let mut load = Load::start(&conn, |_| "n".to_owned());
    load.works_after(Instant::now()).await;
    target.store(master.port(), Ordering::Relaxed);
    server.command(["REPLICAOF", "127.0.0.1", &master.port().to_string()]).unwrap();
    let swapped = Instant::now();
    load.works_after(swapped).await;
    let took = measured("READONLY: the master behind the same address found after", swapped);
    assert!(took < REPLACED + SLACK, "{took:?}");
    while let Err(err) = transact().await {
        assert_eq!(err.kind(), ErrorKind::ReadOnly, "{err:?}");
        assert!(swapped.elapsed() < REPLACED + SLACK, "the link for transactions stays");
    }
    let tally = load.end().await.tally();
    assert!(count(&master, "n") > 0, "{tally:?}");
    assert_eq!(tally.unknown, 0, "the link to the old one was not cut: {tally:?}");
}

/// Numbers of clients start anew with each server: a stuck link's is that of somebody else at the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_to_a_server_that_vanished_takes_no_stranger_with_it() {
    let (server, next) = (server(), server());
    let target = Arc::new(AtomicU16::new(server.port()));
    let port = forward(Arc::clone(&target)).await;
    let conn = Conn::connect(format!("redis://127.0.0.1:{port}")).await.unwrap();
    conn.set("k", &1).await.unwrap();
    let mut strangers: Vec<_> =
        (0..40).map(|_| TcpStream::connect(next.address()).unwrap()).collect();
    let mut ping = |stranger: &mut TcpStream| {
        stranger.write_all(b"PING\r\n").unwrap();
        let mut pong = [0; 7];
        stranger.read_exact(&mut pong).is_ok() && pong == *b"+PONG\r\n"
    };
    assert!(strangers.iter_mut().all(&mut ping));
    target.store(next.port(), Ordering::Relaxed);
    let vanished = server.pause().unwrap();
    let stuck = Instant::now();
    assert_eq!(conn.get::<i32>("k").await.unwrap(), None, "from the next one");
    let took = measured("a vanished server: the next one found after", stuck);
    assert!(took < REPLACED + SLACK, "{took:?}");
    assert!(strangers.iter_mut().all(&mut ping), "a stranger's connection was closed");
    vanished.resume();
}

static COUNT: Script = Script::new("test.count", "return redis.call('INCR', KEYS[1])");

/// Fails unless `call`, which counts to one, finds the master that took the place of a server which became its replica.
async fn finds_the_master(call: impl AsyncFn(&Conn) -> Result<i64, Error>) {
    let (server, master) = (server(), server());
    let target = Arc::new(AtomicU16::new(server.port()));
    let port = forward(Arc::clone(&target)).await;
    let conn = Conn::connect(format!("redis://127.0.0.1:{port}")).await.expect("a server");
    call(&conn).await.expect("a count");
    target.store(master.port(), Ordering::Relaxed);
    server.command(["REPLICAOF", "127.0.0.1", &master.port().to_string()]).expect("a replica");
    let swapped = Instant::now();
    while let Err(err) = call(&conn).await {
        assert_eq!(err.kind(), ErrorKind::ReadOnly, "{err:?}");
        assert!(swapped.elapsed() < REPLACED + SLACK, "the link stays");
    }
    assert_eq!(count(&master, "n"), 1);
}

#[tokio::test]
async fn scripts_alone_find_the_master_behind_the_same_address_too() {
    finds_the_master(async |conn| conn.script(&COUNT).key("n").run().await).await;
}

#[tokio::test]
async fn scripts_in_transactions_find_the_master_behind_the_same_address_too() {
    finds_the_master(async |conn| {
        let mut transaction = conn.transaction();
        let count = transaction.add(conn.script(&COUNT).key("n").run());
        transaction.send().await?.take(count)
    })
    .await;
}

/// About 200 MB, in values of 1,000 bytes.
fn fill(server: &Server) {
    server.command(["DEBUG", "POPULATE", "200000", "filler", "1000"]).expect("room for it");
}

/// How often the server has answered that it is loading.
fn refused_while_loading(server: &Server) -> u64 {
    let info = server.command(["INFO", "errorstats"]).expect("the server");
    let line = info.as_str().and_then(|info| {
        info.lines().find_map(|line| line.strip_prefix("errorstat_LOADING:count="))
    });
    line.map_or(0, |count| count.trim_end().parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_to_a_server_that_is_loading_wait_or_surely_did_not_run() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    fill(&server);
    let mut load = Load::start(&conn.with_command_timeout(PATIENCE), |_| "n".to_owned());
    load.works_after(Instant::now()).await;
    let reloading = Arc::clone(&server);
    let reloaded = tokio::task::spawn_blocking(move || reloading.command(["DEBUG", "RELOAD"]));
    reloaded.await.unwrap().unwrap();
    let loaded = Instant::now();
    load.works_after(loaded).await;
    let took = measured("DEBUG RELOAD of 200 MB: back after", loaded);
    assert!(took < SLACK, "{took:?}");
    let tally = load.end().await.tally();
    assert!(refused_while_loading(&server) > 0, "calls came while it was loading");
    assert_eq!(tally.unknown, 0, "the link was kept: {tally:?}");
    assert_eq!(count(&server, "n"), tally.done, "{tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_with_200_mb_is_waited_for() {
    // A short sleep at every tenth key: a second in all.
    let server = Arc::new(Server::builder().config("key-load-delay", "-10").start().unwrap());
    let conn = Conn::connect(server.url()).await.unwrap().with_command_timeout(PATIENCE);
    fill(&server);
    conn.set("k", &1).await.unwrap();
    server.command(["SAVE"]).unwrap();
    let restarting = Arc::clone(&server);
    let mut changes = conn.state_changes();
    let restarted = tokio::task::spawn_blocking(move || {
        restarting.restart().unwrap();
        Instant::now()
    });
    reach(&mut changes, State::Reconnecting).await;
    let down = Instant::now();
    let value = conn.get("k").await;
    assert_eq!(value.unwrap(), Some(1), "nobody is answered before the data is there");
    let answered = measured("restart with 200 MB: answered after", down);
    assert!(answered > Duration::from_secs(1), "it was loading for a while: {answered:?}");
    let ready = restarted.await.unwrap();
    let late = (down + answered).saturating_duration_since(ready);
    measured("restart with 200 MB: back after it was ready", Instant::now() - late);
    assert!(late < SLACK, "{late:?}");
}
