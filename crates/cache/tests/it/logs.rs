//! What the log says where no caller is told.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{
    cell::RefCell,
    fmt, io,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redbrick_cache::Cache;
use redbrick_testkit::unique;
use tracing::{
    Event, Level, Metadata,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use crate::{PATIENCE, connect_below};

thread_local! {
    /// The warnings of this thread, which is that of one test with all its tasks.
    static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Writes warnings down where they belong. One for the whole process: tracing remembers of each place in the code
/// whether anybody listens.
struct Warnings;

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Id::from_u64(NEXT.fetch_add(1, Ordering::Relaxed))
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        // Others are about one connection, and may be of another test.
        if text.0.contains("cache=") {
            SAID.with_borrow_mut(|said| said.push(text.0));
        }
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn listen() {
    static LISTENING: OnceLock<()> = OnceLock::new();
    LISTENING.get_or_init(|| tracing::subscriber::set_global_default(Warnings).unwrap());
    SAID.take();
}

async fn fails() -> Result<u64, io::Error> {
    Err(io::Error::other("the source is down"))
}

#[tokio::test]
async fn a_load_that_fails_while_something_is_served_is_warned_of_once_a_second_with_its_cause() {
    listen();
    let conn = connect_below(&unique("warned")).await;
    let cache = Cache::builder(conn, "prices").redis_timeout(PATIENCE);
    let cache = cache.stale_if_error(PATIENCE).lease(Duration::from_millis(1)).build().unwrap();
    for key in ["user:ada", "user:eve"] {
        cache.set(key, &1).time_to_live(Duration::from_millis(1)).await.unwrap();
        while cache.exists(key).await.unwrap() {
            tokio::task::yield_now().await;
        }
        assert_eq!(cache.get_or_load(key, fails).await.unwrap(), 1);
    }
    let said = SAID.take();
    let [warning] = &said[..] else { panic!("{said:?}") };
    assert!(warning.contains("prices") && warning.contains("the source is down"), "{warning}");
    assert!(!warning.contains("user:"), "keys are nobody's business: {warning}");
}

#[tokio::test]
async fn a_warm_up_that_fails_is_warned_of_with_its_cause() {
    listen();
    let cache: Cache<u64> = Cache::new(connect_below(&unique("warm warned")).await, "prices");
    let two = 2.try_into().unwrap();
    let warmed = cache.warm(["user:ada", "user:eve"], two, async |_| fails().await).await;
    assert_eq!(warmed.failed, 2);
    let said = SAID.take();
    assert!(said.len() == 1 && said[0].contains("the source is down"), "{said:?}");
}

#[cfg(feature = "macros")]
#[redbrick_cache::cached(cache = prices, key = "user:{user}")]
async fn price(prices: &Cache<u64>, user: &str) -> u64 {
    u64::try_from(user.len()).unwrap()
}

#[cfg(feature = "macros")]
#[redbrick_cache::invalidates(cache = prices, keys("user:{user}"))]
async fn raise(prices: &Cache<u64>, user: &str) {}

#[cfg(feature = "macros")]
#[tokio::test]
async fn what_an_attribute_goes_without_or_owes_is_warned_of_each_for_itself() {
    listen();
    let server = redbrick_testkit::Server::start().unwrap();
    let conn = redbrick_core_conn::Conn::connect(server.url()).await.unwrap();
    let strict = Cache::builder(conn, "prices").on_error(redbrick_cache::OnError::Fail);
    let prices = strict.build().unwrap();
    server.kill().unwrap();
    assert_eq!(price(&prices, "ada").await, 3);
    raise(&prices, "ada").await;
    let said = SAID.take();
    let about = |what: &str| said.iter().filter(|it| it.contains(what)).count();
    assert_eq!(about("a function is called without its cache"), 1, "{said:?}");
    assert_eq!(about("could not be invalidated"), 1, "{said:?}");
    assert!(said.iter().all(|it| !it.contains("ada")), "keys are nobody's business: {said:?}");
}

#[cfg(feature = "local")]
#[tokio::test]
async fn that_nobody_says_what_changes_is_warned_of() {
    listen();
    let (_server, url) = crate::silent_server();
    let conn = redbrick_core_conn::Conn::connect(url).await.unwrap();
    let local = redbrick_cache::Local::new();
    let prices: Cache<u64> = Cache::builder(conn, "prices").local(local).build().unwrap();
    let late = tokio::time::Instant::now() + PATIENCE;
    loop {
        prices.get("user:ada").await.unwrap();
        let said = SAID.take();
        if let [warning] = &said[..] {
            assert!(warning.contains("prices") && warning.contains("do not say what changes"));
            break;
        }
        assert!(said.is_empty() && tokio::time::Instant::now() < late, "{said:?}");
    }
}
