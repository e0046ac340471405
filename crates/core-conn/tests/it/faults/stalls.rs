//! Links over which nothing arrives any more are replaced; those that are slow, or whose server is, are kept.

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Config, Conn};
use redbrick_testkit::{Fault, Proxy, Server};
use tokio::time::Instant;

use super::{Load, REPLACED, SLACK, Tally, count, measured};
use crate::{PATIENCE, client_list, eventually, server};

/// The row "64 MiB".
const BIG: usize = 64 << 20;
/// Of a link that carries something big slowly.
const SLOW: Fault = Fault::Throttle { bytes_per_second: 10_000_000 };
/// How fast a big reply is taken to leave when others get much as well, in bytes a second.
const TAKEN_TO_LEAVE: usize = 4 << 20;
/// How long a silent link is left alone when the server does not let us look at it.
const UNSEEN: Duration = Duration::from_secs(5);

async fn behind_proxy() -> (Arc<Server>, Arc<Proxy>, Conn) {
    let server = server();
    let proxy = Arc::new(server.proxy().expect("a proxy"));
    let conn = Conn::connect(proxy.url()).await.expect("a connection");
    (server, proxy, conn)
}

/// Nobody calls, so only the heartbeat can notice; the first call meets a link that works.
async fn idle(fault: Fault) {
    let (_server, proxy, conn) = behind_proxy().await;
    proxy.set_for_open(fault);
    let stalled = Instant::now();
    let before = proxy.connections();
    let watched = Arc::clone(&proxy);
    eventually("another connection", move || watched.connections() > before).await;
    conn.ping().await.expect("an answer over another link");
    within(stalled, &format!("{fault:?}, idle"));
    assert_eq!(proxy.connections(), before + 1, "one other was enough");
}

/// A thousand writes a second; those in flight may have run, and none counts twice.
async fn under_writes(fault: Fault) {
    let (server, proxy, conn) = behind_proxy().await;
    let mut load = Load::start(&conn, |_| "n".to_owned());
    load.works_after(Instant::now()).await;
    proxy.set_for_open(fault);
    let stalled = Instant::now();
    load.works_after(stalled).await;
    within(stalled, &format!("{fault:?}, 1,000 writes/s"));
    let tally = load.end().await.tally();
    assert!(tally.done > 0 && tally.unknown > 0, "some were in flight: {tally:?}");
    tally.explains(count(&server, "n"));
}

/// A value of 64 MiB is on its way; it ends as done, because it may be sent again.
async fn while_uploading(fault: Fault) {
    let (server, proxy, conn) = behind_proxy().await;
    proxy.set_for_open(Fault::Throttle { bytes_per_second: 64 << 20 });
    let value = "x".repeat(BIG);
    let patient = conn.with_command_timeout(PATIENCE);
    let upload = tokio::spawn(async move { patient.set("big", &value).await });
    halfway(&proxy, Proxy::request_bytes).await;
    proxy.set_for_open(fault);
    let stalled = Instant::now();
    let tally = count_again(&conn).await;
    within(stalled, &format!("{fault:?}, 64 MiB on their way up"));
    upload.await.expect("the task").expect("it is sent again");
    tally.explains(count(&server, "n"));
    let stored = server.command(["STRLEN", "big"]).expect("the server").as_int();
    assert!(stored.is_some_and(|stored| stored > 64 << 20), "{stored:?}");
}

/// The same the other way.
async fn while_downloading(fault: Fault) {
    let (server, proxy, conn) = behind_proxy().await;
    conn.set("big", &"x".repeat(BIG)).await.expect("room for it");
    proxy.set_for_open(Fault::Throttle { bytes_per_second: 64 << 20 });
    let patient = conn.with_command_timeout(PATIENCE);
    let download = tokio::spawn(async move { patient.get::<String>("big").await });
    halfway(&proxy, Proxy::reply_bytes).await;
    proxy.set_for_open(fault);
    let stalled = Instant::now();
    let tally = count_again(&conn).await;
    within(stalled, &format!("{fault:?}, 64 MiB on their way down"));
    let value = download.await.expect("the task").expect("it is asked for again");
    assert_eq!(value.map(|value| value.len()), Some(BIG));
    tally.explains(count(&server, "n"));
}

