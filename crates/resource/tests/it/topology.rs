#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::time::Duration;

use redbrick_core_conn::{Config, Conn, ReadFrom};
use redbrick_resource::{Error, Resource};
use redbrick_testkit::{Cluster, Sentinel, Server};
use tokio::time::Instant;

use crate::{PATIENCE, User, user};

/// Saves until it works.
async fn save(users: &Resource<User>, id: &str) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = users.save(&user(id)).await {
        assert!(error.is_retryable(), "{error:?}");
        assert!(Instant::now() < deadline, "still failing: {error:?}");
    }
}

async fn works(users: &Resource<User>) {
    save(users, "a").await;
    assert_eq!(users.get("a").await.unwrap(), user("a"));
    assert_eq!(users.get_by("email", "a@example.com").await.unwrap(), user("a"));
    let listed = users.list().where_eq("city", "Rome").await.unwrap();
    assert_eq!(listed.items, [user("a")]);
    let thief = User { id: "b".to_owned(), ..user("a") };
    let taken = users.create(&thief).await.unwrap_err();
    assert!(matches!(taken, Error::UniqueTaken { .. }), "{taken:?}");
    assert_eq!(users.update("a", &serde_json::json!({"age": 1})).await.unwrap().age, 1);
    assert_eq!(users.pick("a").await.unwrap().age, 1);
    assert_eq!(users.list().await.unwrap().total, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_on_a_cluster_before_and_after_a_master_is_lost() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap().unwrap();
    let conn = Conn::connect(cluster.url()).await.unwrap();
    let conn = conn.with_command_timeout(Duration::from_secs(2));
    let parts: Vec<Resource<User>> =
        (0..12).map(|n| Resource::builder(conn.clone()).partition(n.to_string()).build()).collect();
    let mut owners = std::collections::BTreeSet::new();
    for users in &parts {
        works(users).await;
        let slot = cluster.slot_of(users.key("a").as_ref()).unwrap();
        owners.insert(cluster.slot_owner(slot).unwrap());
    }
    assert_eq!(owners.len(), 3, "partitions spread over the masters");

    let cluster = tokio::task::spawn_blocking(move || {
        let master = cluster.masters().unwrap()[0];
        cluster.kill_master(master).unwrap();
        cluster
    });
    let _cluster = cluster.await.unwrap();
    for users in &parts {
        works(users).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_with_sentinel_before_and_after_its_failover() {
    let sentinel = tokio::task::spawn_blocking(Sentinel::start).await.unwrap().unwrap();
    let conn = Conn::connect(sentinel.url()).await.unwrap();
    let users = Resource::<User>::new(conn.with_command_timeout(Duration::from_secs(2)));
    works(&users).await;

    let sentinel = tokio::task::spawn_blocking(move || {
        sentinel.kill_master().unwrap();
        sentinel
    });
    let _sentinel = sentinel.await.unwrap();
    works(&users).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_reads_from_replicas_asks_the_master_here() {
    let master = Server::start().unwrap();
    let replica = Server::builder()
        .config("replicaof", format!("127.0.0.1 {}", master.port()))
        .config("repl-diskless-sync-delay", "0")
        .start()
        .unwrap();
    let conn = Conn::connect(Config::builder().url(master.url()).read_from(ReadFrom::Replica));
    let conn = conn.await.unwrap();
    let users = Resource::<User>::new(conn.clone());
    users.create(&user("a")).await.unwrap();
    let reads = || {
        let counts = replica.command_counts().unwrap();
        ["exists", "hget", "hgetall", "evalsha"].map(|command| counts.of(command))
    };
    let deadline = Instant::now() + PATIENCE;
    while reads()[0] == 0 {
        assert!(Instant::now() < deadline, "the connection never reads from the replica");
        assert!(conn.exists("a key").await.is_ok_and(|there| !there));
    }

    let before = reads();
    assert!(users.exists("a").await.unwrap());
    assert_eq!(users.get_by("email", "a@example.com").await.unwrap(), user("a"));
    assert_eq!(users.get("a").await.unwrap(), user("a"));
    assert_eq!(users.list().await.unwrap().total, 1);
    assert_eq!(reads(), before, "the replica was asked");
    assert!(users.conn().is_same(&conn));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_its_slot_is_moved_a_resource_is_read_and_not_written() {
    let cluster = tokio::task::spawn_blocking(|| Cluster::builder().masters(3).replicas(0).start());
    let cluster = cluster.await.unwrap().unwrap();
    let conn = Conn::connect(cluster.url()).await.unwrap();
    let users = Resource::<User>::new(conn.with_command_timeout(Duration::from_secs(1)));
    users.create(&user("a")).await.unwrap();
    let slot = cluster.slot_of(users.key("a").as_ref()).unwrap();
    let owner = cluster.slot_owner(slot).unwrap();
    let to = cluster.masters().unwrap().into_iter().find(|master| *master != owner).unwrap();
    let migration = cluster.start_migration(slot, to).unwrap();
    for moved in [false, true] {
        while moved && migration.move_keys(100).unwrap() > 0 {}
        for refused in [
            users.create(&user("b")).await,
            users.update("a", &serde_json::json!({"age": 1})).await.map(drop),
            users.pick("a").await.map(drop),
            users.list().await.map(drop),
        ] {
            let Err(Error::Conn(error)) = &refused else { panic!("{refused:?}") };
            // The attempt that is under way when the time is over ends by that.
            let is_refused = error.code() == Some("TRYAGAIN") && !error.is_outcome_unknown();
            assert!(is_refused || error.is_timeout(), "{error:?}");
        }
        assert_eq!(users.get("a").await.unwrap(), user("a"));
        assert_eq!(users.get_by("email", "a@example.com").await.unwrap(), user("a"));
        assert!(users.exists("a").await.unwrap() && !users.exists("b").await.unwrap());
    }
    migration.finish().unwrap();
    users.create(&user("b")).await.unwrap();
    assert_eq!(users.list().await.unwrap().total, 2);
}
