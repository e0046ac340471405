//! Cluster and Sentinel: sessions outlive a failover.

use std::{collections::BTreeSet, time::Duration};

use redbrick_core_conn::{Config, Conn};
use redbrick_session::{Error, Session, Sessions};
use redbrick_testkit::{Cluster, Sentinel, Server, unique, wait_until};
use tokio::{task::spawn_blocking, time::Instant};

use crate::{Cart, PATIENCE, cart};

/// Repeats a call while the servers are changing places.
async fn persist<T>(mut call: impl AsyncFnMut() -> Result<T, Error>) -> T {
    let deadline = Instant::now() + PATIENCE * 2;
    loop {
        match call().await {
            Ok(value) => return value,
            Err(err) => {
                assert!(err.is_retryable(), "{err:?}");
                assert!(Instant::now() < deadline, "still failing: {err:?}");
            }
        }
    }
}

async fn connect(url: String, prefix: &str) -> Sessions<Cart> {
    let config = Config::builder().url(url).key_prefix(prefix);
    let config = config.command_timeout(Duration::from_secs(2));
    Sessions::new(Conn::connect(config).await.unwrap())
}

fn user(n: usize) -> String {
    format!("user {n}")
}

/// One session for each of forty users.
async fn begin(sessions: &Sessions<Cart>) -> Vec<Session<Cart>> {
    let mut all = Vec::new();
    for n in 0..40 {
        let made = persist(async || sessions.create(&user(n), cart("x")).await).await;
        assert!(persist(async || sessions.touch(made.id()).await).await);
        all.push(made);
    }
    all
}

/// They are there, can be used, and end.
async fn go_on(sessions: &Sessions<Cart>, all: &mut [Session<Cart>]) {
    for (n, session) in all.iter_mut().enumerate() {
        let id = *session.id();
        let read = persist(async || sessions.get_and_touch(&id).await).await;
        let Some(read) = read else { panic!("session {n} is gone") };
        assert_eq!(read.data, cart("x"));
        assert!(persist(async || sessions.update(&id, &cart("y")).await).await);
        assert_eq!(persist(async || sessions.get(&id).await).await.unwrap().data, cart("y"));
        let other = persist(async || sessions.create(&user(n), cart("z")).await).await;
        let list = persist(async || sessions.list(&user(n)).await).await;
        assert!(list.iter().any(|info| info.is_current(&id)), "{list:?}");
        persist(async || sessions.delete_others(&user(n), other.id()).await).await;
        assert!(!persist(async || sessions.is_valid(&id).await).await);
        persist(async || sessions.delete_all(&user(n)).await).await;
        assert_eq!(persist(async || sessions.count(&user(n)).await).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_on_a_cluster_outlive_a_failover() {
    let cluster = spawn_blocking(Cluster::start).await.unwrap().unwrap();
    let prefix = unique("cluster");
    let sessions = connect(cluster.url(), &prefix).await;
    let mut all = begin(&sessions).await;
    let slots: BTreeSet<_> = all
        .iter()
        .map(|session| {
            cluster.slot_of(format!("{prefix}:{}", crate::session_key(session.id()))).unwrap()
        })
        .map(|slot| cluster.slot_owner(slot).unwrap())
        .collect();
    assert_eq!(slots.len(), 3, "they lie on all masters");

    let cluster = spawn_blocking(move || {
        // It changes places with a replica that has heard of everything.
        let master = cluster.masters().unwrap()[0];
        cluster.failover(master).unwrap();
        cluster
    })
    .await
    .unwrap();

    go_on(&sessions, &mut all).await;
    go_on(&sessions, &mut begin(&sessions).await).await;
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_behind_sentinels_outlive_a_failover() {
    let sentinel = spawn_blocking(Sentinel::start).await.unwrap().unwrap();
    let sessions = connect(sentinel.url(), &unique("sentinel")).await;
    let mut all = begin(&sessions).await;

    let sentinel = spawn_blocking(move || {
        // What the replica has not heard of yet is lost with its master.
        let keys = |server: &Server| server.command(["DBSIZE"]).unwrap().as_int();
        let (master, replica) = (sentinel.master().unwrap(), sentinel.replica().unwrap());
        assert!(wait_until(PATIENCE, || keys(replica) == keys(master)), "the replica follows");
        sentinel.failover().unwrap();
        sentinel
    })
    .await
    .unwrap();

    go_on(&sessions, &mut all).await;
    go_on(&sessions, &mut begin(&sessions).await).await;
    drop(sentinel);
}
