//! What subscribers see when the link does not work.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicU16, atomic::Ordering},
    time::{Duration, Instant},
};

use redbrick_core_conn::{
    Capability, Config, ConfigBuilder, Conn, Credentials, Event, Invalidation, Overflow,
    RotatingCredentials, Secret, Subscription,
};
use redbrick_testkit::{Cluster, Fault, Sentinel, Server};
use tokio::time::timeout;

use super::{heard, message, next};
use crate::{
    PATIENCE,
    alone::tell,
    eventually,
    faults::{SLACK, forward, measured},
    server,
};

/// How often the links of these tests are probed.
const PROBE: Duration = Duration::from_millis(200);
/// A link that was cut is back, its pauses between attempts aside.
const BACK: Duration = Duration::from_millis(200);

fn config(url: impl Into<Secret>) -> ConfigBuilder {
    Config::builder().url(url).probe_interval(PROBE)
}

/// Waits for a gap and its end; returns since when it was, and what was heard before and between.
async fn gap(subscription: &mut Subscription) -> (Instant, Vec<String>) {
    let (mut since, mut heard) = (None, Vec::new());
    loop {
        match next(subscription).await {
            Event::Message(message) => heard.push(message.value().expect("a text")),
            Event::Gap { since: began, .. } => since = Some(began),
            Event::Resumed => return (since.expect("a gap before its end"), heard),
            other => panic!("{other:?}"),
        }
    }
}

fn kill_subscribers(server: &Server) -> i64 {
    let killed = server.command(["CLIENT", "KILL", "TYPE", "pubsub"]).expect("the right to kill");
    killed.as_int().expect("a count")
}

