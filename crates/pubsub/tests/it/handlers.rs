use std::{
    future::{pending, poll_fn},
    hint,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc as blocking,
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use redbrick_core_conn::{Conn, Pattern};
use redbrick_pubsub::{CloseReport, Error, Handler, Message, Missed, PubSub, Topic};
use serde::{Deserialize, Deserializer};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{PATIENCE, SHORT, pubsub, pubsub_at, server, some, team, until};

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

/// A handler that tells that it begins, and that never ends by itself.
async fn endless(pubsub: &PubSub) -> (Handler, mpsc::Receiver<()>) {
    let (told, hears) = mpsc::channel(8);
    let handler = pubsub.on("a", move |_: Message<u32>| {
        let told = told.clone();
        async move {
            told.send(()).await.expect("somebody listens");
            pending::<()>().await;
        }
    });
    (handler.await.expect("the server"), hears)
}

#[tokio::test]
async fn a_handler_whose_unsubscribing_was_given_up_ends_by_close_and_with_the_last_pubsub() {
    for closes in [true, false] {
        let pubsub = pubsub("given-up").await;
        let (handler, mut hears) = endless(&pubsub).await;
        say(&pubsub, 1).await;
        timeout(PATIENCE, hears.recv()).await.expect("it begins").expect("it is told");
        assert!(timeout(SHORT, handler.unsubscribe()).await.is_err(), "one is in hand");
        assert!(pubsub.active().is_empty(), "it listens no more");
        assert_eq!(pubsub.unsubscribe_all().await, 0);

        if closes {
            let report = pubsub.close(SHORT).await;
            assert_eq!((report.unhandled, report.interrupted), (0, 1));
        }
        let _kept = closes.then_some(pubsub);

        assert!(timeout(PATIENCE, hears.recv()).await.expect("it is stopped").is_none());
        assert!(!handler.unsubscribe().await);
    }
}

/// Tells whenever it is woken.
struct Wakes(Mutex<blocking::Sender<()>>);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        // Whoever waited may have gone.
        let _ = self.0.lock().expect("no panic").send(());
    }
}

#[test]
fn a_handler_that_begins_while_its_runtime_shuts_down_holds_up_nobody() {
    let server = server();
    let main = Runtime::new().unwrap();
    let conn = main.block_on(Conn::connect(server.url()).into_future()).unwrap();
    let pubsub = PubSub::new(conn, "tests");
    // The link for messages is there after this.
    let _first = main.block_on(pubsub.subscribe::<u8>().channel("x").into_future()).unwrap();
    let other = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (asked, is_asked) = blocking::channel();
    let (confirmed, is_confirmed) = blocking::channel();
    let (down, is_down) = blocking::channel::<()>();
    let (done, is_done) = blocking::channel();
    // It confirms nothing before it was asked.
    let paused = server.pause().unwrap();
    other.spawn({
        let pubsub = pubsub.clone();
        async move {
            let mut on = pubsub.on("a", |_: Message<u8>| async {}).into_future();
            let (woken, wakes) = blocking::channel();
            let waker = Waker::from(Arc::new(Wakes(Mutex::new(woken))));
            // Within one poll, which the end of the runtime does not cut short.
            poll_fn(move |_| {
                let mut cx = Context::from_waker(&waker);
                assert!(on.as_mut().poll(&mut cx).is_pending());
                asked.send(()).unwrap();
                wakes.recv_timeout(PATIENCE).expect("the server confirms");
                confirmed.send(()).unwrap();
                is_down.recv_timeout(PATIENCE).unwrap();
                assert!(on.as_mut().poll(&mut cx).is_ready());
                Poll::Ready(())
            })
            .await;
            done.send(()).unwrap();
        }
    });
    let (kept, goes) = blocking::channel::<()>();
    other.spawn(async move {
        let _kept = kept;
        pending::<()>().await;
    });
    is_asked.recv_timeout(PATIENCE).expect("it begins");
    paused.resume();
    is_confirmed.recv_timeout(PATIENCE).expect("the server goes on");
    other.shutdown_background();
    // Its tasks are dropped, so it takes no more.
    assert_eq!(goes.recv_timeout(PATIENCE), Err(blocking::RecvTimeoutError::Disconnected));
    down.send(()).unwrap();

    is_done.recv_timeout(PATIENCE).expect("it is not held up");
    assert!(pubsub.active().is_empty());
}

/// Takes its time to be read, as what is large does.
struct Slow;

impl<'de> Deserialize<'de> for Slow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer)?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(2) {
            hint::spin_loop();
        }
        Ok(Self)
    }
}

/// Publishes faster than anybody reads, until it is aborted.
fn flood(publisher: PubSub) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let many = publisher.publish_many(["a"; 50], "k", &7_u32).await;
            many.expect("it can be encoded").all().expect("the server");
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn close_ends_while_a_publisher_goes_on_without_end() {
    let mut team = team("flood", 2).await;
    let flood = flood(team.pop().unwrap());
    let pubsub = team.pop().unwrap();
    let handler = pubsub.on("a", |_: Message<Slow>| async {}).queue_messages(some(50));
    let handler = handler.await.unwrap();
    until("it is too slow", async || handler.tally().lagged > 100).await;

    let report = timeout(PATIENCE, pubsub.close(PATIENCE / 2)).await.expect("it ends");

    // What waited was handled, and nothing that came later.
    assert!(report.is_clean(), "{report:?}");
    assert!(pubsub.active().is_empty());
    let handled = handler.tally().handled;
    assert!(!flood.is_finished(), "it goes on");
    flood.abort();
    assert_eq!(handler.tally().handled, handled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn close_by_its_deadline_counts_what_it_had_no_time_to_read() {
    let mut team = team("flood-late", 2).await;
    let flood = flood(team.pop().unwrap());
    let pubsub = team.pop().unwrap();
    let (told, mut hears) = mpsc::channel(8);
    let handler = pubsub.on("a", move |_: Message<Slow>| {
        let told = told.clone();
        async move {
            let _ = told.send(()).await;
            pending::<()>().await;
        }
    });
    let handler = handler.queue_messages(some(1000)).await.unwrap();
    timeout(PATIENCE, hears.recv()).await.expect("it begins").unwrap();
    let mut stream = pubsub.subscribe::<u32>().channel("a").await.unwrap();
    for _ in 0..1500 {
        // By now the queue of the handler is full: both are filled at the same time.
        crate::next(&mut stream).await;
    }

    // To read a thousand takes two seconds.
    let report = timeout(PATIENCE, pubsub.close(SHORT)).await.expect("it ends");

    assert_eq!((report.unhandled, report.interrupted), (1000, 1));
    assert!(timeout(PATIENCE, hears.recv()).await.expect("it is stopped").is_none());
    assert_eq!(handler.tally().handled, 0);
    flood.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_of_other_kinds_without_end_hold_up_no_end() {
    let mut team = team("flood-kinds", 2).await;
    let flood = flood(team.pop().unwrap());
    let pubsub = team.pop().unwrap();
    let handler = pubsub.on("a", |_: Message<Vec<Slow>>| async {}).kind("other");
    let handler = handler.queue_messages(some(50)).await.unwrap();
    let all = pubsub.on("a", |_: Message<u32>| async {}).await.unwrap();
    until("they come", async || all.tally().handled > 1000).await;

    assert!(timeout(PATIENCE, handler.unsubscribe()).await.expect("it ends"));
    assert!(timeout(PATIENCE, all.unsubscribe()).await.expect("it ends"));

    flood.abort();
    assert_eq!(handler.tally().handled, 0);
}
