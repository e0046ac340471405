//! What this process writes it knows at once.

use std::{
    future::{IntoFuture, poll_fn},
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::Poll,
    time::Duration,
};

use redbrick_cache::{Cache, Change, Local, Rules, Target};
use redbrick_core_conn::Conn;
use redbrick_testkit::{Fault, Server};

use super::{builder, keeping, until_kept};
use crate::{PATIENCE, as_app, number, rest, silent_server};

const TIMES: u64 = 30;

type Write<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What is there after a write: a new value or none.
type Case = (&'static str, bool, for<'a> fn(&'a Cache<u64>, u64) -> Write<'a>);

/// All ways to change an entry, which has a tag.
const WAYS: [Case; 14] = [
    ("set", true, |cache, n| {
        Box::pin(async move { cache.set("a", &n).tags(["x"]).await.unwrap() })
    }),
    ("set_many", true, |cache, n| {
        Box::pin(async move { cache.set_many([("a", &n), ("b", &n)]).tags(["x"]).await.unwrap() })
    }),
    ("refresh", true, |cache, n| {
        Box::pin(async move {
            assert_eq!(cache.refresh("a", || number(n)).tags(["x"]).await.unwrap(), n);
        })
    }),
    ("set of another type", false, |cache, _| {
        Box::pin(async move { cache.of::<String>().set("a", &"text".into()).await.unwrap() })
    }),
    ("delete", false, |cache, _| Box::pin(async { assert!(cache.delete("a").await.unwrap()) })),
    ("delete through a clone", false, |cache, _| {
        Box::pin(async { assert!(cache.clone().delete("a").await.unwrap()) })
    }),
    ("delete_many", false, |cache, _| {
        Box::pin(async { assert!(cache.delete_many(["a", "c"]).await.unwrap() > 0) })
    }),
    ("clear", false, |cache, _| {
        Box::pin(async { assert!(cache.clear(["a*"]).await.unwrap() > 0) })
    }),
    ("clear_all", false, |cache, _| {
        Box::pin(async { assert!(cache.clear_all().await.unwrap() > 0) })
    }),
    ("invalidate_tag", false, |cache, _| {
        Box::pin(async { assert!(cache.invalidate_tag("x").await.unwrap()) })
    }),
    ("invalidate_tags", false, |cache, _| {
        Box::pin(async { assert!(cache.invalidate_tags(["x", "y"]).await.unwrap() > 0) })
    }),
    ("apply to a key", false, |cache, _| Box::pin(apply(cache, Target::key("a")))),
    ("apply to a tag", false, |cache, _| Box::pin(apply(cache, Target::tag("x")))),
    ("apply to a pattern", false, |cache, _| Box::pin(apply(cache, Target::pattern("a*")))),
];

async fn until_made_up_for(cache: &Cache<u64>) {
    let cache = cache.clone();
    crate::until("nothing is owed", move || cache.owed() == 0).await;
}

async fn apply(cache: &Cache<u64>, target: Target) {
    let rules = Rules::builder().on("thing", Change::Update, [target]).build().unwrap();
    cache.apply(&rules, "thing", Change::Update, &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_this_process_writes_it_knows_at_once() {
    let cache = keeping(crate::connect("local_writes").await);
    for (name, is_set, write) in WAYS {
        for n in 1..=TIMES {
            cache.set("a", &0).tags(["x"]).await.unwrap();
            until_kept(&cache, "a").await;
            write(&cache, n).await;
            let expected = is_set.then_some(n);
            assert_eq!(cache.get("a").await.unwrap(), expected, "{name}, {n}");
            assert_eq!(cache.get_many(["a"]).await.unwrap(), [expected], "{name}, {n}");
        }
    }
}

/// Also where the server does not say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_while_this_process_writes_is_not_kept() {
    let (server, _) = silent_server();
    let proxy = server.proxy().unwrap();
    let local = Local::new().max_staleness(PATIENCE);
    let cache =
        builder(Conn::connect(as_app(&proxy.url())).await.unwrap()).local(local).build().unwrap();
    let delay = Duration::from_millis(2);
    proxy.set(Fault::Latency { up: Duration::ZERO, down: delay });
    for (name, is_set, write) in WAYS {
        // An entry with a tag is read in two round trips, and some writes take as many.
        for n in 0..8 {
            cache.set("a", &0).tags(["x"]).await.unwrap();
            let read = async {
                rest(delay * n / 2).await;
                cache.get("a").await.unwrap();
            };
            tokio::join!(write(&cache, 1), read);
            let expected = is_set.then_some(1);
            assert_eq!(cache.get("a").await.unwrap(), expected, "{name}, {n}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_by_a_refresh_that_was_dropped_is_known() {
    let (server, _) = silent_server();
    let proxy = server.proxy().unwrap();
    let local = Local::new().max_staleness(PATIENCE * 10);
    let cache = builder(Conn::connect(as_app(&proxy.url())).await.unwrap()).local(local);
    let cache = cache.build().unwrap();
    cache.refresh("a", || number(1)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(cache.get("a").await.unwrap(), Some(1));
    }
    // It is dropped while it is stored.
    let sent = AtomicU64::new(u64::MAX);
    let load = async || {
        proxy.set(Fault::StallReplies);
        sent.store(proxy.request_bytes(), Ordering::SeqCst);
        number(2).await
    };
    let is_sent = async {
        while proxy.request_bytes() <= sent.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        refreshed = cache.refresh("a", load).into_future() => panic!("{refreshed:?}"),
        () = is_sent => {}
    }
    proxy.clear();
    super::until_is(&cache, "a", Some(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_learned_of_a_tag_while_its_invalidation_was_owed_is_forgotten() {
    let server = Server::start().unwrap();
    let proxy = server.proxy().unwrap();
    let cache = keeping(Conn::connect(proxy.url()).await.unwrap());
    cache.set("a", &1).tags(["x"]).await.unwrap();
    until_kept(&cache, "a").await;
    // The server's word of what changes comes over the link that was made last.
    let late = Duration::from_millis(500);
    proxy.set_for_newest(Fault::Latency { up: Duration::ZERO, down: late });
    server.command(["CONFIG", "SET", "min-replicas-to-write", "1"]).unwrap();
    cache.invalidate_tag("x").await.unwrap_err();
    // Whoever names the tag learns the version that is there still.
    assert_eq!(cache.get_or_load("b", || number(2)).tags(["x"]).await.unwrap(), 2);
    assert_eq!((cache.get("a").await.unwrap(), cache.owed()), (None, 1));
    server.command(["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();
    until_made_up_for(&cache).await;
    assert_eq!(cache.get("a").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_that_this_process_shortens_is_shorter_at_once() {
    // Nobody says so.
    let (_server, url) = silent_server();
    let local = Local::new().max_staleness(PATIENCE * 10);
    let cache = builder(Conn::connect(&url).await.unwrap()).local(local).build().unwrap();
    for n in 0..10 {
        cache.set("a", &n).await.unwrap();
        until_kept(&cache, "a").await;
        apply(&cache, Target::shorten("a", Duration::from_millis(30))).await;
        super::until_is(&cache, "a", None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_dropped_is_known_as_well() {
    let cache = keeping(crate::connect("local_dropped").await);
    for (name, _, write) in WAYS {
        if name == "refresh" {
            // It is no invalidation.
            continue;
        }
        for n in 1..=TIMES {
            cache.set("a", &0).tags(["x"]).await.unwrap();
            until_kept(&cache, "a").await;
            let mut writing = write(&cache, n);
            let polled = poll_fn(|cx| Poll::Ready(writing.as_mut().poll(cx).is_pending())).await;
            drop(writing);
            assert_ne!(cache.get("a").await.unwrap(), Some(0), "{name}, {n}, {polled}");
            until_made_up_for(&cache).await;
            assert_ne!(cache.get("a").await.unwrap(), Some(0), "{name}, {n}, made");
        }
    }
}
