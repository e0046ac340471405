use redbrick_core_conn::Conn;
use redbrick_lock::{Acquire, Locks, Wait};

use crate::{LONG, acquired, permits, server};

async fn ignore<T>(call: impl Future<Output = T>) {
    let _ = call.await;
}

fn none(acquire: Acquire) -> Acquire {
    acquire.wait(Wait::Never)
}

#[tokio::test]
async fn each_call_is_one_round_trip() {
    let server = server();
    let locks = Locks::new(Conn::connect(server.url()).await.unwrap());
    // The server learns the scripts.
    let mut guard = acquired(&locks, "warm", LONG).await;
    let _ = guard.extend(LONG).await.unwrap();
    locks.info("warm").await.unwrap();
    guard.release().await.unwrap();
    assert!(!locks.force_release("warm").await.unwrap());

    let mut held = None;
    let cost = server.cost(async { held = Some(acquired(&locks, "job", LONG).await) }).await;
    assert_eq!(cost.unwrap(), "evalsha 1, get 2, pttl 1, set 2, time 1, zrange 1", "acquire");
    let mut guard = held.unwrap();
    for (what, cost, expected) in [
        (
            "refused",
            server.cost(async { assert!(none(locks.lock("job")).await.unwrap().is_none()) }).await,
            "evalsha 1, get 1, time 1",
        ),
        (
            "extend",
            server.cost(ignore(async { guard.extend(LONG).await.unwrap() })).await,
            "evalsha 1, getrange 1, pexpire 2, pttl 1",
        ),
        (
            "is_locked",
            server.cost(ignore(async { locks.is_locked("job").await.unwrap() })).await,
            "exists 1",
        ),
        ("ttl", server.cost(ignore(async { locks.ttl("job").await.unwrap() })).await, "pttl 1"),
        (
            "info",
            server.cost(ignore(async { locks.info("job").await.unwrap() })).await,
            "evalsha 1, get 1, pttl 1, time 1, zcard 1",
        ),
        (
            "release",
            server.cost(ignore(async { guard.release().await.unwrap() })).await,
            "del 1, evalsha 1, get 2, set 1, time 1, zrange 1",
        ),
        (
            "force_release",
            server.cost(ignore(async { locks.force_release("job").await.unwrap() })).await,
            "del 1, evalsha 1, get 1, time 1, zrange 1",
        ),
        ("nothing", server.cost(ignore(async { locks.mutex("job") })).await, ""),
    ] {
        assert_eq!(cost.unwrap(), expected, "{what}");
    }
}

#[tokio::test]
async fn what_is_built_on_a_lock_costs_what_is_said() {
    let server = server();
    let locks = Locks::new(Conn::connect(server.url()).await.unwrap());
    let (rw_lock, value) = (locks.rw_lock("job"), locks.fenced::<String>("job"));
    let guard = acquired(&locks, "job", LONG).await;
    let text = "x".to_owned();
    // The server learns the scripts.
    drop(locks.enter("job", guard.token()).await.unwrap());
    let _ = rw_lock.read().await.unwrap().unwrap().release().await.unwrap();
    let _ = value.set(1, &text).await.unwrap();
    locks.election("job").leader().await.unwrap();
    for (what, cost, expected) in [
        (
            "enter",
            server.cost(ignore(async { locks.enter("job", guard.token()).await.unwrap() })).await,
            "evalsha 1, getrange 1, pttl 2",
        ),
        (
            "read and release",
            server
                .cost(ignore(async { rw_lock.read().await.unwrap().unwrap().release().await }))
                .await,
            "evalsha 2, get 2, hdel 2, hget 3, hincrby 1, hset 1, pexpireat 2, pttl 1, set 2, time 2, \
             zadd 1, zcard 2, zrange 3, zrangebyscore 2, zrem 1, zscore 2",
        ),
        (
            "set",
            server.cost(ignore(async { value.set(2, &text).await.unwrap() })).await,
            "evalsha 1, getrange 1, set 1",
        ),
        ("get", server.cost(ignore(async { value.get().await.unwrap() })).await, "get 1"),
        (
            "leader",
            server.cost(ignore(async { locks.election("job").leader().await.unwrap() })).await,
            "evalsha 1, get 1, pttl 1, time 1, zcard 1",
        ),
    ] {
        assert_eq!(cost.unwrap(), expected, "{what}");
    }
    drop(guard);
}

#[tokio::test]
async fn a_list_is_a_walk_and_a_round_trip_for_many() {
    let server = server();
    let locks = Locks::new(Conn::connect(server.url()).await.unwrap());
    let mut guards = Vec::new();
    for n in 0..5 {
        guards.push(acquired(&locks, &n.to_string(), LONG).await);
    }
    assert_eq!(locks.list().await.unwrap().len(), 5);

    let cost = server.cost(async { assert_eq!(locks.list().await.unwrap().len(), 5) }).await;
    // A pipeline brings the text of its scripts along.
    assert_eq!(cost.unwrap(), "eval 1, evalsha 4, get 5, pttl 5, scan 1, time 5, zcard 5");
}

#[tokio::test]
async fn each_call_on_a_semaphore_is_one_round_trip() {
    let server = server();
    let locks = Locks::new(Conn::connect(server.url()).await.unwrap());
    let semaphore = locks.semaphore("jobs", permits(1));
    let mut permit = semaphore.acquire().await.unwrap().unwrap();
    let _ = permit.extend(LONG).await.unwrap();
    semaphore.available().await.unwrap();
    permit.release().await.unwrap();

    let mut held = None;
    let cost = server.cost(async { held = semaphore.acquire().await.unwrap() }).await;
    assert_eq!(
        cost.unwrap(),
        "evalsha 1, get 1, hget 1, hset 1, pexpireat 2, pttl 1, set 1, time 1, zadd 1, zcard 1, zrange 2, \
         zrangebyscore 1, zscore 1"
    );
    let mut permit = held.unwrap();
    for (what, cost, expected) in [
        (
            "refused",
            server.cost(ignore(async { semaphore.try_acquire().await.unwrap() })).await,
            "evalsha 1, hget 1, time 1, zcard 1, zrangebyscore 1, zscore 1",
        ),
        (
            "extend",
            server.cost(ignore(async { permit.extend(LONG).await.unwrap() })).await,
            "evalsha 1, hget 1, pexpire 1, pexpireat 2, pttl 1, time 1, zadd 1, zrange 1, zrem 1, zscore 1",
        ),
        (
            "available",
            server.cost(ignore(async { semaphore.available().await.unwrap() })).await,
            "evalsha 1, hget 1, time 1, zcard 1, zrangebyscore 1",
        ),
        (
            "release",
            server.cost(ignore(async { permit.release().await.unwrap() })).await,
            "evalsha 1, get 1, hdel 2, hget 2, hincrby 1, set 1, time 1, zcard 1, zrange 1, zrangebyscore 1, zrem 1, zscore 1",
        ),
    ] {
        assert_eq!(cost.unwrap(), expected, "{what}");
    }
}
