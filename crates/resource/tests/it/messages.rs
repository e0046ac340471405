use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use redbrick_core_conn::Conn;
use redbrick_resource::{Listener, Messages, Notice, Resource};
use redbrick_testkit::Server;
use serde::{Deserialize, Deserializer};
use tokio::{
    sync::{Mutex, Semaphore, mpsc},
    time::timeout,
};

use crate::{PATIENCE, User, eventually, users};

async fn next(messages: &mut Messages<u32>) -> Option<u32> {
    match timeout(PATIENCE, messages.next()).await.expect("something comes") {
        Some(Notice::Message(message)) => Some(message),
        Some(other) => panic!("{other:?}"),
        None => None,
    }
}

#[tokio::test]
async fn a_message_reaches_those_who_listen_to_its_channel() {
    let users = users("channels").await;
    let mut plain = users.subscribe::<u32>().await.unwrap();
    let mut named = users.subscribe::<u32>().channel("a").channel("b").await.unwrap();
    let mut record = users.subscribe::<u32>().record("a").await.unwrap();

    users.publish(&1).await.unwrap();
    users.publish(&2).channel("a").await.unwrap();
    users.publish(&3).channel("b").await.unwrap();
    users.publish(&4).record("a").await.unwrap();
    users.publish(&5).channel("").await.unwrap();
    users.publish(&6).await.unwrap();
    users.publish(&7).channel("a").await.unwrap();
    users.publish(&8).record("a").await.unwrap();

    assert_eq!([next(&mut plain).await, next(&mut plain).await], [Some(1), Some(6)]);
    let three = [next(&mut named).await, next(&mut named).await, next(&mut named).await];
    // Between channels there is no order on Cluster.
    assert!(three.contains(&Some(2)) && three.contains(&Some(3)) && three.contains(&Some(7)));
    assert_eq!([next(&mut record).await, next(&mut record).await], [Some(4), Some(8)]);
}

#[tokio::test]
async fn once_ends_after_one_message_and_a_life_with_its_time() {
    let users = users("once").await;
    let mut once = users.subscribe::<u32>().once().await.unwrap();
    users.publish(&1).await.unwrap();
    users.publish(&2).await.unwrap();
    assert_eq!(next(&mut once).await, Some(1));
    assert_eq!(next(&mut once).await, None);

    let short = users.subscribe::<u32>().channel("short").time_to_live(Duration::from_millis(20));
    let mut short = short.await.unwrap();
    assert_eq!(next(&mut short).await, None);
    users.publish(&3).channel("short").await.unwrap();
    assert_eq!(next(&mut short).await, None);
    let _endless = users.subscribe::<u32>().time_to_live(Duration::MAX).await.unwrap();
}

#[tokio::test]
async fn what_is_no_such_message_is_told_and_does_not_end_it() {
    let users = users("no_such").await;
    let mut messages = users.subscribe::<u32>().await.unwrap();
    users.publish("a text").await.unwrap();
    users.publish(&7).await.unwrap();

    let first = timeout(PATIENCE, messages.next()).await.unwrap();
    assert!(matches!(first, Some(Notice::Misshaped(_))), "{first:?}");
    assert_eq!(next(&mut messages).await, Some(7));
}

#[tokio::test]
async fn a_handler_is_called_with_each_until_it_is_unsubscribed() {
    let users = users("handler").await;
    let (seen, mut sees) = mpsc::unbounded_channel();
    let handler = move |notice: Notice<u32>| {
        let seen = seen.clone();
        async move {
            if let Notice::Message(message) = notice {
                assert_ne!(message, 2, "this panic is part of the test");
                seen.send(message).unwrap();
            }
        }
    };
    let listener = users.subscribe().channel("a").on_message(handler).await.unwrap();
    for n in 1..=3 {
        users.publish(&n).channel("a").await.unwrap();
    }
    assert_eq!(timeout(PATIENCE, sees.recv()).await.unwrap(), Some(1));
    assert_eq!(timeout(PATIENCE, sees.recv()).await.unwrap(), Some(3), "a panic ends one call");
    assert!(!listener.is_finished());
    timeout(PATIENCE, listener.unsubscribe()).await.unwrap();
    users.publish(&4).channel("a").await.unwrap();
    assert_eq!(timeout(PATIENCE, sees.recv()).await.unwrap(), None, "the handler is gone");
}

