//! What is served in place of what could not be loaded.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redbrick_cache::{Cache, Error, Fetched, Loaded, OnWaitTimeout, Origin};
use redbrick_core_conn::Prefix;
use redbrick_testkit::unique;
use tokio::{runtime::Builder, sync::Notify, task::JoinHandle, time::timeout};

use crate::{
    Gate, PATIENCE, connect_below, number, numbers_below,
    stale::{STALE, WINDOW, builder, fails, falling_back, revalidating, stale},
    until,
};

type Served = Result<Fetched<u64>, Error>;

/// A load that is under way, and fails when it is let go.
struct Failing {
    gate: Arc<Gate>,
    task: JoinHandle<Served>,
}

impl Failing {
    async fn begin(cache: &Cache<u64>) -> Self {
        let failing = Self::ask(cache);
        failing.entered().await;
        failing
    }

    /// Asks for it, where it may have to wait for another one.
    fn ask(cache: &Cache<u64>) -> Self {
        let gate = Arc::new(Gate::default());
        let (cache, passed) = (cache.clone(), Arc::clone(&gate));
        let load = async move || match passed.pass(0).await {
            Ok(_) => fails().await,
            error => error,
        };
        let task = tokio::spawn(async move { cache.get_or_load("a", load).with_origin().await });
        Self { gate, task }
    }

    async fn entered(&self) {
        timeout(PATIENCE, self.gate.entered()).await.expect("it loads");
    }

    async fn end(self) -> Served {
        self.gate.open();
        self.task.await.unwrap()
    }
}

/// Somebody who asks, and whose own load fails.
fn ask(cache: &Cache<u64>) -> JoinHandle<Served> {
    let cache = cache.clone();
    tokio::spawn(async move { cache.get_or_load("a", fails).with_origin().await })
}