/// Waits until a part of something big has passed.
async fn halfway(proxy: &Arc<Proxy>, bytes: fn(&Proxy) -> u64) {
    let (watched, before) = (Arc::clone(proxy), bytes(proxy));
    eventually("a part of it", move || bytes(&watched) > before + (8 << 20)).await;
    assert!(bytes(proxy) < before + (48 << 20), "not all of it");
}

/// Increments until it works.
async fn count_again(conn: &Conn) -> Tally {
    let mut tally = Tally::default();
    while tally.done == 0 {
        tally.note(&conn.increment("n", 1).await);
    }
    tally
}

fn within(stalled: Instant, what: &str) {
    let took = measured(what, stalled);
    assert!(took < REPLACED + SLACK, "{what}: {took:?}");
}

macro_rules! stalls {
    ($($name:ident: $case:ident($fault:ident);)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $case(Fault::$fault).await;
            }
        )*
    };
}

stalls! {
    an_idle_link_is_replaced_when_both_ways_stall: idle(Stall);
    an_idle_link_is_replaced_when_requests_stall: idle(StallRequests);
    an_idle_link_is_replaced_when_replies_stall: idle(StallReplies);
    writes_go_on_when_both_ways_stall: under_writes(Stall);
    writes_go_on_when_requests_stall: under_writes(StallRequests);
    writes_go_on_when_replies_stall: under_writes(StallReplies);
    an_upload_that_stalls_both_ways_begins_again: while_uploading(Stall);
    an_upload_that_stalls_begins_again: while_uploading(StallRequests);
    an_upload_whose_reply_stalls_begins_again: while_uploading(StallReplies);
    a_download_that_stalls_both_ways_begins_again: while_downloading(Stall);
    a_download_that_stalls_begins_again: while_downloading(StallReplies);
}

/// The connection that a server with one client has.
fn only_connection(server: &Server) -> String {
    let clients = client_list(server);
    assert_eq!(clients.len(), 1, "{clients:?}");
    clients[0].split(' ').next().unwrap_or_default().to_owned()
}

