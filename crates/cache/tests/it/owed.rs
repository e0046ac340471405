//! Invalidations that Redis could not be asked for.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::time::Duration;

use redbrick_cache::{Cache, Change, Error, Rules, Target};
use redbrick_core_conn::{Config, Conn};
use redbrick_testkit::{Proxy, Server};

use tokio::time::timeout;

use crate::{PATIENCE, number, patient, until};

/// One process whose way to the server can be blocked, and one beside it.
struct Two {
    _server: Server,
    proxy: Proxy,
    cache: Cache<u64>,
    other: Cache<u64>,
}

impl Two {
    async fn start() -> Self {
        let server = Server::start().unwrap();
        let proxy = server.proxy().unwrap();
        let connect = async |url: String, timeout: Duration| {
            let config = Config::builder().url(url).command_timeout(timeout);
            Cache::new(Conn::connect(config).await.unwrap(), "products")
        };
        let cache = connect(proxy.url(), Duration::from_millis(300)).await;
        let other = connect(server.url(), PATIENCE).await;
        for key in ["a", "b"] {
            other.set(key, &1).tags(["t", "u"]).await.unwrap();
        }
        assert_eq!(cache.get_many(["a", "b"]).await.unwrap(), [Some(1), Some(1)]);
        Self { _server: server, proxy, cache, other }
    }

    /// Has something invalidate what is at `a`, in vain.
    async fn invalidate<T>(&self, call: impl AsyncFnOnce(&Cache<u64>) -> Result<T, Error>) {
        self.proxy.refuse();
        self.proxy.reset();
        let failed = call(&self.cache).await.map(drop).unwrap_err();
        assert!(failed.is_retryable(), "{failed:?}");
        assert_eq!(self.other.get("a").await.unwrap(), Some(1), "it is there for others");
        assert!(self.cache.owed() > 0);
        self.proxy.accept().unwrap();
    }