/// Waits until what is there is past its time for others, too: each knows the clock to a millisecond or so.
async fn stale_for(others: &[&Cache<u64>]) {
    for other in others {
        while other.exists("a").await.unwrap() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_another_process_is_not_served_what_was_deleted_meanwhile() {
    let prefix = unique("waiting and deleted");
    let (one, other) = (falling_back(&prefix).await, falling_back(&prefix).await);
    stale(&one).await;
    stale_for(&[&other]).await;
    let first = Failing::begin(&one).await;
    let waiting = ask(&other);
    until("it waits", move || other.statistics().waits == 1).await;
    assert!(one.delete("a").await.unwrap());
    assert!(matches!(first.end().await, Err(Error::Load(_))));
    let served = timeout(PATIENCE, waiting).await.expect("it loads then").unwrap();
    assert!(matches!(served, Err(Error::Load(_))), "{served:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_over_a_dropped_load_is_not_served_what_was_deleted_meanwhile() {
    let prefix = unique("dropped and deleted");
    let (cache, other) = (falling_back(&prefix).await, falling_back(&prefix).await);
    stale(&cache).await;
    let first = Failing::begin(&cache).await;
    let waiting = ask(&cache);
    until("both have missed", move || cache.statistics().misses == 2).await;
    // In another process, so that nothing here knows.
    assert!(other.delete("a").await.unwrap());
    first.task.abort();
    let served = timeout(PATIENCE, waiting).await.expect("it takes over").unwrap();
    assert!(matches!(served, Err(Error::Load(_))), "{served:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_a_tag_that_was_invalidated_while_its_load_failed_is_not_served() {
    let prefix = unique("tag meanwhile");
    for errs in [false, true] {
        for elsewhere in [false, true] {
            let cache =
                if errs { falling_back(&prefix).await } else { revalidating(&prefix).await };
            let by = if elsewhere { numbers_below(&prefix).await } else { cache.clone() };
            stale(&cache).await;
            let failing = Failing::begin(&cache).await;
            assert!(by.invalidate_tag("t").await.unwrap());
            let served = failing.end().await;
            let is_refused = matches!(served, Err(Error::Load(_)));
            assert!(is_refused, "errs: {errs}, elsewhere: {elsewhere}: {served:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_waited_for_too_long_is_not_served_what_was_deleted_meanwhile() {
    let prefix = unique("too long and deleted");
    let impatient = async |then| {
        let cache = builder(&prefix).await.stale_if_error(WINDOW).on_wait_timeout(then);
        // Time for a busy machine to have somebody else load meanwhile.
        cache.wait_timeout(Duration::from_millis(2500)).build().unwrap()
    };
    let one = falling_back(&prefix).await;
    let fails = impatient(OnWaitTimeout::Fail).await;
    let loads = impatient(OnWaitTimeout::Load).await;
    stale(&one).await;
    stale_for(&[&fails, &loads]).await;
    let first = Failing::begin(&one).await;
    let waiting = (ask(&fails), ask(&loads));
    until("both wait", move || [&fails, &loads].map(|it| it.statistics().waits) == [1, 1]).await;
    assert_eq!(one.delete_many(["a"]).await.unwrap(), 1);
    // Somebody loads what is there no more, so that they wait on.
    let next = Failing::begin(&numbers_below(&prefix).await).await;
    let (failed, loaded) = (waiting.0.await.unwrap(), waiting.1.await.unwrap());
    assert!(matches!(failed, Err(Error::WaitTimeout(_))), "{failed:?}");
    assert!(matches!(loaded, Err(Error::Load(_))), "{loaded:?}");
    first.end().await.unwrap_err();
    next.end().await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_set_meanwhile_is_served_and_not_what_was_there_before() {
    let prefix = unique("set meanwhile");
    let (one, other) = (falling_back(&prefix).await, falling_back(&prefix).await);
    stale(&one).await;
    stale_for(&[&other]).await;
    let (first, second) = (Failing::begin(&one).await, Failing::ask(&other));
    let waits = other.clone();
    until("it waits", move || waits.statistics().waits == 1).await;
    // Past its time for both when it comes, so that who waits does not take it for a fresh one.
    one.set("b", &5).time_to_live(Duration::from_millis(1)).await.unwrap();
    while one.exists("b").await.unwrap() || other.exists("b").await.unwrap() {
        tokio::task::yield_now().await;
    }
    let conn = connect_below(&prefix).await;
    let [a, b] = ["a", "b"].map(|key| Prefix::new("cache").join("products").tagged(key));
    let entry = conn.get_bytes(&b).await.unwrap().unwrap();
    conn.set_bytes(&a, entry).await.unwrap();
    let set = Fetched { value: 5, origin: Origin::Stale };
    assert_eq!(first.end().await.unwrap(), set);
    second.entered().await;
    assert_eq!(second.end().await.unwrap(), set);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_to_its_last_end_while_its_load_fails_is_not_served() {
    const BRIEF: Duration = Duration::from_millis(250);
    let slow = async |cache: Cache<u64>| {
        stale(&cache).await;
        let load = async || {
            crate::rest(BRIEF).await;
            fails().await
        };
        let served = cache.get_or_load("a", load).with_origin().await;
        assert!(matches!(served, Err(Error::Load(_))), "{served:?}");
    };
    let (one, other) = (builder(&unique("end")).await, builder(&unique("end")).await);
    tokio::join!(
        slow(one.stale_while_revalidate(BRIEF).build().unwrap()),
        slow(other.stale_if_error(BRIEF).build().unwrap()),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_while_it_is_loaded_early_in_vain_is_not_served_without_a_window() {
    let cache = builder(&unique("early in vain")).await.early_refresh(true).build().unwrap();
    let slow = async || {
        crate::rest(Duration::from_millis(200)).await;
        Ok::<_, std::io::Error>(1)
    };
    cache.get_or_load("a", slow).time_to_live(Duration::from_millis(600)).await.unwrap();
    let fails_when_it_is_over = async || {
        while cache.exists("a").await.unwrap() {
            tokio::task::yield_now().await;
        }
        fails().await
    };
    let error = loop {
        match cache.get_or_load("a", fails_when_it_is_over).await {
            Ok(value) => assert_eq!(value, 1),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Load(_)), "{error:?}");
    assert_eq!(cache.statistics().misses, 1, "it was loaded before its end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stale_and_was_deleted_here_before_it_was_set_elsewhere_is_served_and_stays() {
    let prefix = unique("deleted before");
    for errs in [false, true] {
        let make =
            async || if errs { falling_back(&prefix).await } else { revalidating(&prefix).await };
        let (here, other) = (make().await, make().await);
        here.delete("a").await.unwrap();
        stale(&other).await;
        stale_for(&[&here]).await;
        for cache in [&here, &other] {
            let served = cache.get_or_load("a", fails).with_origin().await;
            assert_eq!(served.unwrap(), STALE, "errs: {errs}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_refresh_is_dropped_others_here_can_load_at_once() {
    let cache = builder(&unique("dropped refresh")).await.lease(PATIENCE * 3);
    let cache = cache.stale_while_revalidate(WINDOW).build().unwrap();
    stale(&cache).await;
    Failing::begin(&cache).await.task.abort();
    let load = async || Ok::<_, std::io::Error>(3);
    let loaded = async { while cache.get_or_load("a", load).await.unwrap() != 3 {} };
    timeout(PATIENCE, loaded).await.expect("its lease is given back");
}

#[test]
fn nobody_here_asks_for_the_lease_of_a_dropped_refresh_before_it_is_given_back() {
    let here = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // The lease is given back where it was asked for, and so not before that runs again.
    let there = Builder::new_current_thread().enable_all().build().unwrap();
    let cache = here.block_on(async {
        let cache = builder(&unique("given back")).await.lease(PATIENCE * 3);
        let cache = cache.stale_while_revalidate(WINDOW).build().unwrap();
        stale(&cache).await;
        cache
    });
    let gate = Gate::default();
    let mut refresh = cache.get_or_load("a", || gate.pass(2)).into_future();
    there.block_on(async {
        tokio::select! {
            _ = &mut refresh => panic!("its loader waits"),
            () = gate.entered() => {}
        }
    });
    drop(refresh);
    let load = async || Ok::<_, std::io::Error>(3);
    assert_eq!(here.block_on(cache.get_or_load("a", load).into_future()).unwrap(), STALE.value);
    let stop = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop);
    let driving = std::thread::spawn(move || there.block_on(stopped.notified()));
    here.block_on(async {
        let loaded = async { while cache.get_or_load("a", load).await.unwrap() != 3 {} };
        timeout(PATIENCE, loaded).await.expect("its lease is given back");
    });
    stop.notify_one();
    driving.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_refresh_among_many_is_dropped_others_here_can_load_at_once() {
    let cache = builder(&unique("dropped refresh of many")).await.lease(PATIENCE * 3);
    let cache = cache.stale_while_revalidate(WINDOW).build().unwrap();
    stale(&cache).await;
    let gate = Arc::new(Gate::default());
    let (many, passed) = (cache.clone(), Arc::clone(&gate));
    let load = move |keys: Vec<&'static str>| {
        let passed = Arc::clone(&passed);
        async move { passed.pass(2).await.map(|value| vec![(keys[0], value)]) }
    };
    let refresh = tokio::spawn(async move { many.get_or_load_many(["a"], load).await });
    timeout(PATIENCE, gate.entered()).await.expect("it loads");
    refresh.abort();
    let load = async || Ok::<_, std::io::Error>(3);
    let loaded = async { while cache.get_or_load("a", load).await.unwrap() != 3 {} };
    timeout(PATIENCE, loaded).await.expect("its lease is given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_of_another_process_that_has_died_is_made_up_for_when_its_lease_is_over() {
    let prefix = unique("refresh of a dead process");
    let one = builder(&prefix).await.lease(Duration::from_millis(500));
    let one = one.stale_while_revalidate(WINDOW).build().unwrap();
    let other = builder(&prefix).await.lease(PATIENCE * 3);
    let other = other.stale_while_revalidate(WINDOW).build().unwrap();
    stale(&one).await;
    stale_for(&[&other]).await;
    let gate = Gate::default();
    let mut parked = one.get_or_load("a", || gate.pass(2)).into_future();
    tokio::select! {
        _ = &mut parked => panic!("its loader waits"),
        () = gate.entered() => {}
    }
    // Nobody polls it, so nobody renews its lease.
    let load = async || Ok::<_, std::io::Error>(3);
    assert_eq!(other.get_or_load("a", load).await.unwrap(), STALE.value);
    let loaded = async { while other.get_or_load("a", load).await.unwrap() != 3 {} };
    timeout(PATIENCE, loaded).await.expect("the lease is over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_loaded_with_others_and_cannot_be_stored_is_left_alone_for_a_while() {
    let cache = builder(&unique("left alone")).await.lease(PATIENCE * 3);
    let cache = cache.stale_while_revalidate(WINDOW).build().unwrap();
    stale(&cache).await;
    let loads = AtomicU64::new(0);
    let load = async |keys: Vec<&'static str>| {
        loads.fetch_add(1, Ordering::Relaxed);
        let loaded = Loaded::new(2).time_to_live(Duration::ZERO);
        Ok::<_, std::io::Error>(vec![(keys[0], loaded)])
    };
    let error = cache.get_or_load_many_with(["a"], load).await.unwrap_err();
    assert!(matches!(error, Error::InvalidDuration), "{error:?}");
    for _ in 0..20 {
        let found = cache.get_or_load_many_with(["a"], load).await.unwrap();
        assert_eq!(found, [Some(STALE.value)]);
    }
    assert_eq!(loads.into_inner(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_is_loaded_anew_although_the_load_of_the_one_before_has_failed() {
    let cache = builder(&unique("one before")).await.lease(PATIENCE * 3);
    let cache = cache.stale_while_revalidate(WINDOW).build().unwrap();
    stale(&cache).await;
    assert_eq!(cache.get_or_load("a", fails).with_origin().await.unwrap(), STALE);
    cache.delete("a").await.unwrap();
    stale(&cache).await;
    let loaded = cache.get_or_load("a", async || Ok::<_, std::io::Error>(2)).with_origin().await;
    assert_eq!(loaded.unwrap(), Fetched { value: 2, origin: Origin::Loaded });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_served_although_the_lease_was_lost_of_a_load_that_fails() {
    let prefix = unique("lost and failed");
    let lease = Prefix::new("cache").join("products").join("lease").tagged("a");
    for cache in [revalidating(&prefix).await, falling_back(&prefix).await] {
        stale(&cache).await;
        let failing = Failing::begin(&cache).await;
        // As when it was not renewed in time.
        assert!(connect_below(&prefix).await.delete(&lease).await.unwrap());
        assert_eq!(failing.end().await.unwrap(), STALE);
    }
}

#[tokio::test]
async fn who_has_nothing_to_go_on_with_loads_at_once_although_others_have_just_failed() {
    let prefix = unique("just failed");
    let cache = builder(&prefix).await.stale_while_revalidate(WINDOW).lease(PATIENCE * 3);
    let cache = cache.build().unwrap();
    stale(&cache).await;
    assert_eq!(ask(&cache).await.unwrap().unwrap(), STALE, "its load has failed");
    // For this one it does not count, since it lacks the tag.
    let load = cache.get_or_load("a", || number(2)).tags(["another"]).into_future();
    assert_eq!(timeout(PATIENCE, load).await.expect("it is not waited for").unwrap(), 2);
}
