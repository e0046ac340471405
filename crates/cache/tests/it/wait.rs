//! Waiting for the load of another process.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{future::IntoFuture, sync::Arc, time::Duration};

use redbrick_cache::{
    Cache, CacheBuilder, Change, Error, Fetched, OnWaitTimeout, Origin, Rules, Target,
};
use redbrick_core_conn::{Config, Conn};
use redbrick_testkit::{Fault, Server, unique};
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    Gate, PATIENCE, connect_below, never, number, numbers_below, patient,
    race::{LOADED, Load},
    until,
};

const CACHED: Fetched<u64> = Fetched { value: 1, origin: Origin::Cached };

/// A caller in another process, who waits.
struct Waiting {
    gate: Arc<Gate>,
    task: JoinHandle<Result<Fetched<u64>, Error>>,
}

impl Waiting {
    /// It would not be told by time alone that a lease has ended.
    async fn begin(prefix: &str) -> Self {
        Self::begin_with(long(prefix).await).await
    }

    /// Its own loader would return 2.
    async fn begin_with(cache: Cache<u64>) -> Self {
        let gate = Arc::new(Gate::default());
        let task = tokio::spawn({
            let (cache, gate) = (cache.clone(), Arc::clone(&gate));
            async move { cache.get_or_load("a", || gate.pass(2)).with_origin().await }
        });
        until("it waits", move || cache.statistics().waits == 1).await;
        Self { gate, task }
    }

    /// Returns what it is given without having loaded, long before the lease would have ended by itself.
    async fn given(self) -> Fetched<u64> {
        let given = timeout(PATIENCE, self.task).await.expect("somebody tells it");
        given.unwrap().unwrap()
    }

    /// Waits until it loads itself, lets it, and returns what it is given.
    async fn loads(self) -> Fetched<u64> {
        timeout(PATIENCE, self.gate.entered()).await.expect("somebody tells it");
        self.gate.open();
        self.task.await.unwrap().unwrap()
    }
}

/// A cache whose leases outlast every test.
async fn long(prefix: &str) -> Cache<u64> {
    let cache = Cache::builder(connect_below(prefix).await, "products");
    cache.redis_timeout(PATIENCE).lease(PATIENCE * 3).build().unwrap()
}

async fn load(prefix: &str) -> Load {
    Load::begin_with(long(prefix).await, 1).await
}

/// A load that is under way, and fails when the gate is opened.
async fn failing(cache: &Cache<u64>, gate: &Arc<Gate>) -> JoinHandle<Result<u64, Error>> {
    let (cache, passed) = (cache.clone(), Arc::clone(gate));
    let loader = async move || match passed.pass(1).await {
        Ok(_) => Err(std::io::Error::other("no luck")),
        error => error,
    };
    let failing = tokio::spawn(async move { cache.get_or_load("a", loader).await });
    gate.entered().await;
    failing
}

