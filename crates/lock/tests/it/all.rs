use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use redbrick_core_conn::Conn;
use redbrick_lock::{Error, LockGuard, LockGuards, Locks, Released, Wait};
use tokio::{task::JoinSet, time::timeout};

use crate::{EAGER, LONG, PATIENCE, SHORT, acquired, free, locks, rest, server, team, until};

/// Names of one partition.
const NEAR: [&str; 3] = ["{order:7}:items", "{order:7}:bill", "{order:7}:mail"];
/// Names of several.
const FAR: [&str; 3] = ["a", "b", "c"];

fn names(guards: &LockGuards) -> Vec<String> {
    let text = |guard: &LockGuard| String::from_utf8_lossy(guard.name()).into_owned();
    guards.guards().iter().map(text).collect()
}

#[tokio::test]
async fn all_are_had_or_none() {
    let locks = locks("all").await;
    for all in [NEAR, FAR] {
        let guards = locks.lock_all(all).lease(LONG).await.unwrap().expect("nobody has any");
        assert_eq!(names(&guards), all);
        assert!(guards.is_valid() && guards.remaining() > PATIENCE);
        for (name, guard) in all.iter().zip(guards.guards()) {
            let info = locks.info(name).await.unwrap().expect("it is had");
            assert_eq!(info.fence, guard.fence());
            assert!(locks.try_lock(name).await.unwrap().is_none());
        }
        assert_eq!(guards.release().await.unwrap(), Released::Released);

        let one = acquired(&locks, all[1], LONG).await;
        let refused = locks.lock_all(all).wait(Wait::Never).await.unwrap();
        assert!(refused.is_none());
        for name in [all[0], all[2]] {
            free(&locks, name).await;
        }
        assert_eq!(one.release().await.unwrap(), Released::Released);
        drop(locks.lock_all(all).await.unwrap().expect("all are free"));
        for name in all {
            free(&locks, name).await;
        }
    }
}

#[tokio::test]
async fn names_that_are_given_twice_are_had_once_and_none_at_all_are_had_too() {
    let locks = locks("all-twice").await;
    for pair in [["a", "a"], ["{a}", "{a}"]] {
        let guards = locks.lock_all(pair).await.unwrap().expect("nobody has it");
        assert_eq!(names(&guards), [pair[0]]);
        assert_eq!(guards.release().await.unwrap(), Released::Released);
    }
    let none = locks.lock_all::<&str>([]).await.unwrap().expect("there are none");
    assert!(none.guards().is_empty() && none.is_valid());
    assert_eq!(none.release().await.unwrap(), Released::Released);
    let error = locks.lock_all(NEAR).lease(Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, Error::Lease), "{error:?}");
}

#[tokio::test]
async fn those_of_a_partition_are_one_round_trip() {
    let server = server();
    let locks = Locks::new(Conn::connect(server.url()).await.unwrap());
    drop(locks.lock_all(NEAR).await.unwrap());
    until("all are free", async || {
        let all = locks.list().await.unwrap();
        all.is_empty()
    })
    .await;
    let mut guards = None;
    let cost = server.cost(async { guards = locks.lock_all(NEAR).await.unwrap() }).await.unwrap();
    assert_eq!(cost, "evalsha 1, exists 3, get 4, pttl 1, set 4, time 1");
    let fences: Vec<_> = guards.unwrap().guards().iter().map(LockGuard::fence).collect();
    assert!(fences.is_sorted_by(|one, next| one < next), "{fences:?}");
}

/// Each holds what the other one wants, if nobody sees to the order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_want_the_same_in_another_order_do_not_wait_for_each_other() {
    let conns = team("all-order", 4).await;
    let (inside, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut tasks = JoinSet::new();
    for (n, conn) in conns.into_iter().enumerate() {
        let (inside, most) = (Arc::clone(&inside), Arc::clone(&most));
        tasks.spawn(async move {
            let locks = Locks::new(conn);
            for turn in 0..10 {
                let mut all = if (n + turn) % 3 == 0 { NEAR } else { FAR };
                all.rotate_left(n % 3);
                let own = all.iter().all(|name| FAR.contains(name));
                let guards = locks.lock_all(all).lease(LONG).wait(EAGER).await.unwrap().unwrap();
                if own {
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    rest(Duration::from_millis(1)).await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
                assert_eq!(guards.release().await.unwrap(), Released::Released);
            }
        });
    }
    let ended = timeout(PATIENCE, async {
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    });
    ended.await.expect("somebody waits for ever");
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn who_waits_stands_in_line_and_what_is_given_up_is_released() {
    let locks = locks("all-waits").await;
    let one = acquired(&locks, NEAR[1], LONG).await;
    let limit = Duration::from_millis(200);
    assert!(locks.lock_all(NEAR).wait(Wait::For(limit)).await.unwrap().is_none());
    let waiting = tokio::spawn(locks.lock_all(NEAR).lease(LONG).wait(EAGER).into_future());
    until("it waits", async || locks.info(NEAR[1]).await.unwrap().unwrap().waiting == 1).await;
    assert_eq!(one.release().await.unwrap(), Released::Released);
    let guards = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap().expect("its turn");

    let given_up = locks.lock_all(NEAR).lease(LONG).wait(EAGER).into_future();
    assert!(timeout(limit, given_up).await.is_err());
    assert_eq!(guards.release().await.unwrap(), Released::Released);
    for name in NEAR {
        free(&locks, name).await;
    }
}

#[tokio::test]
async fn what_was_lost_while_the_others_were_waited_for_is_an_error() {
    let locks = locks("all-late").await;
    let mut ordered = FAR;
    // The last of them in the order in which they are acquired.
    let last = {
        let _all = locks.lock_all(FAR).await.unwrap().unwrap();
        ordered
            .sort_by_key(|name| locks.prefix().partition(name, 256.try_into().unwrap()).key(name));
        ordered[2]
    };
    free(&locks, last).await;
    let one = acquired(&locks, last, LONG).await;
    let waiting = locks.lock_all(FAR).lease(SHORT).renew(false).wait(EAGER).into_future();
    let waiting = tokio::spawn(waiting);
    until("it waits", async || locks.info(last).await.unwrap().unwrap().waiting == 1).await;
    rest(SHORT * 2).await;
    assert_eq!(one.release().await.unwrap(), Released::Released);
    let error = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, Error::Late), "{error:?}");
}

#[tokio::test]
async fn all_are_lost_with_one_of_them() {
    let locks = locks("all-lost").await;
    let guards = locks.lock_all(NEAR).lease(Duration::from_secs(3)).await.unwrap().unwrap();
    let lost = tokio::spawn(guards.lost());
    assert!(locks.force_release(NEAR[2]).await.unwrap());
    timeout(PATIENCE, lost).await.expect("the next renewal").unwrap();
    assert!(!guards.is_valid());
    assert_eq!(guards.release().await.unwrap(), Released::AlreadyLost);
}
