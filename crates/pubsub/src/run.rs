use std::{
    collections::VecDeque,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    task::{Context, Poll},
};

use futures_core::Stream;
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::yield_now};

use crate::{Message, Missed, Received, Subscription, Tally};

pub(crate) type Work<T> =
    Box<dyn Fn(Message<T>) -> Pin<Box<dyn Future<Output = Option<String>> + Send>> + Send + Sync>;
pub(crate) type OnGap = Box<dyn Fn(Missed) + Send + Sync>;

/// How many messages are handled before others have their turn, where the handler itself gives them none.
const AT_ONCE: u32 = 64;

/// What a handler's task is to do; each goes further than the one before.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Order {
    Listen,
    /// Receive nothing more, do what waits, end.
    Drain,
    /// Begin nothing more.
    Stop,
    /// End where it waits.
    Abort,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    handled: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    undecodable: AtomicU64,
    lagged: AtomicU64,
    gaps: AtomicU64,
    /// Messages that were received and not begun, once nothing more is received; those that were not read yet are of
    /// whatever kind.
    waiting: AtomicU64,
    in_hand: AtomicBool,
}

/// What a handler does with what arrives.
pub(crate) struct Job<T> {
    pub(crate) work: Work<T>,
    pub(crate) on_gap: Option<OnGap>,
}

impl Counts {
    pub(crate) fn tally(&self) -> Tally {
        Tally {
            handled: self.handled.load(Relaxed),
            failed: self.failed.load(Relaxed),
            panicked: self.panicked.load(Relaxed),
            undecodable: self.undecodable.load(Relaxed),
            lagged: self.lagged.load(Relaxed),
            gaps: self.gaps.load(Relaxed),
        }
    }

    /// How many messages wait, and whether one is in hand.
    pub(crate) fn left(&self) -> (u64, bool) {
        (self.waiting.load(Relaxed), self.in_hand.load(Relaxed))
    }
}

impl<T: DeserializeOwned + Send + 'static> Job<T> {
    /// Gives the handler one message after the other until it is told otherwise or the subscription ends.
    pub(crate) async fn run(
        self,
        id: u64,
        mut subscription: Subscription<T>,
        mut orders: watch::Receiver<Order>,
        counts: &Counts,
    ) {
        let mut done: u32 = 0;
        let waiting = loop {
            let received = tokio::select! {
                biased;
                () = ordered(&mut orders, Order::Drain) => {
                    break rest(id, subscription, &orders, counts).await;
                }
                received = poll_fn(|cx| poll(id, &mut subscription, cx, counts)) => received,
            };
            let Some(received) = received else { return };
            let mut handling = pin!(self.handle(id, received, counts));
            tokio::select! {
                biased;
                () = ordered(&mut orders, Order::Drain) => {
                    // Nothing more is received from this moment on, however long the one in hand takes.
                    let rest = rest(id, subscription, &orders, counts);
                    let (waiting, ()) = tokio::join!(rest, handling);
                    break waiting;
                }
                () = &mut handling => {}
            }
            done = done.wrapping_add(1);
            if done.is_multiple_of(AT_ONCE) {
                yield_now().await;
            }
        };
        self.finish(id, waiting, &orders, counts).await;
    }

    async fn finish(
        &self,
        id: u64,
        waiting: VecDeque<Received<T>>,
        orders: &watch::Receiver<Order>,
        counts: &Counts,
    ) {
        for received in waiting {
            if *orders.borrow() >= Order::Stop {
                return;
            }
            if matches!(received, Received::Message(_)) {
                counts.waiting.fetch_sub(1, Relaxed);
            }
            self.handle(id, received, counts).await;
            yield_now().await;
        }
    }

    async fn handle(&self, handler: u64, received: Received<T>, counts: &Counts) {
        match received {
            Received::Message(message) => self.work(handler, message, counts).await,
            Received::Undecodable { error, .. } => {
                counts.undecodable.fetch_add(1, Relaxed);
                tracing::warn!(handler, %error, "a message was not given to its handler");
            }
            Received::Lagged(lost) => {
                counts.lagged.fetch_add(lost, Relaxed);
                tracing::warn!(handler, lost, "a handler was too slow, and messages were dropped");
                self.tell(handler, Missed::Lagged(lost));
            }
            Received::Gap { since } => {
                counts.gaps.fetch_add(1, Relaxed);
                tracing::warn!(handler, since = ?since.elapsed(), "messages may be missing");
                self.tell(handler, Missed::Gap { since });
            }
            Received::Resumed => {
                tracing::info!(handler, "messages arrive again");
                self.tell(handler, Missed::Resumed);
            }
        }
    }

    async fn work(&self, handler: u64, message: Message<T>, counts: &Counts) {
        counts.in_hand.store(true, Relaxed);
        let mut work = (self.work)(message);
        let caught = poll_fn(|cx| {
            // What a panic leaves behind is dropped, not polled again.
            match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(failure)) => Poll::Ready(Ok(failure)),
                Err(_panic) => Poll::Ready(Err(Panicked)),
            }
        });
        match caught.await {
            Ok(None) => {}
            Ok(Some(error)) => {
                counts.failed.fetch_add(1, Relaxed);
                tracing::warn!(handler, error, "a handler failed");
            }
            Err(Panicked) => {
                counts.panicked.fetch_add(1, Relaxed);
                tracing::error!(handler, "a handler panicked; it goes on with the next message");
            }
        }
        counts.in_hand.store(false, Relaxed);
        counts.handled.fetch_add(1, Relaxed);
    }

    fn tell(&self, handler: u64, missed: Missed) {
        let Some(on_gap) = &self.on_gap else { return };
        if catch_unwind(AssertUnwindSafe(|| on_gap(missed))).is_err() {
            tracing::error!(handler, "a handler's `on_gap` panicked");
        }
    }
}

struct Panicked;

/// Waits until this is ordered, or what goes further.
pub(crate) async fn ordered(orders: &mut watch::Receiver<Order>, least: Order) {
    // When nobody is left to order anything, that is the end too.
    let _ = orders.wait_for(|order| *order >= least).await;
}

/// Receives what comes next, and passes over payloads whose `Deserialize` panics.
fn poll<T: DeserializeOwned>(
    handler: u64,
    subscription: &mut Subscription<T>,
    cx: &mut Context<'_>,
    counts: &Counts,
) -> Poll<Option<Received<T>>> {
    let next = AssertUnwindSafe(|| Pin::new(&mut *subscription).poll_next(cx));
    catch_unwind(next).unwrap_or_else(|_panic| {
        counts.panicked.fetch_add(1, Relaxed);
        tracing::error!(handler, "reading a payload panicked; the next message follows");
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Receives nothing more, and reads what has arrived so far if it is still to be handled.
///
/// However fast messages come, that is no more than the queue holds; others have their turn between two of them.
async fn rest<T: DeserializeOwned>(
    handler: u64,
    mut subscription: Subscription<T>,
    orders: &watch::Receiver<Order>,
    counts: &Counts,
) -> VecDeque<Received<T>> {
    let mut rest = VecDeque::new();
    subscription.unsubscribe();
    let mut messages = 0;
    while *orders.borrow() == Order::Drain {
        counts.waiting.store(messages + subscription.waiting() as u64, Relaxed);
        let next = poll_fn(|cx| poll(handler, &mut subscription, cx, counts)).await;
        let Some(received) = next else { break };
        messages += u64::from(matches!(received, Received::Message(_)));
        rest.push_back(received);
        yield_now().await;
    }
    rest
}
