//! Cluster and Sentinel, and a master that is lost.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Config, Conn};
use redbrick_pubsub::{Joined, PubSub, Received, Subscription};
use redbrick_testkit::{Cluster, Sentinel};
use tokio::time::{Instant, timeout};

use crate::{PATIENCE, Texts, message};

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the fixture")
}

async fn pubsub_at(url: String) -> PubSub {
    let config = Config::builder()
        .url(url)
        .command_timeout(Duration::from_secs(2))
        .probe_interval(Duration::from_millis(200));
    PubSub::new(Conn::connect(config).await.expect("the servers"), "tests")
}

/// Asks until somebody can do it.
async fn at_last<T>(call: impl AsyncFn() -> Result<T, redbrick_pubsub::Error>) -> T {
    let deadline = Instant::now() + PATIENCE * 2;
    loop {
        match call().await {
            Ok(done) => return done,
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                assert!(Instant::now() < deadline, "{error:?}");
            }
        }
    }
}

async fn everything_works(pubsub: &PubSub, round: u32) {
    for n in 0..20 {
        let room: Texts = pubsub.room(format!("round {round} room {n}"));
        assert_eq!(at_last(async || room.join("ada", &"x".into()).await).await, Joined::New);
        assert!(room.keep("ada").await.unwrap());
        assert_eq!(room.members().await.unwrap().members.len(), 1);
        let mut said = room.subscribe().await.unwrap();
        room.broadcast(&format!("{n}")).await.unwrap();
        assert_eq!(message(&mut said).await.payload, format!("{n}"));
        assert_eq!(room.recent().await.unwrap().messages.len(), 1);
        assert!(room.leave("ada").await.unwrap());
        assert_eq!(room.count().await.unwrap(), 0);
    }
    let channels: Vec<String> = (0..20).map(|n| format!("round {round} {n}")).collect();
    let mut all = pubsub.subscribe::<u32>();
    for channel in &channels {
        all = all.channel(channel);
    }
    let mut all = all.await.unwrap();
    pubsub.publish_many(&channels, "k", &round).await.unwrap().all().unwrap();
    for _ in &channels {
        assert_eq!(message(&mut all).await.payload, round);
    }
}

/// Says something until it is heard.
async fn goes_on(room: &Texts, stream: &mut Subscription<String>) {
    let hears = async {
        loop {
            let received = stream.next().await.expect("it goes on");
            if received.message().is_some_and(|message| message.payload == "after") {
                return;
            }
        }
    };
    let says = async {
        loop {
            // An error is that of the failover.
            let _ = room.broadcast(&"after".into()).await;
            tokio::task::yield_now().await;
        }
    };
    let heard = timeout(PATIENCE * 2, async {
        tokio::select! { () = hears => {}, () = says => {} }
    });
    heard.await.expect("it is heard");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_of_a_cluster_is_heard_at_every_node_and_goes_on_after_a_failover() {
    let cluster = Arc::new(blocking(Cluster::start).await.expect("a cluster"));
    let pubsub = pubsub_at(cluster.url()).await;
    everything_works(&pubsub, 1).await;

    // Whichever nodes these connections listen at, they hear it.
    let mut listeners = Vec::new();
    for _ in 0..8 {
        let listener = pubsub_at(cluster.url()).await;
        let room: Texts = listener.room("heard");
        listeners.push((room.subscribe().await.unwrap(), listener.clone()));
    }
    let room: Texts = pubsub.room("heard");
    room.broadcast(&"everywhere".into()).await.unwrap();
    for (stream, _) in &mut listeners {
        assert_eq!(message(stream).await.payload, "everywhere");
    }

    let slot = cluster.slot_of("pubsub:room:{heard}:history").unwrap();
    let lost = cluster.slot_owner(slot).unwrap();
    let killed = Arc::clone(&cluster);
    blocking(move || killed.kill_master(lost).map(|_| ())).await.expect("a takeover");

    for (stream, _) in &mut listeners {
        goes_on(&room, stream).await;
    }
    everything_works(&pubsub, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_sentinel_names_goes_on() {
    let sentinel = Arc::new(blocking(Sentinel::start).await.expect("a master and sentinels"));
    let pubsub = pubsub_at(sentinel.url()).await;
    everything_works(&pubsub, 1).await;
    let room: Texts = pubsub.room("heard");
    let mut stream = room.subscribe().await.unwrap();

    let killed = Arc::clone(&sentinel);
    blocking(move || killed.kill_master().map(|_| ())).await.expect("a takeover");

    assert!(matches!(crate::next(&mut stream).await, Received::Gap { .. }));
    goes_on(&room, &mut stream).await;
    everything_works(&pubsub, 2).await;
}
