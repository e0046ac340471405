use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redbrick_cache::{Cache, Error, Fetched, Origin};
use tokio::{sync::Barrier, time::timeout};

use crate::{Gate, PATIENCE, connect, never, number, numbers, patient};

#[tokio::test]
async fn a_value_is_loaded_once_and_its_caller_can_learn_where_it_came_from() {
    let cache = numbers("origin").await;
    let borrowed = 7_u64;
    let first = cache.get_or_load("a", async || number(borrowed).await).with_origin();
    assert_eq!(first.await.unwrap(), Fetched { value: 7, origin: Origin::Loaded });
    let second = cache.get_or_load("a", never).with_origin().await.unwrap();
    assert_eq!(second, Fetched { value: 7, origin: Origin::Cached });
    assert_eq!(cache.get_or_load("a", never).await.unwrap(), 7);
    assert_eq!(cache.get("a").await.unwrap(), Some(7));
}

#[tokio::test]
async fn a_loaded_entry_has_the_life_of_its_call() {
    let cache = numbers("loaded life").await;
    let life = Duration::from_millis(1);
    cache.get_or_load("a", || number(1)).time_to_live(life).await.unwrap();
    while cache.exists("a").await.unwrap() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_callers_of_one_key_cause_one_load() {
    let cache = numbers("stampede").await;
    let (loads, barrier) = (Arc::new(AtomicU64::new(0)), Arc::new(Barrier::new(100)));
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let (cache, loads, barrier) = (cache.clone(), Arc::clone(&loads), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                let load = async || {
                    tokio::task::yield_now().await;
                    number(loads.fetch_add(1, Ordering::SeqCst) + 1).await
                };
                cache.get_or_load("a", load).await.unwrap()
            })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 1);
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_invalidated_tag_leaves_the_loads_of_other_keys_as_they_are() {
    let cache = numbers("unrelated tag").await;
    cache.set("b", &1).tags(["unrelated"]).await.unwrap();
    let gate = Arc::new(Gate::default());
    let leader = tokio::spawn({
        let (cache, gate) = (cache.clone(), Arc::clone(&gate));
        async move { cache.get_or_load("a", || gate.pass(1)).await }
    });
    gate.entered().await;
    assert!(cache.invalidate_tag("unrelated").await.unwrap());
    assert_eq!(cache.invalidate_tags(["unrelated"]).await.unwrap(), 0);
    // It asked later than the load began, and so reads what that has stored.
    let mut follower = Box::pin(cache.get_or_load("a", never).into_future());
    while cache.statistics().misses < 2 {
        let waits = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(follower.as_mut().poll(cx).is_pending())
        });
        assert!(waits.await, "it waits for the load");
        tokio::task::yield_now().await;
    }
    gate.open();
    assert_eq!((leader.await.unwrap().unwrap(), follower.await.unwrap()), (1, 1));
}

/// Cannot be read as it is written.
#[derive(Debug, PartialEq, serde::Deserialize, serde::Serialize)]
struct OneWay {
    #[serde(skip_serializing)]
    secret: u64,
}

