//! What happens at once. Each guard of a script has a test here, in `wait.rs`, `place.rs`, `stale.rs`, `shorten.rs`,
//! `tags.rs`, `load.rs` or `count.rs` that fails without it.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redbrick_cache::{Cache, Change, Fetched, Origin, Rules, Target};
use redbrick_core_conn::Conn;
use redbrick_testkit::{Fault, Server, unique};

use crate::{Gate, never, number, numbers_below, patient, until};

/// A load in another process that is under way.
pub(crate) struct Load {
    gate: Arc<Gate>,
    pub(crate) task: tokio::task::JoinHandle<Result<Fetched<u64>, redbrick_cache::Error>>,
}

impl Load {
    pub(crate) async fn begin(prefix: &str, loads: u64) -> Self {
        Self::begin_with(numbers_below(prefix).await, loads).await
    }

    pub(crate) async fn begin_with(cache: Cache<u64>, loads: u64) -> Self {
        let gate = Arc::new(Gate::default());
        let task = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { cache.get_or_load("a", || gate.pass(loads)).with_origin().await }
        });
        gate.entered().await;
        Self { gate, task }
    }

    /// Lets it go on, and returns what its caller was given.
    pub(crate) async fn end(self) -> Fetched<u64> {
        self.gate.open();
        self.task.await.unwrap().unwrap()
    }
}

