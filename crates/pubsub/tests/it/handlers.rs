use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redbrick_core_conn::Pattern;
use redbrick_pubsub::{CloseReport, Error, Handler, Message, Missed, PubSub, Topic};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, timeout},
};

use crate::{PATIENCE, pubsub, pubsub_at, server, some, until};

/// A handler that tells what it is given.
async fn telling(pubsub: &PubSub, topic: impl Into<Topic>) -> (Handler, mpsc::Receiver<u32>) {
    let (told, hears) = mpsc::channel(1000);
    let handler = pubsub.on(topic, move |message: Message<u32>| {
        let told = told.clone();
        async move { told.send(message.payload).await.map_err(|_closed| "nobody listens") }
    });
    (handler.await.expect("the server"), hears)
}

async fn heard(hears: &mut mpsc::Receiver<u32>) -> u32 {
    timeout(PATIENCE, hears.recv()).await.expect("it comes").expect("the handler goes on")
}

async fn say(pubsub: &PubSub, n: u32) {
    pubsub.publish("a", "k", &n).await.expect("the server");
}

/// A handler that is done with a message whenever it is allowed to be.
async fn gated(pubsub: &PubSub) -> (Handler, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let handler = pubsub.on("a", {
        let gate = Arc::clone(&gate);
        move |_: Message<u32>| {
            let gate = Arc::clone(&gate);
            async move { gate.acquire().await.expect("it stays open").forget() }
        }
    });
    (handler.await.expect("the server"), gate)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_is_given_one_message_at_a_time_and_in_order() {
    let pubsub = pubsub("handler-order").await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let busy = Arc::new(AtomicU64::new(0));
    let handler = pubsub.on("a", {
        let (seen, busy) = (Arc::clone(&seen), Arc::clone(&busy));
        move |message: Message<u32>| {
            let (seen, busy) = (Arc::clone(&seen), Arc::clone(&busy));
            async move {
                assert_eq!(busy.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                tokio::task::yield_now().await;
                seen.lock().unwrap().push(message.payload);
                busy.fetch_sub(1, Ordering::SeqCst);
            }
        }
    });
    let handler = handler.await.unwrap();

    for n in 0..200 {
        say(&pubsub, n).await;
    }

    until("all are handled", async || handler.tally().handled == 200).await;
    assert_eq!(*seen.lock().unwrap(), (0..200).collect::<Vec<_>>());
    assert_eq!(handler.tally().panicked, 0);
}

#[tokio::test]
async fn one_of_two_handlers_is_unsubscribed_and_the_other_goes_on() {
    let pubsub = pubsub("two").await;
    let (one, mut hears_one) = telling(&pubsub, "a").await;
    let (other, mut hears_other) = telling(&pubsub, "a").await;
    let (third, mut hears_third) = telling(&pubsub, Pattern::new("a*").unwrap()).await;
    assert_ne!(one.id(), other.id());
    let active: Vec<_> = pubsub.active().into_iter().map(|a| (a.topic, a.handlers)).collect();
    let pattern = Topic::from(Pattern::new("a*").unwrap());
    assert_eq!(active, [(Topic::from("a"), 2), (pattern.clone(), 1)]);
    assert_eq!(third.topic(), &pattern);
    say(&pubsub, 1).await;
    for hears in [&mut hears_one, &mut hears_other, &mut hears_third] {
        assert_eq!(heard(hears).await, 1);
    }

    assert!(one.unsubscribe().await);
    assert!(!one.unsubscribe().await, "once");

    say(&pubsub, 2).await;
    assert_eq!(heard(&mut hears_other).await, 2);
    assert_eq!(heard(&mut hears_third).await, 2);
    assert!(hears_one.recv().await.is_none(), "it has ended, and what it held is gone");
    assert_eq!(pubsub.active().len(), 2);

    assert_eq!(pubsub.unsubscribe("a").await, 1);
    assert_eq!(pubsub.unsubscribe("a").await, 0);
    assert!(hears_other.recv().await.is_none());
    say(&pubsub, 3).await;
    assert_eq!(heard(&mut hears_third).await, 3);
    assert_eq!(pubsub.unsubscribe_all().await, 1);
    assert!(pubsub.active().is_empty());
    drop(other);
}

#[tokio::test]
async fn a_handler_that_panics_or_fails_is_given_the_next_message() {
    let pubsub = pubsub("panics").await;
    let (told, mut hears) = mpsc::channel(8);
    let handler = pubsub.on("a", move |message: Message<u32>| {
        // Before its future is made, and within.
        assert!(message.payload != 1, "as it was told");
        let told = told.clone();
        async move {
            assert!(message.payload != 2, "as it was told");
            told.send(message.payload).await.map_err(|_closed| "nobody listens")?;
            if message.payload == 3 { Err("as it was told") } else { Ok(()) }
        }
    });
    let handler = handler.await.unwrap();

    for n in 1..5 {
        say(&pubsub, n).await;
    }
    pubsub.publish("a", "k", "no number").await.unwrap();
    say(&pubsub, 5).await;

    assert_eq!(heard(&mut hears).await, 3);
    assert_eq!(heard(&mut hears).await, 4);
    assert_eq!(heard(&mut hears).await, 5);
    until("the last is done", async || handler.tally().handled == 5).await;
    let tally = handler.tally();
    assert_eq!((tally.panicked, tally.failed, tally.undecodable), (2, 1, 1));
}

#[tokio::test]
async fn a_handler_is_told_of_what_it_was_not_given() {
    let server = server();
    let pubsub = pubsub_at(server.url()).await;
    let (told, mut hears) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let work = Arc::clone(&gate);
    let handler = pubsub.on("a", move |_: Message<u32>| {
        let gate = Arc::clone(&work);
        async move { gate.acquire().await.unwrap().forget() }
    });
    let handler = handler.queue_messages(some(2)).on_gap(move |missed| {
        told.send(missed).unwrap();
        panic!("as it was told");
    });
    let handler = handler.await.unwrap();

    for n in 0..10 {
        say(&pubsub, n).await;
    }
    server.command(["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
    gate.add_permits(1000);

    let mut lost = 0;
    loop {
        let missed = timeout(PATIENCE, hears.recv()).await.expect("it is told").unwrap();
        match missed {
            Missed::Lagged(n) => lost += n,
            Missed::Gap { .. } => {}
            Missed::Resumed => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(lost >= 1);
    let tally = handler.tally();
    assert_eq!((tally.lagged, tally.gaps), (lost, 1));
    until("the link is back", async || {
        say(&pubsub, 1).await;
        handler.tally().handled > tally.handled
    })
    .await;
}

#[tokio::test]
async fn close_lets_what_has_arrived_be_handled_and_takes_nothing_more() {
    let pubsub = pubsub("close").await;
    let (handler, gate) = gated(&pubsub).await;
    let mut stream = pubsub.subscribe::<u32>().channel("a").await.unwrap();
    for n in 0..10 {
        say(&pubsub, n).await;
    }
    // The stream lies behind the same link and after the handler: what it has, the handler has too.
    for _ in 0..10 {
        crate::message(&mut stream).await;
    }

    let closing = tokio::spawn({
        let pubsub = pubsub.clone();
        async move { pubsub.close(PATIENCE).await }
    });
    until("nothing more is taken", async || {
        matches!(pubsub.on("a", |_: Message<u32>| async {}).await, Err(Error::Closed))
    })
    .await;
    gate.add_permits(100);

    let report = closing.await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(handler.tally().handled, 10);
    assert!(pubsub.active().is_empty());
    // Publishing and streams go on.
    say(&pubsub, 7).await;
    assert_eq!(crate::message(&mut stream).await.payload, 7);
    assert_eq!(pubsub.close(PATIENCE).await, CloseReport::default());
}

#[tokio::test]
async fn close_gives_up_on_a_handler_that_never_returns_and_says_so() {
    let pubsub = pubsub("never").await;
    let begun = Arc::new(Semaphore::new(0));
    let handler = pubsub.on("a", {
        let begun = Arc::clone(&begun);
        move |_: Message<u32>| {
            begun.add_permits(1);
            pending::<()>()
        }
    });
    let _handler = handler.await.unwrap();
    let mut stream = pubsub.subscribe::<u32>().channel("a").await.unwrap();
    for n in 0..4 {
        say(&pubsub, n).await;
    }
    for _ in 0..4 {
        crate::message(&mut stream).await;
    }
    timeout(PATIENCE, begun.acquire()).await.expect("it begins").unwrap().forget();

    let started = Instant::now();
    let report = pubsub.close(Duration::from_millis(300)).await;

    assert_eq!((report.unhandled, report.interrupted), (3, 1));
    assert!(!report.is_clean());
    // 300 ms, and what a slow machine adds.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    until("its task has ended", async || pubsub.active().is_empty()).await;
}

#[tokio::test]
async fn unsubscribing_waits_for_the_message_in_hand_and_drops_the_rest() {
    let pubsub = pubsub("in-hand").await;
    let (handler, gate) = gated(&pubsub).await;
    let mut stream = pubsub.subscribe::<u32>().channel("a").await.unwrap();
    for n in 0..3 {
        say(&pubsub, n).await;
        crate::message(&mut stream).await;
    }
    // It waits, and is dropped meanwhile: the handler ends all the same.
    let waits = timeout(Duration::from_millis(50), handler.unsubscribe()).await;
    assert!(waits.is_err(), "one is in hand");
    gate.add_permits(100);

    assert!(!handler.unsubscribe().await);
    assert_eq!(handler.tally().handled, 1);
}

#[tokio::test]
async fn a_handler_can_end_itself() {
    let pubsub = pubsub("itself").await;
    let own = Arc::new(Mutex::new(None::<Handler>));
    let (told, mut hears) = mpsc::channel(8);
    let handler = pubsub.on("a", {
        let own = Arc::clone(&own);
        move |_: Message<u32>| {
            let (own, told) = (own.lock().unwrap().clone(), told.clone());
            async move {
                let listened = own.expect("it is there").unsubscribe().await;
                told.send(listened).await.unwrap();
            }
        }
    });
    *own.lock().unwrap() = Some(handler.await.unwrap());
    say(&pubsub, 1).await;
    assert_eq!(timeout(PATIENCE, hears.recv()).await.unwrap(), Some(true));
    own.lock().unwrap().take();
    assert_eq!(timeout(PATIENCE, hears.recv()).await.unwrap(), None, "its task has ended");
}

#[tokio::test]
async fn a_dropped_handle_goes_on_and_the_last_pubsub_ends_all() {
    let pubsub = pubsub("owner").await;
    let (handler, mut hears) = telling(&pubsub, "a").await;
    let room = pubsub.room::<(), ()>("it keeps no handler");
    drop(handler);
    say(&pubsub, 1).await;
    assert_eq!(heard(&mut hears).await, 1);

    drop(pubsub);

    assert!(timeout(PATIENCE, hears.recv()).await.expect("it ends").is_none());
    assert_eq!(room.count().await.unwrap(), 0);
}
