//! Doing without a server, for the whole connection and for single calls.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redbrick_core_conn::{
    self as core_conn, Config, Confirm, Conn, ErrorKind, Pattern, ReadFrom, Replay, Script, State,
    Ttl,
};
use redbrick_testkit::{Fault, Server};
use tokio::time::{Instant, timeout};
use tracing::{
    Event, Level, Metadata,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use crate::{PATIENCE, assert_wrong_type, reach, server};

static ONE: Script = Script::new("test.one", "return 1");

thread_local! {
    /// The warnings of this thread, which is that of one test with all its tasks.
    static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Writes warnings down where they belong. One for the whole process: tracing remembers of each place in the code
/// whether anybody listens, and several for a thread each would confuse it.
struct Warnings;

/// Has the warnings of this thread written down from now on.
pub(crate) fn listen() {
    static LISTENING: OnceLock<()> = OnceLock::new();
    LISTENING.get_or_init(|| tracing::subscriber::set_global_default(Warnings).unwrap());
    SAID.take();
}

pub(crate) fn said() -> Vec<String> {
    SAID.with_borrow(Clone::clone)
}

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
        // The state is another matter.
        if text.0.starts_with("message=not connected") {
            return;
        }
        SAID.with_borrow_mut(|said| said.push(text.0));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn optional(url: &str) -> Config {
    let config = Config::builder().url(url).optional(true).command_timeout(PATIENCE);
    config.build().expect("a config")
}

/// A port that nobody listens on, and who could take it.
fn absent() -> Arc<Server> {
    let server = server();
    server.kill().unwrap();
    server
}

async fn quickly<T>(what: &str, call: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let outcome = call.await;
    let took = started.elapsed();
    assert!(took < PATIENCE / 4, "{what} took {took:?}");
    outcome
}

/// Asserts that each kind of call has its documented empty outcome at once.
async fn assert_empty(conn: &Conn) {
    macro_rules! empty {
        ($($call:expr => $outcome:expr),+ $(,)?) => {$(
            let what = stringify!($call);
            assert_eq!(quickly(what, async { $call.await }).await.expect(what), $outcome, "{what}");
        )+};
    }
    let (hash, list) = (conn.hash("h"), conn.list("l"));
    let (members, sorted) = (conn.members("m"), conn.sorted_set("s"));
    empty!(
        conn.get::<u8>("k") => None,
        conn.set("k", &1) => (),
        conn.set("k", &1).if_absent() => false,
        conn.get_many::<u8, _>(["a", "b"]) => vec![None, None],
        conn.get_bytes("k") => None,
        conn.get_many_bytes(["a", "b"]) => vec![None, None],
        conn.delete("k") => false,
        conn.delete_many(["a", "b"]) => 0,
        conn.exists("k") => false,
        conn.expire("k", PATIENCE) => false,
        conn.persist("k") => false,
        conn.ttl("k") => Ttl::Missing,
        conn.count("n") => None,
        conn.increment("n", 1) => 0,
        conn.decrement("n", 1) => 0,
        hash.set("f", &1) => false,
        hash.set_many([("f", 1)]) => 0,
        hash.get::<u8>("f") => None,
        hash.get_all::<u8>() => std::collections::BTreeMap::new(),
        hash.delete("f") => false,
        hash.delete_many(["f"]) => 0,
        hash.contains("f") => false,
        hash.len() => 0,
        hash.increment("f", 1) => 0,
        hash.count("f") => None,
        list.push_front(&1) => 0,
        list.push_back(&1) => 0,
        list.extend([1]) => 0,
        list.pop_front::<u8>() => None,
        list.pop_back::<u8>() => None,
        list.range::<u8>(..) => Vec::<u8>::new(),
        list.trim(..) => (),
        list.len() => 0,
        members.add(&1) => false,
        members.extend([1]) => 0,
        members.remove(&1) => false,
        members.remove_many([1]) => 0,
        members.contains(&1) => false,
        members.all::<u8>() => Vec::<u8>::new(),
        members.len() => 0,
        sorted.add(&1, 1.0) => false,
        sorted.increment(&1, 1.0) => 0.0,
        sorted.remove(&1) => false,
        sorted.score(&1) => None,
        sorted.range::<u8>(..) => Vec::<(u8, f64)>::new(),
        sorted.range_by_score::<u8>(..) => Vec::<(u8, f64)>::new(),
        sorted.extend([(1, 1.0)]) => 0,
        sorted.remove_many([1]) => 0,
        sorted.highest::<u8>(3) => Vec::<(u8, f64)>::new(),
        sorted.remove_by_score(..) => 0,
        sorted.len() => 0,
        conn.script(&ONE).key("k").run::<i64>() => 0,
        conn.script(&ONE).run::<Option<String>>() => None,
        conn.script(&ONE).run::<(bool, i64)>() => (false, 0),
        conn.flush(Confirm::DeleteEveryKey) => (),
        conn.delete_matching(Pattern::new("*").unwrap()) => 0,
        conn.scan(Pattern::new("*").unwrap()).next() => None,
        conn.with_read_from(ReadFrom::Replica).get::<u8>("k") => None,
    );
    // What asks about the server has no empty outcome.
    for err in [
        quickly("ping", conn.ping()).await.expect_err("there is nobody to answer"),
        quickly("server_info", conn.server_info()).await.expect_err("nor to say who it is"),
        quickly("server_time", conn.server_time()).await.expect_err("nor what time it is"),
        quickly("capabilities", conn.capabilities()).await.expect_err("nor what it can do"),
    ] {
        // The reason of the outage.
        assert!(matches!(err.kind(), ErrorKind::Connect | ErrorKind::Topology), "{err:?}");
    }

    // Nor has what only a server can grant.
    let granted = conn.script(&ONE).key("k").run::<bool>().needs_server();
    let err = quickly("a grant", granted).await.expect_err("nobody to grant it");
    assert!(matches!(err.kind(), ErrorKind::Connect | ErrorKind::Topology), "{err:?}");

    let mut pipeline = conn.pipeline();
    let get = pipeline.add(conn.get::<u8>("k"));
    let count = pipeline.add(conn.increment("n", 1));
    let known = pipeline.add(list.range::<u8>(..0));
    let invalid = pipeline.add(conn.expire("k", Duration::ZERO));
    let mut results = quickly("pipeline", pipeline.send()).await;
    assert_eq!(results.take(get).unwrap(), None);
    assert_eq!(results.take(count).unwrap(), 0);
    assert_eq!(results.take(known).unwrap(), [0; 0]);
    assert_eq!(results.take(invalid).unwrap_err().kind(), ErrorKind::InvalidArgument);

    let mut transaction = conn.transaction();
    let get = transaction.add(conn.get::<u8>("{t}k"));
    let count = transaction.add(conn.increment("{t}n", 1));
    let mut results = quickly("transaction", transaction.send()).await.unwrap();
    assert_eq!(results.take(get).unwrap(), None);
    assert_eq!(results.take(count).unwrap(), 0);

    let wrong = conn.expire("k", Duration::ZERO).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::InvalidArgument, "a mistake is a mistake");
}

#[tokio::test]
async fn without_a_server_each_call_has_its_empty_outcome_and_one_warning_says_so() {
    listen();
    let absent = absent();
    let conn = quickly("connecting", Conn::connect(optional(&absent.url()))).await.unwrap();
    assert_empty(&conn).await;
    let said = said();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("no server") && said[0].contains("refused"), "{said:?}");

    // As soon as there is one, it is used.
    let mut changes = conn.state_changes();
    absent.restart().unwrap();
    reach(&mut changes, State::Connected).await;
    assert_eq!(conn.increment("n", 1).needs_server().await.unwrap(), 1);
    conn.set("text", "x").await.unwrap();
    assert_wrong_type!(conn.list("text").len());
    absent.kill().unwrap();
    reach(&mut changes, State::Reconnecting).await;
    assert_eq!(quickly("a read", conn.get::<String>("text")).await.unwrap(), None);

    conn.close(PATIENCE).await;
    assert_eq!(conn.get::<u8>("k").await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(conn.flush(Confirm::DeleteEveryKey).await.unwrap_err().kind(), ErrorKind::Closed);
    let mut pipeline = conn.pipeline();
    let get = pipeline.add(conn.get::<u8>("k"));
    assert_eq!(pipeline.send().await.take(get).unwrap_err().kind(), ErrorKind::Closed);
    let mut transaction = conn.transaction();
    let _get = transaction.add(conn.get::<u8>("k"));
    assert_eq!(transaction.send().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn without_a_server_a_subscription_begins_with_a_gap_and_a_wait_ends_with_nothing() {
    let absent = absent();
    let conn = Conn::connect(optional(&absent.url())).await.unwrap();
    let subscribing = async { conn.subscribe().channel("a").await };
    let mut subscription = quickly("subscribing", subscribing).await.unwrap();
    let first = quickly("the first event", subscription.next()).await.unwrap();
    assert!(matches!(first, core_conn::Event::Gap { .. }), "{first:?}");
    let list = conn.list("jobs");
    let wait = Duration::from_millis(50);
    assert_eq!(quickly("waiting", list.pop_front_within::<u8>(wait)).await.unwrap(), None);
    assert_eq!(conn.publish("a", "x").await.unwrap(), 0);
    let tracking = async { conn.track().prefix("a").await };
    let feed = quickly("a feed", tracking).await.unwrap();
    assert!(!feed.freshness().is_current(), "whoever keeps a copy asks the server");

    let mut changes = conn.state_changes();
    absent.restart().unwrap();
    reach(&mut changes, State::Connected).await;
    let second = timeout(PATIENCE, subscription.next()).await.unwrap().unwrap();
    assert!(matches!(second, core_conn::Event::Resumed), "{second:?}");
    conn.publish("a", "x").await.unwrap();
    let third = timeout(PATIENCE, subscription.next()).await.unwrap().unwrap();
    assert!(matches!(third, core_conn::Event::Message(_)), "{third:?}");
    becomes_current(feed).await;
}

/// Reads a feed until it is current.
async fn becomes_current(mut feed: core_conn::Tracking) {
    let freshness = feed.freshness();
    let reading = async {
        while !freshness.is_current() {
            // Nothing may be said for a while.
            let _ = timeout(Duration::from_millis(10), feed.next()).await;
        }
    };
    timeout(PATIENCE, reading).await.unwrap();
}

#[tokio::test]
async fn subscriptions_and_feeds_can_begin_without_a_server_where_that_is_asked_for() {
    let absent = absent();
    let conn = Conn::connect_lazy(absent.url()).unwrap();
    let subscribing = async { conn.subscribe().channel("a").lazy().await };
    let mut subscription = quickly("subscribing", subscribing).await.unwrap();
    let tracking = async { conn.track().prefix("a").lazy().await };
    let feed = quickly("a feed", tracking).await.unwrap();
    let hasty = conn.with_command_timeout(Duration::from_millis(50));
    let err = hasty.subscribe().channel("a").await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Connect, "{err:?}");
    assert!(err.to_string().contains("refused"), "{err}");
    assert_eq!(hasty.track().prefix("a").await.unwrap_err().kind(), ErrorKind::Connect);
    absent.restart().unwrap();
    for expected in ["Gap", "Resumed"] {
        let event = timeout(PATIENCE, subscription.next()).await.unwrap().unwrap();
        assert!(format!("{event:?}").starts_with(expected), "{event:?}");
    }
    becomes_current(feed).await;
}

#[tokio::test]
async fn a_lazy_one_and_one_for_a_cluster_or_sentinels_do_without_too() {
    let absent = absent();
    let (host, port) = (absent.host(), absent.port());
    let lazy = Conn::connect_lazy(optional(&absent.url())).unwrap();
    assert_eq!(quickly("lazy", lazy.get::<u8>("k")).await.unwrap(), None);
    for url in [
        format!("redis-cluster://{host}:{port}"),
        format!("redis-sentinel://{host}:{port}?service=mymaster"),
    ] {
        let conn = quickly(&url, Conn::connect(optional(&url))).await.unwrap();
        assert_empty(&conn).await;
    }
}

#[tokio::test]
async fn wrong_credentials_stay_an_error() {
    let server = Server::builder().password("right").start().unwrap();
    let config = Config::builder().url(server.url()).password("wrong").optional(true);
    let config = config.build().unwrap();
    let err = Conn::connect(config.clone()).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Auth, "{err:?}");
    let lazy = Conn::connect_lazy(config).unwrap();
    assert_eq!(lazy.get::<u8>("k").await.unwrap_err().kind(), ErrorKind::Auth);
}

#[tokio::test]
async fn a_server_that_is_there_and_fails_is_an_error() {
    let server = Server::builder().config("maxmemory", "1").start().unwrap();
    let conn = Conn::connect(optional(&server.url())).await.unwrap();
    assert_eq!(conn.set("k", &1).await.unwrap_err().kind(), ErrorKind::OutOfMemory);
    let paused = server.pause().unwrap();
    let hasty = conn.with_command_timeout(Duration::from_millis(100));
    let started = Instant::now();
    assert!(hasty.get::<u8>("k").await.unwrap_err().is_timeout());
    assert!(started.elapsed() < PATIENCE / 4);
    paused.resume();
}

/// What makes a server fail, and how its calls fail then.
async fn assert_or_empty(conn: &Conn, kind: ErrorKind) {
    let err = conn.set("k", &1).await.unwrap_err();
    assert_eq!(err.kind(), kind, "{err:?}");
    conn.set("k", &1).into_call().or_empty().await.unwrap();
    assert!(!conn.set("k", &1).if_absent().into_call().or_empty().await.unwrap());
    assert_eq!(conn.increment("n", 1).or_empty().await.unwrap(), 0);
    assert_eq!(conn.list("l").push_back(&1).or_empty().await.unwrap(), 0);
}

trait IntoCall<'a, T>: Into<redbrick_core_conn::Call<'a, T>> {
    fn into_call(self) -> redbrick_core_conn::Call<'a, T> {
        self.into()
    }
}