pub(crate) const LOADED: Fetched<u64> = Fetched { value: 1, origin: Origin::Loaded };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_loaded_before_a_delete_is_not_stored() {
    let prefix = unique("fill after delete");
    let cache = numbers_below(&prefix).await;
    for many in [false, true] {
        let load = Load::begin(&prefix, 1).await;
        let deleted = match many {
            true => cache.delete_many(["a"]).await.unwrap() == 1,
            false => cache.delete("a").await.unwrap(),
        };
        assert_eq!(deleted, many, "what is being loaded is no entry, and counts as one of many");
        assert_eq!(load.end().await, LOADED, "it asked before");
        assert_eq!(cache.get("a").await.unwrap(), None, "many: {many}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_loaded_before_a_set_does_not_replace_it() {
    let prefix = unique("fill after set");
    let cache = numbers_below(&prefix).await;
    for many in [false, true] {
        let load = Load::begin(&prefix, 1).await;
        match many {
            true => cache.set_many([("a", &2), ("b", &3)]).await.unwrap(),
            false => cache.set("a", &2).await.unwrap(),
        }
        assert_eq!(load.end().await, LOADED);
        assert_eq!(cache.get("a").await.unwrap(), Some(2), "many: {many}");
        cache.delete("a").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_loaded_before_a_clear_is_not_stored() {
    let prefix = unique("fill after clear");
    let cache = numbers_below(&prefix).await;
    let load = Load::begin(&prefix, 1).await;
    assert_eq!(cache.clear(["a*"]).await.unwrap(), 1, "what is being loaded counts");
    assert_eq!(load.end().await, LOADED);
    assert_eq!(cache.get("a").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_loaded_before_a_life_was_shortened_is_not_stored() {
    let prefix = unique("fill after shorten");
    let cache = numbers_below(&prefix).await;
    let target = Target::shorten("a", Duration::from_secs(5));
    let rules = Rules::builder().on("x", Change::Update, [target]).build().unwrap();
    let load = Load::begin(&prefix, 1).await;
    let applied = cache.apply(&rules, "x", Change::Update, &[]).await.unwrap();
    assert_eq!(applied.shortened, 0);
    assert_eq!(load.end().await, LOADED);
    assert_eq!(cache.get("a").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_is_never_given_what_was_invalidated_before_it_asked() {
    let prefix = unique("follower");
    let (cache, other) = (numbers_below(&prefix).await, numbers_below(&prefix).await);
    let gate = Arc::new(Gate::default());
    let leader = tokio::spawn({
        let (cache, gate) = (cache.clone(), Arc::clone(&gate));
        async move { cache.get_or_load("a", || gate.pass(1)).await.unwrap() }
    });
    gate.entered().await;
    // In another process, so that nothing here knows.
    other.delete("a").await.unwrap();
    let follower = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_load("a", || number(2)).await.unwrap() }
    });
    let waits = cache.clone();
    until("the follower has missed", move || waits.statistics().misses == 2).await;
    gate.open();
    assert_eq!((leader.await.unwrap(), follower.await.unwrap()), (1, 2));
    assert_eq!(cache.statistics().refused_fills, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_comes_between_the_read_and_the_lease_is_found() {
    let server = Arc::new(Server::start().unwrap());
    let proxy = server.proxy().unwrap();
    let here = patient::<u64>(Conn::connect(proxy.url()).await.unwrap());
    let other = patient::<u64>(Conn::connect(server.url()).await.unwrap());
    proxy.set(Fault::StallReplies);
    let load = tokio::spawn(async move { here.get_or_load("a", never).with_origin().await });
    let asked = Arc::clone(&server);
    until("it has missed", move || asked.command_counts().unwrap().of("get") > 0).await;
    other.set("a", &5).await.unwrap();
    proxy.clear();
    let found = load.await.unwrap().unwrap();
    assert_eq!(found, Fetched { value: 5, origin: Origin::Cached });
}

type Invalidating<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Four readers on connections of their own, while a writer changes the source and then invalidates. Nobody may be given
/// what was invalidated before it asked.
async fn history(test: &str, invalidate: impl for<'a> Fn(&'a Cache<u64>, u64) -> Invalidating<'a>) {
    let prefix = unique(test);
    let writer = numbers_below(&prefix).await;
    let source = Arc::new(AtomicU64::new(0));
    let invalidated = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicU64::new(0));
    let mut readers = Vec::new();
    for seed in 0..4_u64 {
        let cache = numbers_below(&prefix).await;
        let (source, invalidated, over) =
            (Arc::clone(&source), Arc::clone(&invalidated), Arc::clone(&over));
        readers.push(tokio::spawn(async move {
            let mut rounds = seed;
            while over.load(Ordering::SeqCst) == 0 {
                rounds += 1;
                let floor = invalidated.load(Ordering::SeqCst);
                let load = async || {
                    let value = source.load(Ordering::SeqCst);
                    // As long as a few calls of the others take, or not at all.
                    for _ in 0..(rounds % 8) * 20 {
                        tokio::task::yield_now().await;
                    }
                    number(value).await
                };
                let value = cache.get_or_load("a", load).tags(["t"]).await.unwrap();
                assert!(value >= floor, "{value} was invalidated: {floor}");
            }
            cache.statistics().loads
        }));
    }
    for version in 1..=300 {
        source.store(version, Ordering::SeqCst);
        invalidate(&writer, version).await;
        invalidated.store(version, Ordering::SeqCst);
        for _ in 0..(version % 5) * 10 {
            tokio::task::yield_now().await;
        }
    }
    over.store(1, Ordering::SeqCst);
    let mut loads = 0;
    for reader in readers {
        loads += reader.await.unwrap();
    }
    // With `set` the writer stores what the others then find.
    assert!(loads > 10 || test == "history of sets", "{loads} loads tell nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stale_is_read_while_entries_are_deleted() {
    history("history of deletes", |cache, _| {
        Box::pin(async {
            let _ = cache.delete("a").await.unwrap();
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stale_is_read_while_entries_are_set() {
    history("history of sets", |cache, version| {
        Box::pin(async move {
            // Expired at once, so that the others load.
            let life = Duration::from_millis(1 + version % 3);
            cache.set("a", &version).time_to_live(life).await.unwrap();
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stale_is_read_while_tags_are_invalidated() {
    history("history of tags", |cache, _| {
        Box::pin(async {
            let _ = cache.invalidate_tag("t").await.unwrap();
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stale_is_read_while_patterns_are_cleared() {
    history("history of clears", |cache, _| {
        Box::pin(async {
            let _ = cache.clear(["a"]).await.unwrap();
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loaders_that_begin_at_once_agree_on_the_versions_of_tags() {
    let prefix = unique("tag versions");
    let mut caches = Vec::new();
    for _ in 0..4 {
        caches.push(numbers_below(&prefix).await);
    }
    for round in 0..50 {
        let tag = format!("tag {round}");
        let tasks: Vec<_> = caches
            .iter()
            .enumerate()
            .map(|(n, cache)| {
                let (cache, tag) = (cache.clone(), tag.clone());
                let key = format!("{round} {n}");
                tokio::spawn(async move { cache.set(key, &1).tags([tag]).await.unwrap() })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let keys: Vec<_> = (0..4).map(|n| format!("{round} {n}")).collect();
        let found = caches[0].get_many(&keys).await.unwrap();
        assert_eq!(found, [Some(1); 4], "all of them count");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_count_is_lost_among_many() {
    let prefix = unique("counts");
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let cache = numbers_below(&prefix).await;
        tasks.push(tokio::spawn(async move {
            for _ in 0..100 {
                cache.increment("n", 3).await.unwrap();
                cache.decrement("n", 1).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(numbers_below(&prefix).await.count("n").await.unwrap(), Some(800));
}
