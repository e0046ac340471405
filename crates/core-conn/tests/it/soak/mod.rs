//! Random faults for a while, and an account of every call: what was done is there once, what failed is not there, and
//! what is unclear is there once or not. Short in a plain run, long where [`LONG`] asks for it.

mod trouble;
mod work;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redbrick_core_conn::{Config, ConfigBuilder, Conn};
use redbrick_testkit::{Cluster, Reply, Server, wait_until};
use tokio::{
    runtime::{Builder, Handle},
    time::timeout,
};

use crate::{
    PATIENCE,
    alone::{is_long, memory, tell},
    chance::Chance,
};
use trouble::Servers;
use work::{Work, Workers};

/// How long a call may take.
const CALL: Duration = Duration::from_secs(1);
/// By how much the memory of the process may grow after it has warmed up.
const GROWTH: u64 = 32 << 20;
/// How long a cluster's node may be away before it counts as lost. Nothing here is for so long.
const NODE_TIMEOUT: &str = "30000";

#[test]
fn a_single_server_in_all_kinds_of_trouble() {
    alone("soak::a_single_server_in_all_kinds_of_trouble", || {
        let server = Server::builder().config("appendonly", "yes").config("appendfsync", "always");
        let server = server.start().unwrap();
        let proxy = server.proxy().unwrap();
        let config = Config::builder().url(proxy.url()).command_links(2.try_into().unwrap());
        (Servers::Single(Box::new(server), proxy), config)
    });
}

#[test]
fn a_cluster_in_all_kinds_of_trouble() {
    alone("soak::a_cluster_in_all_kinds_of_trouble", || {
        let cluster = Cluster::builder().replicas(0).proxied();
        let cluster = cluster.config("appendonly", "yes").config("appendfsync", "always");
        let cluster = cluster.config("cluster-node-timeout", NODE_TIMEOUT).start().unwrap();
        let nodes = (0..cluster.nodes().len()).map(|at| cluster.proxy(at).address().to_string());
        let config = Config::builder().cluster(nodes.collect::<Vec<_>>());
        (Servers::Cluster(cluster), config)
    });
}

/// Runs the soak in a process of its own.
fn alone(test: &str, start: impl FnOnce() -> (Servers, ConfigBuilder)) {
    crate::alone::alone(test, || {
        let (servers, config) = start();
        soak(test, &Arc::new(servers), config);
    });
}

fn soak(test: &str, servers: &Arc<Servers>, config: ConfigBuilder) {
    let lasts = Duration::from_secs(if is_long() { 600 } else { 10 });
    let mut chance = Chance::new(test);
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let conn = Conn::connect(config.command_timeout(CALL)).await.expect("nothing is wrong yet");
        let stop = Arc::<AtomicBool>::default();
        let mut trouble = tokio::task::spawn_blocking({
            let (servers, chance, stop) = (Arc::clone(servers), chance.fork(), Arc::clone(&stop));
            move || trouble::make(&servers, chance, &stop)
        });
        let workers = Workers::start(&conn, CALL, &mut chance);
        let longest = Arc::clone(&workers.longest);
        // The faults end when they are told to; before that only by a failure.
        assert!(timeout(lasts / 3, &mut trouble).await.is_err(), "the faults have ended");
        let warm = memory();
        assert!(timeout(lasts * 2 / 3, &mut trouble).await.is_err(), "the faults have ended");
        stop.store(true, Ordering::Relaxed);
        let trouble = trouble.await.expect("the faults");
        let end = memory();
        let ending = workers.end();
        let work = timeout(PATIENCE, ending).await.expect("no call hangs");

        let calls = work.calls();
        let longest = *longest.lock().expect("no task panicked with it");
        tell(&format!(
            "{trouble:?}\n{calls:?}, {} given up, the longest took {longest:?}",
            work.given_up
        ));
        assert!(calls.done > 100 && calls.unknown > work.given_up, "there was trouble: {calls:?}");
        account(servers, &conn, &work).await;
        if let (Some(warm), Some(end)) = (warm, end) {
            tell(&format!("memory: {} MiB when warm, {} MiB at the end", warm >> 20, end >> 20));
            assert!(end < warm + GROWTH, "the memory grew from {warm} to {end}");
        }
        drop(conn);
        let watched = Arc::clone(servers);
        let closed = tokio::task::spawn_blocking(move || {
            wait_until(PATIENCE, || watched.all().all(|(_, proxy)| proxy.open_connections() == 0))
        });
        assert!(closed.await.expect("the wait"), "a socket is left");
        // A task whose socket has just closed may have to be run once more.
        let metrics = Handle::current().metrics();
        let ended = async {
            while metrics.num_alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(PATIENCE, ended).await.is_ok(), "a task is left");
    });
}

/// Compares what the calls said with what the servers have.
async fn account(servers: &Arc<Servers>, conn: &Conn, work: &Work) {
    let patient = conn.with_command_timeout(PATIENCE);
    for (key, written) in &work.values {
        let read = patient.get::<String>(key).await.expect("all is well again");
        written.explains(key, read.as_deref());
    }
    for (key, tally) in &work.counters {
        let command = ["GET", key.as_str()];
        let stored = match &**servers {
            Servers::Single(server, _) => server.command(command),
            Servers::Cluster(cluster) => cluster.command(command),
        };
        let counted = stored.ok().as_ref().and_then(Reply::as_int);
        tally.explains(counted.unwrap_or(0));
    }
}