impl<'a, T, C: Into<redbrick_core_conn::Call<'a, T>>> IntoCall<'a, T> for C {}

#[tokio::test]
async fn a_single_call_can_do_without_an_answer() {
    listen();
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let hasty = conn.with_command_timeout(Duration::from_millis(100));
    conn.set("text", "x").await.unwrap();
    // With a server that works it changes nothing.
    assert_eq!(conn.get::<String>("text").or_empty().await.unwrap().as_deref(), Some("x"));
    assert_wrong_type!(conn.list("text").len().or_empty());
    assert_eq!(conn.get::<u8>("text").or_empty().await.unwrap_err().kind(), ErrorKind::Codec);
    let wrong = conn.expire("k", Duration::ZERO).or_empty().await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::InvalidArgument);
    assert!(said().is_empty());

    let paused = server.pause().unwrap();
    assert_or_empty(&hasty, ErrorKind::Timeout).await;
    assert_eq!(hasty.get::<String>("text").or_empty().await.unwrap(), None);
    paused.resume();
    conn.ping().await.unwrap();

    server.command(["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    assert_or_empty(&conn, ErrorKind::OutOfMemory).await;
    server.command(["CONFIG", "SET", "maxmemory", "0"]).unwrap();

    server.command(["CONFIG", "SET", "min-replicas-to-write", "1"]).unwrap();
    assert_or_empty(&conn, ErrorKind::NoReplicas).await;
    server.command(["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();

    let mut changes = conn.state_changes();
    server.kill().unwrap();
    reach(&mut changes, State::Reconnecting).await;
    assert_or_empty(&hasty, ErrorKind::Connect).await;
    assert_eq!(hasty.get::<String>("text").or_empty().await.unwrap(), None);
    let said = said();
    assert_eq!(said.len(), 1, "one for all: {said:?}");

    conn.close(PATIENCE).await;
    assert_eq!(conn.get::<u8>("k").or_empty().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_single_call_can_do_without_a_server_that_takes_writes_or_a_right() {
    let master = server();
    let replica = Server::builder()
        .config("replicaof", format!("127.0.0.1 {}", master.port()))
        .config("repl-diskless-sync-delay", "0")
        .start()
        .unwrap();
    let conn = Conn::connect(replica.url()).await.unwrap();
    assert_or_empty(&conn.with_command_timeout(Duration::from_secs(1)), ErrorKind::ReadOnly).await;

    let server = Server::builder().user("app", "secret", "~* &* +@all -set").start().unwrap();
    let config = Config::builder().url(server.url()).username("app").password("secret");
    let conn = Conn::connect(config).await.unwrap();
    let denied = conn.set("k", &1).into_call().or_empty().await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Denied, "trying again does not mend it");
}

#[test]
fn the_environment_says_so_too() {
    // In a process of its own, for the environment is everybody's.
    static CHILD: OnceLock<bool> = OnceLock::new();
    const NAME: &str = "optional::the_environment_says_so_too";
    if *CHILD.get_or_init(|| std::env::var_os("REDBRICK_TEST_CHILD").is_some()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let conn = runtime.block_on(Conn::from_env()).unwrap();
        assert_eq!(runtime.block_on(conn.get::<u8>("k")).unwrap(), None);
        return;
    }
    let run = |optional: &str| {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args([NAME, "--exact"]).env("REDBRICK_TEST_CHILD", "1");
        child.env("REDIS_URL", "redis://127.0.0.1:1").env("REDIS_OPTIONAL", optional);
        child.output().unwrap()
    };
    let with = run("true");
    assert!(with.status.success(), "{}", String::from_utf8_lossy(&with.stdout));
    assert!(!run("false").status.success(), "or the one before shows nothing");
}

#[tokio::test]
async fn a_set_can_be_told_what_every_call_can() {
    let server = Server::start().unwrap();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(proxy.url()).await.unwrap();
    let hasty = Duration::from_millis(50);
    proxy.set(Fault::Stall);
    let started = Instant::now();
    conn.set("k", &1).timeout(hasty).or_empty().await.unwrap();
    assert!(!conn.set("k", &1).if_absent().timeout(hasty).or_empty().await.unwrap());
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    proxy.clear();

    // A plain one is sent again after a lost reply, unless it is told not to be.
    conn.ping().await.unwrap();
    proxy.set(Fault::CutAfterReplyBytes(0));
    let err = conn.set("k", &2).replay(Replay::IfUnsent).await.unwrap_err();
    assert!(err.is_outcome_unknown(), "{err:?}");
    proxy.clear();
    assert_eq!(conn.get("k").await.unwrap(), Some(2), "it ran, once");
}

#[tokio::test]
async fn calls_in_a_pipeline_that_make_do_with_nothing_get_it_at_once_and_say_so() {
    listen();
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let mut changes = conn.state_changes();
    server.kill().unwrap();
    reach(&mut changes, State::Reconnecting).await;
    let mut pipeline = conn.pipeline();
    let get = pipeline.add(conn.get::<u8>("k").or_empty());
    let count = pipeline.add(conn.increment("n", 1).or_empty());
    let mut results = quickly("pipeline", pipeline.send()).await;
    results.check().unwrap();
    assert_eq!((results.take(get).unwrap(), results.take(count).unwrap()), (None, 0));
    assert!(said().iter().any(|line| line.contains("answered with nothing")));
    // One that does not make do with it is waited for, and the others with it.
    let mut pipeline = conn.pipeline().timeout(Duration::from_millis(50));
    let get = pipeline.add(conn.get::<u8>("k").or_empty());
    let count = pipeline.add(conn.increment("n", 1));
    let mut results = pipeline.send().await;
    let err = results.check().unwrap_err();
    assert!(err.to_string().starts_with("INCRBY: "), "names the call: {err}");
    assert_eq!(results.take(get).unwrap(), None);
    assert_eq!(results.take(count).unwrap_err().kind(), ErrorKind::Connect);
}