/// Each message carries its number; what does not arrive was published within a gap. Nobody else is disturbed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_that_a_killed_link_loses_lies_in_a_gap() {
    const KILLS: usize = 100;
    let server = server();
    let conn = Conn::connect(config(server.url())).await.unwrap();
    let mut subscription = conn.subscribe().channel("a").await.unwrap();
    let publisher = conn.clone();
    // When each was about to be published, and when the server had taken it.
    let publishing = tokio::spawn(async move {
        let mut published: Vec<(Instant, Instant)> = Vec::new();
        loop {
            let before = Instant::now();
            let number = u64::try_from(published.len()).unwrap();
            let others = async {
                publisher.set("k", &number).await?;
                publisher.get::<u64>("k").await
            };
            let (sent, other) = tokio::join!(publisher.publish("a", &number), others);
            sent.expect("publishing is disturbed by nothing");
            assert_eq!(other.expect("nor is anything else"), Some(number));
            published.push((before, Instant::now()));
            if publisher.exists("stop").await.unwrap() {
                return published;
            }
        }
    });

    let (mut arrived, mut gaps, mut slowest) = (BTreeSet::new(), Vec::new(), Duration::ZERO);
    let mut in_a_row = 0;
    for _ in 0..KILLS {
        // A loss within the first moments of a link is followed by a pause.
        let healthy = Instant::now();
        while in_a_row < 5 || healthy.elapsed() < Duration::from_millis(20) {
            arrived.insert(message(&mut subscription).await.value::<u64>().unwrap());
            in_a_row += 1;
        }
        in_a_row = 0;
        let killed = Instant::now();
        assert_eq!(kill_subscribers(&server), 1, "one link");
        loop {
            match next(&mut subscription).await {
                Event::Message(message) => assert!(arrived.insert(message.value().unwrap())),
                Event::Gap { since, .. } => gaps.push((since, None)),
                Event::Resumed => {
                    gaps.last_mut().expect("a gap before its end").1 = Some(Instant::now());
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        slowest = slowest.max(killed.elapsed());
    }
    // From this one on, all arrive.
    arrived.insert(message(&mut subscription).await.value::<u64>().unwrap());
    conn.set("stop", &true).await.unwrap();
    let published = publishing.await.unwrap();
    let last = u64::try_from(published.len() - 1).unwrap();
    while !arrived.contains(&last) {
        arrived.insert(message(&mut subscription).await.value::<u64>().unwrap());
    }

    let lost: Vec<_> = (0..=last).filter(|number| !arrived.contains(number)).collect();
    for number in &lost {
        let (before, after) = published[usize::try_from(*number).unwrap()];
        let covered = |(since, end): &(Instant, Option<Instant>)| {
            *since <= after && end.is_some_and(|end| before <= end)
        };
        assert!(gaps.iter().any(covered), "message {number} was lost without a gap");
    }
    assert_eq!(gaps.len(), KILLS);
    tell(&format!(
        "{KILLS} kills: {} of {} messages lost, each within a gap; slowest return {slowest:?}",
        lost.len(),
        published.len()
    ));
    // A link that did not live for long is made anew after the shortest pause and its spread.
    let pauses = Duration::from_millis(50 + 50);
    assert!(slowest < BACK + pauses + SLACK, "{slowest:?}");
}

#[tokio::test]
async fn a_server_that_was_away_is_subscribed_to_again() {
    let server = server();
    let conn = Conn::connect(config(server.url())).await.unwrap();
    let mut subscription = conn.subscribe().channel("a").channel("b").await.unwrap();
    let before = Instant::now();
    server.kill().unwrap();
    assert!(matches!(next(&mut subscription).await, Event::Gap { since, .. } if since <= before));
    let health = conn.health().await;
    let subscriptions = health.subscriptions.as_ref().expect("there is one");
    assert!(!subscriptions.live, "{subscriptions:?}");
    assert!(subscriptions.to_string().contains("last known to work"), "{subscriptions}");

    server.restart().unwrap();
    assert!(matches!(next(&mut subscription).await, Event::Resumed));
    for channel in ["a", "b"] {
        conn.publish(channel, channel).await.unwrap();
        assert_eq!(heard(&mut subscription).await.0, channel);
    }
    assert!(before.elapsed() < PATIENCE);
    let health = conn.health().await;
    assert!(health.subscriptions.as_ref().unwrap().live, "{health}");
    assert!(health.warnings.is_empty(), "{health}");
}

/// Only the link with the subscription stalls; the others work.
async fn a_stall_is_healed(fault: Fault) {
    let server = server();
    let proxy = server.proxy().expect("a proxy");
    let conn = Conn::connect(config(proxy.url())).await.expect("the link for commands works");
    assert!(conn.health().await.subscriptions.is_none());
    let mut subscription =
        conn.subscribe().channel("a").await.expect("the link for commands works");
    conn.publish("a", "before").await.expect("the link for commands works");
    assert_eq!(heard(&mut subscription).await.1, "before");
    proxy.set_for_newest(fault);
    proxy.refuse();
    let stalled = Instant::now();
    conn.publish("a", "maybe lost").await.expect("the link for commands works");
    let since = loop {
        match next(&mut subscription).await {
            Event::Gap { since, .. } => break since,
            // Where only requests stall.
            event => assert!(matches!(event, Event::Message(_)), "{event:?}"),
        }
    };
    let noticed = measured(&format!("{fault:?}: noticed after"), stalled.into());
    assert!(noticed < 2 * PROBE + SLACK, "{noticed:?}");
    if fault != Fault::StallRequests {
        assert!(since <= stalled, "the lost one lies in the gap");
    }
    let health = conn.health().await;
    assert!(
        health.healthy && !health.subscriptions.as_ref().expect("subscribed to").live,
        "{health}"
    );

    proxy.accept().expect("subscribed to");
    assert!(matches!(next(&mut subscription).await, Event::Resumed));
    conn.publish("a", "after").await.expect("the link for commands works");
    assert_eq!(heard(&mut subscription).await.1, "after");
    assert!(conn.health().await.subscriptions.expect("subscribed to").live);
}

#[tokio::test]
async fn a_link_that_stalls_is_noticed_and_replaced() {
    a_stall_is_healed(Fault::Stall).await;
}

#[tokio::test]
async fn a_link_whose_messages_stall_is_noticed_and_replaced() {
    a_stall_is_healed(Fault::StallReplies).await;
}

#[tokio::test]
async fn a_link_whose_requests_stall_is_noticed_and_replaced() {
    a_stall_is_healed(Fault::StallRequests).await;
}

/// The link is alive and answers, at a server where nobody publishes any more.
#[tokio::test]
async fn a_link_that_answers_and_delivers_nothing_is_replaced() {
    let (old, new) = (server(), server());
    let target = Arc::new(AtomicU16::new(old.port()));
    let port = forward(Arc::clone(&target)).await;
    let conn = Conn::connect(config(format!("redis://127.0.0.1:{port}"))).await.unwrap();
    let mut subscription = conn.subscribe().channel("a").await.unwrap();
    target.store(new.port(), Ordering::Relaxed);
    let killed = old.command(["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    assert_eq!(killed.as_int(), Some(1), "the link for commands");
    let moved = Instant::now();
    let (since, _) = gap(&mut subscription).await;
    assert!(since <= moved, "what was published since the move lies in it");
    let took = measured("an answering link without messages: replaced after", moved.into());
    assert!(took < 2 * PROBE + BACK + SLACK, "{took:?}");
    conn.publish("a", "here").await.unwrap();
    assert_eq!(heard(&mut subscription).await.1, "here");
}

#[tokio::test]
async fn without_the_right_to_probe_a_stall_is_noticed_all_the_same() {
    let server =
        Server::builder().user("limited", "pw", "+@all ~* resetchannels &a").start().unwrap();
    let proxy = server.proxy().unwrap();
    let config = config(proxy.url()).username("limited").password("pw");
    let conn = Conn::connect(config).await.unwrap();
    let mut subscription = conn.subscribe().channel("a").await.unwrap();
    proxy.set_for_newest(Fault::Stall);
    gap(&mut subscription).await;
    conn.publish("a", "after").await.unwrap();
    assert_eq!(heard(&mut subscription).await.1, "after");
}

/// What a backlog holds up is no sign of a link that does not work.
#[tokio::test]
async fn a_slow_link_that_goes_on_delivering_is_kept() {
    let server = server();
    let proxy = server.proxy().unwrap();
    let conn = Conn::connect(config(proxy.url())).await.unwrap();
    let mut subscription = conn.subscribe().channel("a").await.unwrap();
    let direct = Conn::connect(server.url()).await.unwrap();
    proxy.set_for_newest(Fault::Throttle { bytes_per_second: 2 << 20 });
    let payload = "x".repeat(100 << 10);
    for _ in 0..40 {
        assert_eq!(direct.publish("a", &payload).await.unwrap(), 1);
    }
    for _ in 0..40 {
        assert_eq!(heard(&mut subscription).await.1.len(), payload.len());
    }
}

#[tokio::test]
async fn a_right_that_is_taken_away_shows_as_a_gap_until_it_is_given_back() {
    let server =
        Server::builder().user("limited", "pw", "+@all ~* resetchannels &a &b").start().unwrap();
    let config = config(server.url()).username("limited").password("pw");
    let conn = Conn::connect(config).await.unwrap();
    let mut a = conn.subscribe().channel("a").await.unwrap();
    let mut b = conn.subscribe().channel("b").await.unwrap();
    server.command(["ACL", "SETUSER", "limited", "resetchannels", "&b"]).unwrap();
    assert!(matches!(next(&mut a).await, Event::Gap { .. }));
    gap(&mut b).await;
    conn.publish("b", "still").await.unwrap();
    assert_eq!(heard(&mut b).await.1, "still");
    let health = conn.health().await.subscriptions.unwrap();
    assert!(!health.live && health.error.is_some(), "{health:?}");

    server.command(["ACL", "SETUSER", "limited", "&a"]).unwrap();
    assert!(matches!(next(&mut a).await, Event::Resumed));
    conn.publish("a", "again").await.unwrap();
    assert_eq!(heard(&mut a).await.1, "again");
}

#[tokio::test]
async fn the_server_that_closes_a_link_for_its_backlog_causes_a_gap() {
    let server =
        Server::builder().config("client-output-buffer-limit", "pubsub 256kb 0 0").start().unwrap();
    let conn = Conn::connect(config(server.url())).await.unwrap();
    let patient = conn.subscribe().channel("a").queue_messages(1.try_into().unwrap());
    let overflow = Overflow::Wait(PATIENCE);
    let mut patient = patient.overflow(overflow).await.unwrap();
    let payload = "x".repeat(100 << 10);
    // More than the systems' buffers take.
    while conn.publish("a", &payload).await.unwrap() > 0 {}
    let closed = async { while !matches!(next(&mut patient).await, Event::Gap { .. }) {} };
    timeout(PATIENCE, closed).await.expect("a gap");
    while !matches!(next(&mut patient).await, Event::Resumed) {}
}

#[tokio::test]
async fn credentials_that_change_are_used_by_the_next_link() {
    let server = Server::builder().user("app", "old", "+@all ~* &*").start().unwrap();
    let rotating = RotatingCredentials::new(Credentials::user("app", "old"));
    let config = config(server.url()).credential_provider(rotating.clone());
    let conn = Conn::connect(config).await.unwrap();
    let mut subscription = conn.subscribe().channel("a").await.unwrap();
    server.command(["ACL", "SETUSER", "app", ">new", "<old"]).unwrap();
    rotating.rotate(Credentials::user("app", "new"));
    kill_subscribers(&server);
    gap(&mut subscription).await;
    conn.publish("a", "again").await.unwrap();
    assert_eq!(heard(&mut subscription).await.1, "again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_of_sentinel_is_followed() {
    let sentinel = Sentinel::start().unwrap();
    let conn = Conn::connect(config(sentinel.url())).await.unwrap();
    let mut subscription = conn.subscribe().channel("a").await.unwrap();
    sentinel.kill_master().unwrap();
    gap(&mut subscription).await;
    conn.publish("a", "new master").await.unwrap();
    assert_eq!(heard(&mut subscription).await.1, "new master");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_of_a_cluster_can_be_lost() {
    let cluster = Cluster::builder().masters(3).replicas(1).start().unwrap();
    let conn = Conn::connect(config(cluster.url())).await.unwrap();
    let mut subscription = conn.subscribe().channel("a").await.unwrap();
    // The one that is subscribed to.
    let nodes = cluster.masters().unwrap();
    let is_there = |node: &usize| super::subscribers(&cluster.nodes()[*node], "a") == 1;
    let node = nodes.into_iter().find(is_there).expect("a master with the subscription");
    cluster.kill_master(node).unwrap();
    gap(&mut subscription).await;
    let arrives = async {
        loop {
            // Within the cluster its loss may not be known everywhere yet.
            let _ = conn.publish("a", "elsewhere").await;
            let event = timeout(PROBE, subscription.next()).await;
            if matches!(event, Ok(Some(Event::Message(_)))) {
                return;
            }
        }
    };
    timeout(PATIENCE, arrives).await.expect("a message over another node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shard_channels_follow_their_slot_and_their_master() {
    let cluster = Cluster::builder().masters(3).replicas(1).start().unwrap();
    let conn = Conn::connect(config(cluster.url())).await.unwrap();
    if !conn.capabilities().await.unwrap().contains(Capability::ShardedPubSub) {
        return;
    }
    let mut moving = conn.subscribe().sharded("room").await.unwrap();
    let slot = cluster.slot_of("room").unwrap();
    let from = cluster.slot_owner(slot).unwrap();
    let to = cluster.masters().unwrap().into_iter().find(|node| *node != from).unwrap();
    cluster.migrate_slot(slot, to).unwrap();
    gap(&mut moving).await;
    conn.publish_sharded("room", "moved").await.unwrap();
    assert_eq!(heard(&mut moving).await.1, "moved");

    // The probe's own slot moves too, and nobody is told of a gap.
    let channels = cluster.nodes()[to].command(["PUBSUB", "SHARDCHANNELS"]).unwrap();
    let probe = channels.as_strings().unwrap().into_iter().find(|name| name.contains("probe"));
    let slot = cluster.slot_of(probe.unwrap()).unwrap();
    cluster.migrate_slot(slot, from).unwrap();
    let pause = timeout(4 * PROBE, moving.next()).await;
    assert!(pause.is_err(), "nothing has happened to the room: {pause:?}");
    conn.publish_sharded("room", "still").await.unwrap();
    assert_eq!(heard(&mut moving).await.1, "still");

    cluster.kill_master(to).unwrap();
    gap(&mut moving).await;
    let arrives = async {
        loop {
            let _ = conn.publish_sharded("room", "promoted").await;
            let event = timeout(PROBE, moving.next()).await;
            if matches!(event, Ok(Some(Event::Message(_)))) {
                return;
            }
        }
    };
    timeout(PATIENCE, arrives).await.expect("a message over the new master");
}

#[test]
fn the_end_of_the_runtime_is_the_end_of_subscriptions_and_feeds() {
    let server = server();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (mut subscription, mut feed) = first.block_on(async {
        let conn = Conn::connect(config(server.url())).await.unwrap();
        let subscription = conn.subscribe().channel("a").await.unwrap();
        (subscription, conn.track().prefix("a").await.unwrap())
    });
    let freshness = feed.freshness();
    drop(first);
    runtime().block_on(async {
        assert!(timeout(PATIENCE, subscription.next()).await.unwrap().is_none());
        let ended = async { while feed.next().await.is_some() {} };
        timeout(PATIENCE, ended).await.unwrap();
        assert!(!freshness.is_current());
    });
}

#[test]
fn a_runtime_that_ends_before_they_began_ends_them_too() {
    let server = server();
    server.kill().unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (mut subscription, mut feed) = first.block_on(async {
        let conn = Conn::connect_lazy(config(server.url())).unwrap();
        let subscription = conn.subscribe().channel("a").lazy().await.unwrap();
        (subscription, conn.track().prefix("a").lazy().await.unwrap())
    });
    drop(first);
    runtime().block_on(async {
        let ended = async {
            while subscription.next().await.is_some() {}
            while feed.next().await.is_some() {}
        };
        timeout(PATIENCE, ended).await.unwrap();
    });
}

/// As behind a load balancer: the link for commands comes back at another server.
#[tokio::test]
async fn a_feed_follows_its_commands_to_another_server_behind_the_address() {
    let (old, new) = (server(), server());
    let target = Arc::new(AtomicU16::new(old.port()));
    let port = forward(Arc::clone(&target)).await;
    let conn = Conn::connect(format!("redis://127.0.0.1:{port}")).await.unwrap();
    let mut feed = conn.track().prefix("").await.unwrap();
    let heard = |change: Option<Invalidation>| change.expect("not the end");
    assert_eq!(heard(feed.next().await), Invalidation::Gap);
    target.store(new.port(), Ordering::Relaxed);
    old.command(["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    let flushed = timeout(PATIENCE, feed.next()).await.unwrap();
    assert_eq!(heard(flushed), Invalidation::Gap);
    let said = async {
        loop {
            // While it is not armed there yet, nothing is said.
            conn.set("k", "x").await.unwrap();
            let change = timeout(PROBE, feed.next()).await;
            if matches!(change, Ok(Some(Invalidation::Key(_)))) {
                return;
            }
        }
    };
    timeout(PATIENCE, said).await.expect("what is written at the new one is said");
}

#[tokio::test]
async fn nothing_is_left_of_what_was_dropped() {
    let server = server();
    let before = crate::client_list(&server).len();
    for n in 0..20 {
        let conn = Conn::connect(config(server.url())).await.unwrap();
        let shared = conn.subscribe().channel("a").await.unwrap();
        let overflow = Overflow::Wait(PATIENCE);
        let alone = conn.subscribe().channel("a").overflow(overflow).await.unwrap();
        if n % 2 == 0 {
            conn.close(PATIENCE).await;
        }
        drop((conn, shared, alone));
    }
    let looked_at = Arc::clone(&server);
    eventually("no connection is left", move || crate::client_list(&looked_at).len() == before)
        .await;
    let metrics = tokio::runtime::Handle::current().metrics();
    eventually("no task is left", move || metrics.num_alive_tasks() == 0).await;
}