#[tokio::test]
async fn callers_of_a_value_that_cannot_be_read_back_load_for_themselves() {
    let cache = patient::<OneWay>(connect("one way").await);
    let load = || async {
        tokio::task::yield_now().await;
        Ok::<_, std::io::Error>(OneWay { secret: 1 })
    };
    let ask = || cache.get_or_load("a", load).into_future();
    let (one, two, three) = tokio::join!(ask(), ask(), ask());
    for value in [one, two, three] {
        assert_eq!(value.unwrap(), OneWay { secret: 1 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_wait_share_the_loaders_error_and_the_next_caller_loads_again() {
    #[derive(Debug, thiserror::Error)]
    #[error("the database is away")]
    struct Away;

    let cache = numbers("shared error").await;
    let gate = Arc::new(Gate::default());
    let leader = tokio::spawn({
        let (cache, gate) = (cache.clone(), Arc::clone(&gate));
        async move {
            let load = async || {
                gate.pass(1).await.unwrap();
                Err::<u64, _>(Away)
            };
            cache.get_or_load("a", load).await
        }
    });
    gate.entered().await;
    let followers: Vec<_> = (0..10)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get_or_load("a", never).await })
        })
        .collect();
    let all_wait = cache.clone();
    crate::until("all have missed", move || all_wait.statistics().misses == 11).await;
    gate.open();
    let mut errors = vec![leader.await.unwrap().unwrap_err()];
    for follower in followers {
        errors.push(follower.await.unwrap().unwrap_err());
    }
    for error in errors {
        assert!(error.loader_error().unwrap().downcast_ref::<Away>().is_some());
        let source = std::error::Error::source(&error).unwrap();
        assert!(source.downcast_ref::<Away>().is_some());
        assert!(!error.to_string().contains(&source.to_string()));
        assert!(error.is_retryable() && !error.is_outcome_unknown() && !error.is_timeout());
    }
    assert_eq!(cache.statistics().load_failures, 1);
    assert_eq!(cache.get_or_load("a", || number(2)).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_leader_is_given_up_or_panics_the_next_one_loads() {
    let cache = numbers("leaders").await;
    for panics in [false, true] {
        let gate = Arc::new(Gate::default());
        let leader = tokio::spawn({
            let (cache, gate) = (cache.clone(), Arc::clone(&gate));
            async move {
                let load = async || {
                    gate.pass(1).await.unwrap();
                    if panics {
                        panic!("the loader panics, as this test wants")
                    }
                    number(1).await
                };
                cache.get_or_load("a", load).await
            }
        });
        gate.entered().await;
        let misses = cache.statistics().misses;
        let follower = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get_or_load("a", || number(2)).with_origin().await }
        });
        let waits = cache.clone();
        crate::until("the follower has missed", move || waits.statistics().misses > misses).await;
        if panics {
            gate.open();
        } else {
            leader.abort();
        }
        let expected = Fetched { value: 2, origin: Origin::Loaded };
        assert_eq!(follower.await.unwrap().unwrap(), expected, "panics: {panics}");
        leader.await.unwrap_err();
        cache.delete("a").await.unwrap();
    }
}

#[tokio::test]
async fn a_loader_that_does_not_end_is_given_up_at_its_deadline() {
    let conn = connect("endless").await;
    let cache = Cache::<u64>::builder(conn, "a").redis_timeout(PATIENCE);
    let cache = cache.load_timeout(Duration::from_millis(50)).build().unwrap();
    let endless = std::future::pending::<Result<u64, std::io::Error>>;
    let error = timeout(PATIENCE, cache.get_or_load("a", endless).into_future()).await;
    let error = error.expect("in time").unwrap_err();
    assert!(matches!(error, Error::LoadTimeout(_)) && error.is_timeout(), "{error:?}");
    assert_eq!(cache.get_or_load("a", || number(1)).await.unwrap(), 1);
}

#[tokio::test]
async fn a_leader_that_is_not_polled_does_not_hold_others_up_for_ever() {
    let conn = connect("parked").await;
    // Short, since both count; a machine that is too slow for it loads all the same.
    let cache = Cache::<u64>::builder(conn, "a").redis_timeout(Duration::from_millis(500));
    let cache = cache.load_timeout(Duration::from_millis(100)).build().unwrap();
    let gate = Gate::default();
    let mut parked = Box::pin(cache.get_or_load("a", || gate.pass(1)).into_future());
    tokio::select! {
        _ = &mut parked => panic!("the gate is closed"),
        () = gate.entered() => {}
    }
    let other = timeout(PATIENCE, cache.get_or_load("a", || number(2)).into_future()).await;
    assert_eq!(other.expect("in time").unwrap(), 2);
    drop(parked);
}

#[tokio::test]
async fn one_task_can_ask_for_one_key_twice_at_once() {
    let cache: Cache<u64> = patient(connect("twice").await);
    let both = async {
        tokio::join!(
            cache.get_or_load("a", || number(1)).into_future(),
            cache.get_or_load("a", || number(2)).into_future()
        )
    };
    let (first, second) = timeout(PATIENCE, both).await.expect("in time");
    assert_eq!(first.unwrap(), second.unwrap());
}
