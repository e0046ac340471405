//! Callers who ask for the same kind of thing at the same time, and are served together.
//!
//! Nothing here sends, or knows what is asked for: it is who sits where, who is taken along, and who is woken.
//! `tests/interleavings/` runs it in every order that threads can have.
//!
//! Who waits sits in a [batch](batch), and the batches stand in a queue. While anybody waits, there is a
//! [driver](driver), which is a task and serves whoever waits. So a caller who is given up, or whom nobody polls for a
//! while, holds up no other.

mod batch;
mod driver;

use std::{collections::VecDeque, sync::PoisonError, task::Waker};

use tokio::time::Instant;

use super::sync::{Arc, Mutex, MutexGuard};
use batch::{Batch, Place, Seat};
pub(crate) use batch::{Landed, Lost, Waiting};
pub(crate) use driver::{Carrier, Driver, drive};

/// Callers who can be served together.
pub(crate) struct Group<I, O> {
    state: Mutex<State<I, O>>,
    /// Locked while a driver takes a batch along and hands it over.
    departing: Mutex<()>,
}

struct State<I, O> {
    /// Callers who ask by themselves.
    alone: usize,
    /// Drivers that will take a batch next.
    collecting: usize,
    /// Drivers with a batch under way.
    flying: usize,
    /// Drivers whose batch is under way for so long that others do not wait for it any more.
    overdue: usize,
    /// When a driver with a batch under way looks at last whose time is over, among those who wait as well.
    look: Option<Instant>,
    /// Who waits. Others can join the last one.
    queue: VecDeque<Arc<Batch<I, O>>>,
    /// Nobody's time in the queue is over before.
    earliest: Option<Instant>,
    /// How many callers the batches carry that are under way and not overdue.
    under_way: usize,
    /// How many callers the last batch carried: the next one has room for as many.
    usual: usize,
    /// Those of the caller who joined last.
    bounds: Bounds,
}

/// How much is gathered, and how much of it is under way at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    /// How many callers a batch takes.
    pub(crate) callers: usize,
    /// Up to how many callers leave in one batch, where two could be under way.
    pub(crate) few: usize,
    /// What the items of a batch weigh together, unless it is only one.
    pub(crate) weight: usize,
    /// How many callers ask by themselves, while nobody waits.
    pub(crate) alone: usize,
    /// How many batches are under way however few callers they carry.
    pub(crate) eager: usize,
    /// How many batches are under way when they are full.
    pub(crate) most: usize,
    /// How many batches may be overdue; then callers ask by themselves.
    pub(crate) overdue: usize,
}

/// What a caller does.
pub(crate) enum Joined<I, O> {
    /// It asks by itself, since hardly anybody else is asking.
    Alone(Alone<I, O>),
    /// It waits. Whoever is given a driver has to [`drive`] it.
    Waits(Waiting<I, O>, Option<Driver<I, O>>),
}

/// A caller who asks by itself, until this is dropped.
pub(crate) struct Alone<I, O>(Arc<Group<I, O>>);

impl<I, O> Group<I, O> {
    pub(crate) fn new() -> Arc<Self> {
        let state = State {
            alone: 0,
            collecting: 0,
            flying: 0,
            overdue: 0,
            look: None,
            queue: VecDeque::new(),
            earliest: None,
            under_way: 0,
            usual: 0,
            bounds: Bounds::default(),
        };
        Arc::new(Self { state: Mutex::new(state), departing: Mutex::new(()) })
    }