    /// What is there is never given here, and goes for others.
    async fn is_made_up_for(&self) {
        loop {
            // Whether the way is open already or not.
            match self.cache.get("a").await {
                Ok(found) => assert_eq!(found, None),
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
            if self.other.get("a").await.unwrap().is_none() {
                break;
            }
            tokio::task::yield_now().await;
        }
        // What comes after it counts, here as well.
        self.other.set("a", &2).tags(["t", "u"]).await.unwrap();
        while self.cache.get("a").await.unwrap_or(None) != Some(2) || self.cache.owed() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

macro_rules! made_up_for {
    ($($name:ident: $call:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let two = Two::start().await;
            let call: fn(Cache<u64>) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> =
                |cache| Box::pin(async move { ($call)(cache).await });
            two.invalidate(async |cache| call(cache.clone()).await).await;
            two.is_made_up_for().await;
        }
    )*};
}

made_up_for! {
    deleting: async |cache: Cache<u64>| cache.delete("a").await.map(drop);
    deleting_many: async |cache: Cache<u64>| cache.delete_many(["a", "b"]).await.map(drop);
    storing: async |cache: Cache<u64>| cache.set("a", &3).await;
    storing_with_tags: async |cache: Cache<u64>| cache.set("a", &3).tags(["t"]).await;
    storing_many: async |cache: Cache<u64>| cache.set_many([("a", &3), ("b", &3)]).await;
    invalidating_a_tag: async |cache: Cache<u64>| cache.invalidate_tag("t").await.map(drop);
    invalidating_tags: async |cache: Cache<u64>| cache.invalidate_tags(["u", "v"]).await.map(drop);
    clearing: async |cache: Cache<u64>| cache.clear(["a*"]).await.map(drop);
    clearing_all: async |cache: Cache<u64>| cache.clear_all().await.map(drop);
}

/// What comes behind a step that fails is made up for as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applying_rules() {
    let rules = Rules::builder().on(
        "x",
        Change::Update,
        [Target::tag("another"), Target::key("b"), Target::pattern("a*")],
    );
    let rules = rules.build().unwrap();
    let two = Two::start().await;
    two.invalidate(async |cache| cache.apply(&rules, "x", Change::Update, &[]).await).await;
    two.is_made_up_for().await;
    assert_eq!(two.other.get("b").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_be_short_lived_is_deleted() {
    let life = Duration::from_secs(300);
    let rules = Rules::builder().on("x", Change::Update, [Target::shorten("a", life)]);
    let rules = rules.build().unwrap();
    let two = Two::start().await;
    two.invalidate(async |cache| cache.apply(&rules, "x", Change::Update, &[]).await).await;
    two.is_made_up_for().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidation_that_is_dropped_is_made_all_the_same() {
    let two = Two::start().await;
    two.proxy.set(redbrick_testkit::Fault::StallRequests);
    let delete = timeout(Duration::from_millis(20), two.cache.delete("a"));
    assert!(delete.await.is_err(), "it is under way");
    two.proxy.clear();
    two.is_made_up_for().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_are_remembered_empty_the_cache() {
    let two = Two::start().await;
    let keys = (0..10_001).map(|n| format!("another:{n}"));
    two.invalidate(async |cache| cache.delete_many(keys).await).await;
    two.is_made_up_for().await;
    assert_eq!(two.other.get("b").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_it_is_made_up_for_a_load_replaces_what_is_there() {
    // Deleting is refused, reading is not.
    let server = Server::start().unwrap();
    let cache: Cache<u64> = Cache::new(Conn::connect(server.url()).await.unwrap(), "products");
    cache.set("a", &1).await.unwrap();
    server.command(["CONFIG", "SET", "min-replicas-to-write", "1"]).unwrap();
    let failed = cache.delete("a").await.unwrap_err();
    assert!(failed.is_retryable(), "{failed:?}");
    assert_eq!(cache.get("a").await.unwrap(), None);
    assert_eq!(cache.get_many(["a"]).await.unwrap(), [None]);
    assert!(!cache.exists("a").await.unwrap());
    assert_eq!(cache.get_or_load("a", || number(2)).await.unwrap(), 2);
    server.command(["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();
    while cache.get_or_load("a", || number(3)).await.unwrap() != 3
        || cache.get("a").await.unwrap() != Some(3)
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_refused_is_told_and_not_owed() {
    let rules = "~cache:products:{* &* +@all ~cache:products:count:*";
    let server = Server::builder().user("app", "secret", rules).start().unwrap();
    let admin: Cache<u64> = Cache::new(Conn::connect(server.url()).await.unwrap(), "products");
    let url = server.url().replace("redis://", "redis://app:secret@");
    let cache: Cache<u64> = Cache::new(Conn::connect(url).await.unwrap(), "products");
    admin.set("a", &1).await.unwrap();
    for refused in [
        cache.set_many([("a", &2)]).tags(["t"]).await.unwrap_err(),
        cache.set("a", &2).tags(["t"]).await.unwrap_err(),
        cache.invalidate_tag("t").await.map(drop).unwrap_err(),
    ] {
        assert!(!refused.is_retryable(), "{refused:?}");
        assert_eq!(cache.get("a").await.unwrap(), Some(1), "it stays what it was");
    }
}

#[test]
fn a_runtime_ends_although_an_invalidation_is_under_way() {
    let server = Server::start().unwrap();
    let (ended, end) = std::sync::mpsc::channel();
    let url = server.url();
    let paused = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let cache: Cache<u64> =
            Cache::new(runtime.block_on(Conn::connect(url)).unwrap(), "products");
        let paused = server.pause().unwrap();
        runtime.block_on(async {
            let deleting = tokio::spawn(async move { cache.delete("a").await });
            timeout(Duration::from_millis(50), deleting).await.unwrap_err();
        });
        drop(runtime);
        ended.send(()).unwrap();
        paused.resume();
    });
    end.recv_timeout(PATIENCE).expect("dropping it does not hang");
    paused.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_to_be_stored_together_with_others_is_not_stored_after_it_was_given_up() {
    let server = Server::start().unwrap();
    let cache = patient::<u64>(Conn::connect(server.url()).await.unwrap());
    cache.set("known", &0).tags(["t"]).await.unwrap();
    let mut given_up = 0;
    for round in 0..300 {
        let sets = (0..100).map(|n| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.set(format!("{round}:{n}"), &n).tags(["t"]).await })
        });
        let sets: Vec<_> = sets.collect();
        crate::rest(Duration::from_micros(round % 500)).await;
        sets.iter().for_each(tokio::task::JoinHandle::abort);
        let mut keys = Vec::new();
        for (n, set) in sets.into_iter().enumerate() {
            match set.await {
                Ok(stored) => stored.unwrap(),
                Err(_dropped) => keys.push(format!("{round}:{n}")),
            }
        }
        given_up += keys.len();
        let debtor = cache.clone();
        until("all is made up for", move || debtor.owed() == 0).await;
        // It comes after all that was sent before.
        cache.set("last", &0).tags(["t"]).await.unwrap();
        let found = cache.get_many(&keys).await.unwrap();
        assert!(found.iter().all(Option::is_none), "in round {round}");
    }
    assert!(given_up > 1_000, "{given_up}");
}
