//! Many messages to many subscribers, one of whom does not read.

use std::{num::NonZeroUsize, sync::Arc};

use redbrick_core_conn::{Conn, Event, Subscription};
use redbrick_testkit::Server;
use tokio::{
    runtime::Builder,
    sync::Barrier,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::next;
use crate::{
    PATIENCE,
    alone::{alone, is_long, memory, tell},
};

const SUBSCRIBERS: usize = 50;
/// How many messages come at once.
const BURST: u64 = 1000;
/// How many may wait for a subscriber.
const QUEUE: NonZeroUsize = NonZeroUsize::new(2000).expect("more than none");
/// By how much the memory may grow: what waits for all subscribers, twice.
const GROWTH: u64 = 64 << 20;
const PAYLOAD: usize = 100;

#[test]
fn bursts_reach_all_who_read_and_who_does_not_learns_how_many_it_lost() {
    alone(
        "subscribe::load::bursts_reach_all_who_read_and_who_does_not_learns_how_many_it_lost",
        || {
            let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("a runtime").block_on(bursts(if is_long() { 200_000 } else { 20_000 }));
        },
    );
}

async fn bursts(messages: u64) {
    let server = Server::start().expect("a server");
    let conn = Conn::connect(server.url()).await.expect("a connection");
    let publisher = Conn::connect(server.url()).await.expect("a connection");
    let subscribe = || conn.subscribe().channel("a").queue_messages(QUEUE);
    let mut stalled = subscribe().await.expect("a subscription");
    let barrier = Arc::new(Barrier::new(SUBSCRIBERS));
    let mut reading = JoinSet::new();
    for _ in 1..SUBSCRIBERS {
        let (subscription, barrier) =
            (subscribe().await.expect("a subscription"), Arc::clone(&barrier));
        reading.spawn(read_all(subscription, messages, barrier));
    }

    let began = Instant::now();
    let (mut warm, mut most) = (None, 0);
    for burst in 0..messages / BURST {
        let mut calls = JoinSet::new();
        for number in burst * BURST..(burst + 1) * BURST {
            let publisher = publisher.clone();
            calls
                .spawn(async move { publisher.publish("a", &(number, "x".repeat(PAYLOAD))).await });
        }
        while let Some(published) = calls.join_next().await {
            assert_eq!(published.expect("the task").expect("published"), 1, "one link for all");
        }
        // All who read have everything, so that bursts stay bursts.
        timeout(PATIENCE, barrier.wait()).await.expect("everybody reads");
        let now = memory();
        warm = warm.or(now);
        most = most.max(now.unwrap_or(0));
    }
    while let Some(read) = reading.join_next().await {
        read.expect("nothing was lost");
    }
    let took = began.elapsed();

    let Event::Lagged(lost) = next(&mut stalled).await else { panic!("it did not read") };
    let mut kept = 0;
    while kept + lost < messages {
        assert!(matches!(next(&mut stalled).await, Event::Message(_)));
        kept += 1;
    }
    assert_eq!(kept, u64::try_from(QUEUE.get()).expect("a count"));
    tell(&format!(
        "{messages} messages to {SUBSCRIBERS} subscribers in {took:.1?}; {lost} lost by the one that stalled, and told"
    ));
    if let Some(warm) = warm {
        tell(&format!(
            "memory: {} MiB after the first burst, at most {} MiB",
            warm >> 20,
            most >> 20
        ));
        assert!(most < warm + GROWTH, "the memory grew from {warm} to {most}");
    }
}

/// Reads all messages, each once, and meets the others after every burst.
async fn read_all(mut subscription: Subscription, messages: u64, barrier: Arc<Barrier>) {
    let mut seen = vec![false; usize::try_from(messages).expect("a count")];
    for count in 1..=messages {
        let Some(Event::Message(message)) = subscription.next().await else {
            panic!("a message was lost");
        };
        let (number, _): (u64, String) = message.value().expect("what was published");
        let seen = &mut seen[usize::try_from(number).expect("a number")];
        assert!(!*seen, "{number} came twice");
        *seen = true;
        if count % BURST == 0 {
            barrier.wait().await;
        }
    }
}
