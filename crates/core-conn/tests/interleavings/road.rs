//! The world that drivers go out into, and what has been seen of them there.

use std::{
    future::{pending, poll_fn},
    sync::{Arc as Shared, Mutex as Cell, PoisonError},
    task::{Poll, Waker},
};

use loom::sync::{Arc, Mutex};
use tokio::time::Instant;

use crate::{
    Outcome,
    group::{self, Bounds, Carrier, Lost},
};

/// Returns the items as outcomes.
#[derive(Clone)]
pub(super) struct Road {
    pub(super) log: Shared<Log>,
    pub(super) pauses: bool,
    pub(super) says: Option<usize>,
    /// Opens when so many stand before it.
    pub(super) gate: Option<Arc<Event>>,
    /// The time of those who are late is over.
    pub(super) time: Arc<Event>,
    pub(super) began: Instant,
    /// Nothing lands before those who are late have gone.
    pub(super) gone: Arc<Event>,
    /// When a batch is overdue.
    pub(super) overdue: Option<Instant>,
    /// Drivers that were sent beside others.
    pub(super) sent: Shared<Cell<Vec<group::Driver<u32, u32>>>>,
}

impl Road {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            log: Shared::new(Log::new(bounds)),
            pauses: false,
            says: None,
            gate: None,
            time: Arc::new(Event::after(1)),
            began: Instant::now(),
            gone: Arc::new(Event::after(0)),
            overdue: None,
            sent: Shared::default(),
        }
    }

    pub(super) fn take_sent(&self) -> Vec<group::Driver<u32, u32>> {
        std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) async fn turn(&self) {
        let mut is_over = !self.pauses;
        poll_fn(|cx| {
            if std::mem::replace(&mut is_over, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

impl Carrier<u32, u32> for Road {
    async fn pause(&self) {
        self.turn().await;
    }

    async fn until(&self, then: Option<Instant>) {
        match then {
            Some(then) if then <= Instant::now() => self.time.wait().await,
            _ => pending().await,
        }
    }

    fn overdue(&self) -> Option<Instant> {
        self.overdue
    }

    fn send_another(&self, driver: group::Driver<u32, u32>) {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(driver);
    }

    async fn carry(&self, items: Vec<u32>) -> Vec<u32> {
        let _under_way = self.log.leaves(&items);
        self.turn().await;
        self.gone.wait().await;
        if let Some(gate) = &self.gate {
            gate.happen();
            gate.wait().await;
        }
        self.log.lands(&items);
        let outcomes = items.into_iter().map(echo);
        match self.says {
            None => outcomes.collect(),
            Some(said) => outcomes.chain(std::iter::repeat(0)).take(said).collect(),
        }
    }
}

/// What comes of an item.
pub(super) fn echo(item: u32) -> u32 {
    item + 1000
}

/// What has been under way.
pub(super) struct Log {
    pub(super) bounds: Bounds,
    pub(super) batches: Cell<Vec<(Vec<u32>, bool)>>,
    pub(super) under_way: Crowd,
    pub(super) alone: Crowd,
    /// Whose callers have left, and go on with something else. loom sees it.
    gone: Mutex<Vec<u32>>,
}

impl Log {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            batches: Cell::default(),
            under_way: Crowd::default(),
            alone: Crowd::default(),
            gone: Mutex::default(),
        }
    }

    pub(super) fn carried(&self) -> Vec<(Vec<u32>, bool)> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn leaves(&self, items: &[u32]) -> UnderWay<'_> {
        assert!((1..=self.bounds.callers).contains(&items.len()), "a batch of {}", items.len());
        for item in items {
            assert!(self.batch_of(*item).is_none(), "{item} has left twice");
        }
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).push((items.to_vec(), false));
        self.under_way.enter(self.bounds.most);
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        let late = items.iter().find(|item| gone.contains(item));
        assert_eq!(late, None, "nobody waits for it any more");
        UnderWay(self)
    }

    pub(super) fn leaves_behind(&self, item: u32) {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).push(item);
    }

    pub(super) fn lands(&self, items: &[u32]) {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, has_landed) in batches.iter_mut().filter(|(carried, _)| carried == items) {
            *has_landed = true;
        }
    }

    /// With whom an item was under way, and whether they landed.
    pub(super) fn batch_of(&self, item: u32) -> Option<(Vec<u32>, bool)> {
        self.carried().into_iter().find(|(items, _)| items.contains(&item))
    }

    /// Whether an outcome is what has happened.
    pub(super) fn check(&self, item: u32, outcome: Outcome, is_cut: bool, says: Option<usize>) {
        let batch = self.batch_of(item);
        match outcome {
            Ok(outcome) => {
                assert_eq!(outcome, echo(item));
            }
            Err(Lost::Behind) => {
                assert!(is_cut && batch.is_none(), "{item} was carried: {batch:?}");
            }
            Err(Lost::Stuck) => assert!(batch.is_none(), "{item} was carried: {batch:?}"),
            Err(Lost::OnTheWay) => {
                let (items, has_landed) = batch.expect("an item that was carried");
                let place = items.iter().position(|carried| *carried == item);
                let is_unsaid = says.is_some_and(|said| place >= Some(said));
                assert!(is_cut && !has_landed || has_landed && is_unsaid, "{item} has landed");
            }
        }
    }
}

/// Until it lands or is given up.
pub(super) struct UnderWay<'a>(&'a Log);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.leave();
    }
}

/// How many are somewhere. loom sees it, and looks for the order in which they are most.
#[derive(Default)]
pub(super) struct Crowd(Mutex<usize>);

impl Crowd {
    pub(super) fn enter(&self, most: usize) {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        assert!(*count <= most, "{} at once", *count);
    }

    pub(super) fn leave(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}

/// Something that happens once, after it was said so often.
pub(super) struct Event(Mutex<(usize, Vec<Waker>)>);

impl Event {
    pub(super) fn after(times: usize) -> Self {
        Self(Mutex::new((times, Vec::new())))
    }

    pub(super) fn happen(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = state.0.saturating_sub(1);
        let woken = if state.0 == 0 { std::mem::take(&mut state.1) } else { Vec::new() };
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    pub(super) async fn wait(&self) {
        poll_fn(|cx| {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.0 == 0 {
                return Poll::Ready(());
            }
            state.1.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