/// Whether a connection is still there; one that was dialed beside it may be too, for a moment.
fn is_kept(server: &Server, connection: &str) -> bool {
    client_list(server).iter().any(|client| client.split(' ').next() == Some(connection))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_value_that_arrives_slowly_is_not_cut() {
    let (server, proxy, conn) = behind_proxy().await;
    let before = only_connection(&server);
    proxy.set(SLOW);
    let started = Instant::now();
    conn.with_command_timeout(PATIENCE).set("big", &"x".repeat(BIG)).await.unwrap();
    let took = measured("a slow upload of 64 MiB", started);
    assert!(took > REPLACED + SLACK, "slow enough to be taken for stuck: {took:?}");
    assert!(is_kept(&server, &before), "over the one link");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_value_that_is_read_slowly_is_not_cut() {
    let (server, proxy, conn) = behind_proxy().await;
    conn.set("big", &"x".repeat(BIG)).await.unwrap();
    let before = only_connection(&server);
    proxy.set(SLOW);
    let started = Instant::now();
    let value = conn.with_command_timeout(PATIENCE).get::<String>("big").await.unwrap();
    let took = measured("a slow download of 64 MiB", started);
    assert_eq!(value.map(|value| value.len()), Some(BIG));
    assert!(took > REPLACED + SLACK, "slow enough to be taken for stuck: {took:?}");
    assert!(is_kept(&server, &before), "over the one link");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_paused_keeps_its_link_and_all_that_is_in_flight() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let before = only_connection(&server);
    let mut load = Load::start(&conn.with_command_timeout(PATIENCE), |_| "n".to_owned());
    load.works_after(Instant::now()).await;
    let paused = server.pause().unwrap();
    let mut seconds = tokio::time::interval(Duration::from_secs(5));
    seconds.tick().await;
    // The row is about these five seconds.
    seconds.tick().await;
    paused.resume();
    let resumed = Instant::now();
    load.works_after(resumed).await;
    let took = measured("paused for 5 s: back after", resumed);
    assert!(took < REPLACED + SLACK, "{took:?}");
    let tally = load.end().await.tally();
    assert!(tally.done > 3_000, "{tally:?}");
    assert_eq!((tally.failed, tally.unknown), (0, 0), "{tally:?}");
    assert_eq!(count(&server, "n"), tally.done);
    assert!(is_kept(&server, &before), "over the one link");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_paused_while_a_big_value_arrives_keeps_its_link() {
    let (server, proxy, conn) = behind_proxy().await;
    let before = only_connection(&server);
    proxy.set(Fault::Throttle { bytes_per_second: 20_000_000 });
    let patient = conn.with_command_timeout(PATIENCE);
    let upload = tokio::spawn(async move { patient.set("big", &"x".repeat(BIG)).await });
    // Another link is there to take over, with its CLIENT ID, and has looked at this one three times.
    let (watched, asked) = (Arc::clone(&server), server.command_counts().unwrap().of("client"));
    eventually("another link and what it sees", move || {
        watched.command_counts().unwrap().of("client") >= asked + 4
    })
    .await;
    let paused = server.pause().unwrap();
    let mut pause = tokio::time::interval(REPLACED + SLACK);
    pause.tick().await;
    pause.tick().await;
    paused.resume();
    upload.await.unwrap().unwrap();
    assert!(is_kept(&server, &before), "over the one link");
}

/// Servers that count only what they sent to all clients cannot tell whether the big reply is among it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_stalls_on_a_busy_server_begins_again_later() {
    let (server, proxy, conn) = behind_proxy().await;
    let size = 12 << 20;
    conn.set("big", &"x".repeat(size)).await.unwrap();
    conn.set("part", &"x".repeat(100_000)).await.unwrap();
    let other = Conn::connect(server.url()).await.unwrap();
    let busy = tokio::spawn(async move {
        while other.get::<String>("part").await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    proxy.set_for_open(Fault::StallReplies);
    let stalled = Instant::now();
    let value = conn.with_command_timeout(PATIENCE).get::<String>("big").await.unwrap();
    let took = measured("StallReplies, 12 MiB on their way down, others get much", stalled);
    assert_eq!(value.map(|value| value.len()), Some(size));
    let bound = UNSEEN + Duration::from_secs((size / TAKEN_TO_LEAVE) as u64) + REPLACED + SLACK;
    assert!(took < bound, "{took:?}");
    busy.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_look_a_stuck_link_is_replaced_later() {
    let user = ("app", "pw", "~* &* +@all -client +client|id");
    let server = Server::builder().user(user.0, user.1, user.2).start().unwrap();
    let proxy = server.proxy().unwrap();
    let config = Config::builder().url(proxy.url()).username(user.0).password(user.1);
    let conn = Conn::connect(config).await.unwrap();
    proxy.set_for_open(Fault::Stall);
    let stalled = Instant::now();
    let tally = count_again(&conn.with_command_timeout(PATIENCE)).await;
    let took = measured("Stall, no right to CLIENT LIST", stalled);
    assert!(took > UNSEEN - SLACK, "too soon to know: {took:?}");
    assert!(took < UNSEEN + REPLACED + SLACK, "{took:?}");
    assert_eq!((tally.done, tally.unknown), (1, 1), "{tally:?}");
    tally.explains(count(&server, "n"));
}

#[tokio::test]
async fn what_was_under_way_on_a_replaced_link_does_not_undo_what_came_after() {
    let (server, proxy, conn) = behind_proxy().await;
    let hits = async || {
        let counts = server.command_counts().expect("the server");
        counts.of("set")
    };
    proxy.set_for_open(Fault::StallRequests);
    conn.set("k", &1).await.unwrap();
    conn.set("k", &2).await.unwrap();
    let before = hits().await;
    // What the stalled connection still holds comes through, to a server that has closed its end.
    proxy.clear();
    for _ in 0..20 {
        conn.ping().await.unwrap();
    }
    assert_eq!(conn.get("k").await.unwrap(), Some(2));
    assert_eq!(hits().await, before, "the first copy never ran");
}
