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
        if text.0.contains("load has failed") {
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