    /// Lets a caller ask by itself, or gives a seat to it, with an item that weighs so much, and a deadline. It is woken
    /// when it is known what came of that, and, where it [is watched](Waiting::is_watched), when its time is over.
    pub(crate) fn join(
        this: &Arc<Self>,
        item: impl FnOnce() -> (I, Option<Instant>),
        weight: usize,
        waker: &Waker,
        bounds: &Bounds,
    ) -> Joined<I, O> {
        let mut state = this.state();
        let is_stuck = state.overdue >= bounds.overdue;
        if state.drivers() == 0 && (state.alone < bounds.alone || is_stuck) {
            state.alone += 1;
            return Joined::Alone(Alone(Arc::clone(this)));
        }
        state.bounds = *bounds;
        let (item, deadline) = item();
        let (batch, Place { number, is_full }) =
            state.seat(this, Seat::new(item, weight, deadline, waker.clone()));
        let driver = state.wants_driver(is_full).then(|| Driver::new(this, &mut state));
        let is_watched = deadline.is_some_and(|deadline| state.watches(deadline));
        Joined::Waits(Waiting::new(batch, number, is_watched), driver)
    }

    /// Whether nobody asks for anything.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state();
        let is_driven = state.drivers() + state.overdue > 0;
        debug_assert!(is_driven || state.under_way == 0, "nobody has landed what was under way");
        state.alone == 0 && !is_driven
    }

    /// Forgets the batches at the front of the queue whose callers have all left. Those behind others are left to a
    /// driver.
    fn tidy(&self) {
        let mut state = self.state();
        while state.queue.front().is_some_and(|first| first.is_deserted()) {
            state.queue.pop_front();
        }
    }

    fn departing(&self) -> MutexGuard<'_, ()> {
        self.departing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State<I, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I, O> State<I, O> {
    /// Drivers that will serve whoever waits soon.
    fn drivers(&self) -> usize {
        self.collecting + self.flying
    }

    /// Gives a seat in a batch with room for it, which may be a new one.
    fn seat(
        &mut self,
        group: &Arc<Group<I, O>>,
        mut seat: Seat<I, O>,
    ) -> (Arc<Batch<I, O>>, Place) {
        self.earliest = earlier(self.earliest, seat.deadline);
        if let Some(last) = self.queue.back() {
            match last.seats().sit(seat, &self.bounds) {
                Ok(place) => return (Arc::clone(last), place),
                Err(standing) => seat = standing,
            }
        }
        let batch = Batch::new(group, self.usual);
        let place = batch.seats().take(seat, &self.bounds);
        self.queue.push_back(Arc::clone(&batch));
        (batch, place)
    }

    /// Whether another driver is to serve who waits, now that somebody has joined the last batch.
    fn wants_driver(&self, is_full: bool) -> bool {
        let drivers = self.drivers();
        if drivers < self.bounds.eager && self.collecting == 0 {
            return true;
        }
        // All but the last are full, and the first, where some of it have left.
        let full = || {
            let rest = self.queue.front().is_some_and(|first| first.seats().has_left);
            self.queue.len() - usize::from(!is_full) - usize::from(rest)
        };
        drivers < self.bounds.most && self.collecting < full()
    }

    /// Whether somebody waits for whom no driver comes soon, though another batch could be under way.
    fn wants_another(&self) -> bool {
        self.collecting == 0 && self.drivers() < self.bounds.eager && !self.queue.is_empty()
    }

    /// How many callers the next batch carries: where two are to be under way, about half of all who are there, so that
    /// neither they nor the server wait for the other.
    fn share(&self) -> usize {
        let Bounds { callers, few, eager, .. } = self.bounds;
        if eager < 2 {
            return callers;
        }
        let mut there = self.under_way;
        for batch in &self.queue {
            if there >= 2 * callers {
                // More than that is not taken along, and the queue may be long.
                break;
            }
            there += batch.seats().waiting;
        }
        there.div_ceil(2).max(few).min(callers)
    }

    /// Whether a driver looks at those who wait by then: one does whenever it takes a batch along.
    fn watches(&self, deadline: Instant) -> bool {
        self.collecting > 0 || self.look.is_some_and(|look| look <= deadline)
    }
}

impl<I, O> Drop for Alone<I, O> {
    fn drop(&mut self) {
        self.0.state().alone -= 1;
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
