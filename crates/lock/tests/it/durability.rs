#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Config, Conn};
use redbrick_lock::{Durability, Error, Extended, Locks, Wait};
use redbrick_testkit::{Sentinel, Server};
use tokio::{runtime::Handle, task::spawn_blocking};

use crate::{LONG, PATIENCE, eventually, exists, is_long, permits, server, tell, until};

/// One replica is to know.
const ONE: Durability = Durability::Wait { replicas: 1, timeout: PATIENCE };

/// The same, for who asks again.
const SOON: Durability = Durability::Wait { replicas: 1, timeout: Duration::from_millis(200) };

fn replica_of(master: &Server) -> Server {
    let builder = Server::builder().config("replicaof", format!("127.0.0.1 {}", master.port()));
    builder.config("repl-diskless-sync-delay", "0").start().expect("a replica")
}

async fn durable(conn: Conn, durability: Durability) -> Locks {
    Locks::builder(conn).lease(LONG).durability(durability).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_replicas_do_not_know_is_not_had() {
    let master = server();
    let locks = durable(Conn::connect(master.url()).await.unwrap(), SOON).await;
    let error = locks.try_lock("job").await.unwrap_err();
    assert!(matches!(error, Error::NotReplicated { known: 0, .. }), "{error:?}");
    assert!(!locks.is_locked("job").await.unwrap(), "it was released");
    assert!(locks.try_lock("job").durability(Durability::None).await.unwrap().is_some());

    let replica = Arc::new(replica_of(&master));
    until("a replica that is up to date", async || {
        locks.try_lock("warm").await.is_ok_and(|had| had.is_some())
    })
    .await;
    let semaphore = locks.semaphore("jobs", permits(2));
    let had = locks.try_lock("other").await.unwrap().expect("it is free");
    let permit = semaphore.try_acquire().await.unwrap().expect("one is free");
    for name in ["other", "jobs"] {
        let key = locks.prefix().partition(name, 256.try_into().unwrap()).key(name).to_string();
        let key = if name == "jobs" { format!("{key}:permits") } else { key };
        assert!(exists(&replica, &key), "{key}");
    }
    drop((had, permit));

    let paused = replica.pause().unwrap();
    for error in [
        locks.lock("third").await.unwrap_err(),
        semaphore.acquire().await.unwrap_err(),
        locks.lock_all(["{x}:1", "{x}:2"]).await.unwrap_err(),
        locks.with_lock("third", async |_| panic!("it is not had")).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::NotReplicated { known: 0, .. }), "{error:?}");
    }
    // Also where nothing has to be written so soon after the grant.
    let brief = Durability::Wait { replicas: 1, timeout: Duration::from_millis(20) };
    for _ in 0..30 {
        let error = locks.try_lock("brief").durability(brief).await.unwrap_err();
        assert!(matches!(error, Error::NotReplicated { known: 0, .. }), "{error:?}");
    }
    drop(paused);
    until("all are released", async || {
        !locks.is_locked("third").await.unwrap()
            && !locks.is_locked("{x}:2").await.unwrap()
            && semaphore.available().await.unwrap() == 2
    })
    .await;
}

/// The master is killed as soon as somebody has the lock. What nobody waited for is granted once more where the replica was behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_knows_survives_the_loss_of_the_master() {
    let runs = if is_long() { 50 } else { 2 };
    let sentinel = spawn_blocking(Sentinel::start).await.unwrap().unwrap();
    let sentinel = Arc::new(sentinel);
    let config = || Config::builder().url(sentinel.url()).command_timeout(PATIENCE);
    let locks = durable(Conn::connect(config()).await.unwrap(), ONE).await;
    let others = Locks::new(Conn::connect(config()).await.unwrap());
    let mut again = [0, 0];
    for run in 0..runs {
        let names = ["kept", "risked", "behind"].map(|name| format!("{name}:{run}"));
        let [kept, risked, behind] = &names;
        let mut guard = locks.try_lock(kept).await.unwrap().expect("nobody has it");
        let hasty = |name: &str| locks.try_lock(name).durability(Durability::None).into_future();
        let _risked = hasty(risked).await.unwrap().expect("nobody has it");
        let (failing, runtime, last) = (Arc::clone(&sentinel), Handle::current(), hasty(behind));
        let failed = spawn_blocking(move || {
            let (master, replica) = (failing.master().unwrap(), failing.replica().unwrap());
            let paused = replica.pause().unwrap();
            master.command(["CLIENT", "KILL", "TYPE", "replica"]).unwrap();
            let guard = runtime.block_on(last).unwrap().expect("nobody has it");
            master.kill().unwrap();
            drop(paused);
            failing.kill_master().unwrap();
            guard
        });
        let _behind = failed.await.unwrap();

        let other = others.lock(kept).wait(Wait::Never).await.unwrap();
        assert!(other.is_none(), "somebody else has it as well");
        assert_eq!(guard.extend(LONG).await.unwrap(), Extended::Extended);
        assert!(guard.is_valid());
        for (count, name) in again.iter_mut().zip([risked, behind]) {
            *count += u32::from(others.try_lock(name).await.unwrap().is_some());
        }
        let healing = Arc::clone(&sentinel);
        spawn_blocking(move || healing.heal()).await.unwrap().unwrap();
        let (locks, runtime) = (locks.clone(), Handle::current());
        eventually("a replica that is up to date", move || {
            runtime.block_on(async {
                locks.try_lock("warm").durability(SOON).await.is_ok_and(|had| had.is_some())
            })
        })
        .await;
    }
    let [risked, behind] = again;
    tell(&format!(
        "granted once more: of {runs}, {risked}; where the replica was behind, {behind}"
    ));
    assert_eq!(behind, runs, "this tells nothing");
}