async fn short(prefix: &str) -> CacheBuilder<u64> {
    let cache = Cache::builder(connect_below(prefix).await, "products");
    cache.redis_timeout(PATIENCE).lease(Duration::from_millis(300))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_loads_and_the_others_are_given_what_it_stored() {
    let prefix = unique("fleet");
    let load = load(&prefix).await;
    let (one, other) = (Waiting::begin(&prefix).await, Waiting::begin(&prefix).await);
    assert_eq!(load.end().await, LOADED);
    assert_eq!((one.given().await, other.given().await), (CACHED, CACHED));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callers_of_a_process_that_waits_share_what_it_given() {
    let prefix = unique("fleet and process");
    let load = load(&prefix).await;
    let cache = numbers_below(&prefix).await;
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get_or_load("a", never).with_origin().await.unwrap() })
        })
        .collect();
    let missed = cache.clone();
    until("all have missed", move || {
        let now = missed.statistics();
        (now.misses, now.waits) == (20, 1)
    })
    .await;
    assert_eq!(load.end().await, LOADED);
    for task in tasks {
        assert_eq!(task.await.unwrap(), CACHED);
    }
    assert_eq!(cache.statistics().coalesced, 19);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_loads_when_the_other_one_fails() {
    let prefix = unique("fleet and failure");
    let (cache, gate) = (long(&prefix).await, Arc::new(Gate::default()));
    let failing = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move {
            let loader = async || match gate.pass(1).await {
                Ok(_) => Err(std::io::Error::other("no luck")),
                error => error,
            };
            cache.get_or_load("a", loader).await
        }
    });
    gate.entered().await;
    let waiting = Waiting::begin(&prefix).await;
    gate.open();
    assert!(matches!(failing.await.unwrap(), Err(Error::Load(_))));
    assert_eq!(waiting.loads().await, Fetched { value: 2, origin: Origin::Loaded });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_loads_when_the_call_of_the_other_one_is_dropped_or_panics() {
    let prefix = unique("fleet and drop");
    let load = load(&prefix).await;
    let waiting = Waiting::begin(&prefix).await;
    load.task.abort();
    assert_eq!(waiting.loads().await.value, 2);

    let cache = numbers_below(&prefix).await;
    cache.delete("a").await.unwrap();
    let gate = Arc::new(Gate::default());
    let panicking = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move {
            let loader = async || {
                let passed = gate.pass(1).await;
                assert!(passed.is_err(), "on purpose");
                passed
            };
            cache.get_or_load("a", loader).await
        }
    });
    gate.entered().await;
    let waiting = Waiting::begin(&prefix).await;
    gate.open();
    panicking.await.unwrap_err();
    assert_eq!(waiting.loads().await.value, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_loads_when_the_entry_is_invalidated_meanwhile() {
    let prefix = unique("fleet and delete");
    let cache = numbers_below(&prefix).await;
    let target = Target::shorten("a", Duration::from_secs(5));
    let rules = Rules::builder().on("x", Change::Update, [target]).build().unwrap();
    for way in 0..4 {
        let load = load(&prefix).await;
        let waiting = Waiting::begin(&prefix).await;
        match way {
            0 => drop(cache.delete("a").await.unwrap()),
            1 => drop(cache.apply(&rules, "x", Change::Update, &[]).await.unwrap()),
            // Nothing that tells those who wait, but the load that ends in vain, or the lease that is over.
            2 => drop(cache.delete_many(["a"]).await.unwrap()),
            _ => drop(cache.clear(["a"]).await.unwrap()),
        }
        if way < 2 {
            assert_eq!(waiting.loads().await.value, 2, "while the other one loads still");
            assert_eq!(load.end().await, LOADED);
        } else {
            assert_eq!(load.end().await, LOADED);
            assert_eq!(waiting.loads().await.value, 2);
        }
        assert_eq!(cache.get("a").await.unwrap(), Some(2), "{way}");
        cache.delete("a").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_is_given_what_was_set_meanwhile_when_the_load_has_ended() {
    let prefix = unique("fleet and set");
    let cache = numbers_below(&prefix).await;
    let load = load(&prefix).await;
    let waiting = Waiting::begin(&prefix).await;
    cache.set("a", &3).await.unwrap();
    assert_eq!(load.end().await, LOADED);
    assert_eq!(waiting.given().await, Fetched { value: 3, origin: Origin::Cached });
    assert_eq!(cache.get("a").await.unwrap(), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_lives_on_while_its_loader_runs() {
    let server = Arc::new(Server::start().unwrap());
    let conn = Conn::connect(server.url()).await.unwrap();
    let cache = || {
        let cache = Cache::builder(conn.clone(), "products").redis_timeout(PATIENCE);
        cache.lease(Duration::from_millis(300)).build().unwrap()
    };
    let load = Load::begin_with(cache(), 1).await;
    let waiting = Waiting::begin_with(cache()).await;
    let counts = Arc::clone(&server);
    until("it is renewed", move || counts.command_counts().unwrap().of("pexpire") >= 6).await;
    assert_eq!(load.end().await, LOADED);
    assert_eq!(waiting.given().await, CACHED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_nobody_renews_is_over() {
    let server = Server::start().unwrap();
    let proxy = server.proxy().unwrap();
    let cache = |conn| {
        let cache = Cache::<u64>::builder(conn, "products").redis_timeout(PATIENCE);
        cache.lease(Duration::from_millis(300)).build().unwrap()
    };
    let load = Load::begin_with(cache(Conn::connect(proxy.url()).await.unwrap()), 1).await;
    let conn = Conn::connect(server.url()).await.unwrap();
    let waiting = Waiting::begin_with(cache(conn.clone())).await;
    proxy.set(Fault::Stall);
    assert_eq!(waiting.loads().await, Fetched { value: 2, origin: Origin::Loaded });
    proxy.clear();
    assert_eq!(load.end().await.value, 1, "its caller asked before");
    assert_eq!(cache(conn).get("a").await.unwrap(), Some(2), "it is not stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_longer_than_told() {
    let prefix = unique("fleet and patience");
    let load = load(&prefix).await;
    let told = Duration::from_millis(50);
    let impatient = short(&prefix).await.wait_timeout(told).build().unwrap();
    let loaded = impatient.get_or_load("a", || number(2)).with_origin().await.unwrap();
    assert_eq!(loaded, Fetched { value: 2, origin: Origin::Bypassed });
    let failing = short(&prefix).await.wait_timeout(told);
    let failing = failing.on_wait_timeout(OnWaitTimeout::Fail).build().unwrap();
    let error = failing.get_or_load("a", never).await.unwrap_err();
    assert!(matches!(error, Error::WaitTimeout(said) if said == told), "{error:?}");
    assert!(error.is_retryable() && error.is_timeout());
    assert_eq!(load.end().await, LOADED);
    assert_eq!(failing.get("a").await.unwrap(), Some(1), "what was loaded beside it is not stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_listen_it_is_asked_now_and_then() {
    let server = Server::start().unwrap();
    let rights = ["ACL", "SETUSER", "mute", "on", "nopass", "+@all", "~*", "resetchannels"];
    server.command(rights).unwrap();
    let config = Config::builder().url(server.url()).username("mute").password("any");
    let load = Load::begin_with(patient(Conn::connect(config.clone()).await.unwrap()), 1).await;
    let waiting = Waiting::begin_with(patient(Conn::connect(config).await.unwrap())).await;
    assert_eq!(load.end().await, LOADED);
    assert_eq!(waiting.given().await, CACHED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_was_lost_is_neither_given_back_nor_renewed_by_who_had_it() {
    let prefix = unique("lost lease");
    let (cache, gate) = (long(&prefix).await, Arc::new(Gate::default()));
    let failing = failing(&cache, &gate).await;
    cache.delete("a").await.unwrap();
    let second = load(&prefix).await;
    gate.open();
    failing.await.unwrap().unwrap_err();
    assert_eq!(second.end().await, LOADED);
    assert_eq!(cache.get("a").await.unwrap(), Some(1), "its lease was its own");

    let server = Server::start().unwrap();
    let proxy = server.proxy().unwrap();
    let cache = async |url| {
        let cache = Cache::<u64>::builder(Conn::connect(url).await.unwrap(), "products");
        cache.redis_timeout(PATIENCE).lease(Duration::from_millis(300)).build().unwrap()
    };
    let _first = Load::begin_with(cache(server.url()).await, 1).await;
    cache(server.url()).await.delete("a").await.unwrap();
    let _second = Load::begin_with(cache(proxy.url()).await, 1).await;
    proxy.set(Fault::Stall);
    let cache = cache(server.url()).await;
    let third = timeout(PATIENCE, cache.get_or_load("a", || number(3)).into_future()).await;
    assert_eq!(third.expect("nobody renews the second one's lease").unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_fails_after_its_lease_was_cleared_tells_those_who_wait() {
    let prefix = unique("cleared and failed");
    let (cache, gate) = (long(&prefix).await, Arc::new(Gate::default()));
    let failing = failing(&cache, &gate).await;
    let waiting = Waiting::begin(&prefix).await;
    cache.clear(["a"]).await.unwrap();
    gate.open();
    failing.await.unwrap().unwrap_err();
    assert_eq!(waiting.loads().await.value, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_is_not_given_an_entry_of_another_process_that_lacks_its_tag() {
    let prefix = unique("fleet and tags");
    let load = load(&prefix).await;
    let cache = long(&prefix).await;
    let untagged = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_load("a", never).await.unwrap() }
    });
    let waits = cache.clone();
    until("it waits", move || waits.statistics().waits == 1).await;
    let tagged = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_load("a", || number(2)).tags(["x"]).await.unwrap() }
    });
    let missed = cache.clone();
    until("both have missed", move || missed.statistics().misses == 2).await;
    assert_eq!(load.end().await, LOADED);
    assert_eq!((untagged.await.unwrap(), tagged.await.unwrap()), (1, 2));
}