#[tokio::test]
async fn unsubscribing_waits_for_the_call_that_runs_and_dropping_does_not() {
    let users = users("waits").await;
    let (entered, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let done = Arc::new(AtomicUsize::new(0));
    let handler = {
        let (entered, gate, done) = (entered.clone(), gate.clone(), done.clone());
        move |_: Notice<u32>| {
            let (entered, gate, done) = (entered.clone(), gate.clone(), done.clone());
            async move {
                entered.add_permits(1);
                gate.acquire().await.unwrap().forget();
                done.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    let listener = users.subscribe().on_message(handler.clone()).await.unwrap();
    users.publish(&1).await.unwrap();
    timeout(PATIENCE, entered.acquire()).await.unwrap().unwrap().forget();
    let leaving = tokio::spawn(listener.unsubscribe());
    tokio::task::yield_now().await;
    assert!(!leaving.is_finished() && done.load(Ordering::SeqCst) == 0);
    gate.add_permits(1);
    timeout(PATIENCE, leaving).await.unwrap().unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 1);

    // One that never ends is given up with its listener.
    let endless = users.subscribe().on_message(handler).await.unwrap();
    users.publish(&2).await.unwrap();
    timeout(PATIENCE, entered.acquire()).await.unwrap().unwrap().forget();
    drop(endless);
    let held = gate.clone();
    eventually("the handler goes", move || Arc::strong_count(&held) == 2).await;
    assert_eq!(done.load(Ordering::SeqCst), 1);
}

/// A number that cannot stand being thirteen.
#[derive(Debug)]
struct Bomb(u32);

impl<'de> Deserialize<'de> for Bomb {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        assert_ne!(number, 13, "this panic is part of the test");
        Ok(Self(number))
    }
}

#[tokio::test]
async fn a_message_whose_reading_panics_is_passed_over() {
    let users = users("bomb").await;
    let (seen, mut sees) = mpsc::unbounded_channel();
    let handler = move |notice: Notice<Bomb>| {
        let seen = seen.clone();
        async move {
            if let Notice::Message(Bomb(number)) = notice {
                seen.send(number).unwrap();
            }
        }
    };
    let listener = users.subscribe().on_message(handler.clone()).await.unwrap();
    for n in [1, 13, 2] {
        users.publish(&n).await.unwrap();
    }
    assert_eq!(timeout(PATIENCE, sees.recv()).await.unwrap(), Some(1));
    assert_eq!(timeout(PATIENCE, sees.recv()).await.unwrap(), Some(2));
    assert!(!listener.is_finished());
    listener.unsubscribe().await;

    // It was the one message.
    let once = users.subscribe().once().on_message(handler).await.unwrap();
    users.publish(&13).await.unwrap();
    eventually("its end", move || once.is_finished()).await;
    assert_eq!(timeout(PATIENCE, sees.recv()).await.unwrap(), None);
}

#[tokio::test]
async fn a_handler_can_unsubscribe_itself_and_goes_on_to_its_end() {
    let users = users("own_end").await;
    let slot = Arc::new(Mutex::new(None::<Listener>));
    let (seen, mut sees) = mpsc::unbounded_channel();
    let handler = {
        let slot = Arc::clone(&slot);
        move |_: Notice<u32>| {
            let (slot, seen) = (Arc::clone(&slot), seen.clone());
            async move {
                if let Some(own) = slot.lock().await.take() {
                    own.unsubscribe().await;
                }
                tokio::task::yield_now().await;
                seen.send(()).unwrap();
            }
        }
    };
    let mut held = slot.lock().await;
    *held = Some(users.subscribe().on_message(handler).await.unwrap());
    users.publish(&1).await.unwrap();
    users.publish(&2).await.unwrap();
    drop(held);

    assert_eq!(timeout(PATIENCE, sees.recv()).await.unwrap(), Some(()), "to its end");
    assert_eq!(timeout(PATIENCE, sees.recv()).await.unwrap(), None, "and the handler is gone");
}

#[tokio::test]
async fn a_handler_for_one_message_ends_by_itself() {
    let users = users("handler_once").await;
    let listener = users.subscribe::<u32>().once().on_message(|_| async {}).await.unwrap();
    users.publish(&1).await.unwrap();
    eventually("its end", move || listener.is_finished()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_link_may_have_missed_is_told() {
    let server = Arc::new(Server::start().unwrap());
    let users = Resource::<User>::new(Conn::connect(server.url()).await.unwrap());
    let mut messages = users.subscribe::<u32>().await.unwrap();
    server.command(["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();

    let gap = timeout(PATIENCE, messages.next()).await.unwrap();
    assert!(matches!(gap, Some(Notice::Gap { .. })), "{gap:?}");
    let resumed = timeout(PATIENCE, messages.next()).await.unwrap();
    assert!(matches!(resumed, Some(Notice::Resumed)), "{resumed:?}");
    users.publish(&5).await.unwrap();
    assert_eq!(next(&mut messages).await, Some(5));
    users.conn().close(PATIENCE).await;
    assert_eq!(next(&mut messages).await, None);
}
