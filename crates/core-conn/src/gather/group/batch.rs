//! Who sits in a batch, and what becomes of what they ask for.

use std::{
    pin::Pin,
    sync::PoisonError,
    task::{Context, Poll, Waker},
};

use slab::Slab;
use tokio::time::Instant;

use super::{
    super::sync::{Arc, Mutex, MutexGuard},
    Bounds, Group, earlier,
};

/// Callers who sit together. They may leave in several parts.
pub(super) struct Batch<I, O> {
    group: Arc<Group<I, O>>,
    seats: Mutex<Seats<I, O>>,
}

/// Wakers, items and outcomes are dropped when the lock is free again: that can run code of a task.
pub(super) struct Seats<I, O> {
    taken: Slab<Seat<I, O>>,
    /// How many have not left yet, while it stands in the queue.
    pub(super) waiting: usize,
    /// What their items weigh, as long as others can join.
    weight: usize,
    /// It is under way, or was, with all of them or the first. Nobody joins any more.
    pub(super) has_left: bool,
    /// No caller's time is over before.
    pub(super) earliest: Option<Instant>,
}

pub(super) struct Seat<I, O> {
    item: Cargo<I, O>,
    weight: usize,
    pub(super) deadline: Option<Instant>,
    /// Until it is woken.
    waker: Option<Waker>,
}

/// Which seat a caller has, and whether its batch is full by that.
pub(super) struct Place {
    pub(super) number: usize,
    pub(super) is_full: bool,
}

/// Where an item is.
enum Cargo<I, O> {
    Waiting(I),
    UnderWay,
    Landed(Landed<O>),
}

/// What came of an item, and when.
#[derive(Debug)]
pub(crate) struct Landed<O> {
    pub(crate) outcome: Result<O, Lost>,
    pub(crate) at: Instant,
}

/// Why nothing can be said about an item.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lost {
    /// Nobody was left to take it along.
    Behind,
    /// It was not taken along, because so much is overdue that it is better off by itself.
    Stuck,
    /// It was under way, and nobody was left to hear of it.
    OnTheWay,
}

/// What leaves together, as long as there is room.
pub(super) struct Load<I> {
    pub(super) items: Vec<I>,
    weight: usize,
    most_items: usize,
    most_weight: usize,
}

/// A caller who waits for what comes of its item. Dropped, it leaves.
pub(crate) struct Waiting<I, O> {
    batch: Arc<Batch<I, O>>,
    /// Until it has its outcome.
    seat: Option<usize>,
    is_watched: bool,
}

impl<I, O> Batch<I, O> {
    pub(super) fn new(group: &Arc<Group<I, O>>, callers: usize) -> Arc<Self> {
        let taken = Slab::with_capacity(callers);
        let seats = Seats { taken, waiting: 0, weight: 0, has_left: false, earliest: None };
        Arc::new(Self { group: Arc::clone(group), seats: Mutex::new(seats) })
    }

    /// Takes the wakers of those whose time is over; returns whose is next.
    pub(super) fn late(&self, now: Instant, woken: &mut Vec<Waker>) -> Option<Instant> {
        let mut seats = self.seats();
        if seats.earliest.is_some_and(|earliest| earliest <= now) {
            let mut next = None;
            for (_, seat) in &mut seats.taken {
                if seat.deadline.is_some_and(|deadline| deadline <= now) {
                    seat.deadline = None;
                    woken.extend(seat.waker.take());
                }
                next = earlier(next, seat.deadline);
            }
            seats.earliest = next;
        }
        seats.earliest
    }

    /// Tells all who have not left why they never will.
    pub(super) fn give_up(&self, why: Lost) {
        let mut seats = self.seats();
        seats.has_left = true;
        let waiting = seats.taken.iter().filter(|(_, seat)| seat.is_waiting());
        let numbers: Vec<_> = waiting.map(|(number, _)| number).collect();
        drop(seats);
        self.tell(numbers.into_iter().map(|number| (number, Err(why))));
    }

    /// Wakes all who wait: whoever watched their time may be gone.
    pub(super) fn unwatch(&self) {
        let mut seats = self.seats();
        let woken: Vec<_> =
            seats.taken.iter_mut().filter_map(|(_, seat)| seat.waker.take()).collect();
        drop(seats);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Gives what is known to those who still wait, and wakes them.
    pub(super) fn tell(&self, outcomes: impl IntoIterator<Item = (usize, Result<O, Lost>)>) {
        let mut seats = self.seats();
        let mut woken = Vec::with_capacity(seats.taken.len());
        let (mut left_behind, mut too_late) = (Vec::new(), Vec::new());
        let at = Instant::now();
        for (number, outcome) in outcomes {
            let Some(seat) = seats.taken.get_mut(number) else {
                too_late.push(outcome);
                continue;
            };
            let landed = Cargo::Landed(Landed { outcome, at });
            let before = std::mem::replace(&mut seat.item, landed);
            if let Cargo::Waiting(item) = before {
                left_behind.push(item);
            }
            woken.extend(seat.waker.take());
        }
        drop(seats);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Whether all have left before it did.
    pub(super) fn is_deserted(&self) -> bool {
        self.seats().is_deserted()
    }

    pub(super) fn seats(&self) -> MutexGuard<'_, Seats<I, O>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I, O> Seat<I, O> {
    pub(super) fn new(item: I, weight: usize, deadline: Option<Instant>, waker: Waker) -> Self {
        Self { item: Cargo::Waiting(item), weight, deadline, waker: Some(waker) }
    }

    /// Whether it has left, and nobody knows yet what comes of it.
    fn is_under_way(&self) -> bool {
        matches!(self.item, Cargo::UnderWay)
    }

    /// Whether it has not left yet.
    fn is_waiting(&self) -> bool {
        matches!(self.item, Cargo::Waiting(_))
    }
}

impl<I, O> Seats<I, O> {
    /// Takes a seat, or gives it back where there is no room.
    pub(super) fn sit(&mut self, seat: Seat<I, O>, bounds: &Bounds) -> Result<Place, Seat<I, O>> {
        let fits = self.taken.len() < bounds.callers && self.weight + seat.weight <= bounds.weight;
        let has_room = !self.has_left && (fits || self.taken.is_empty());
        if has_room { Ok(self.take(seat, bounds)) } else { Err(seat) }
    }

    pub(super) fn take(&mut self, seat: Seat<I, O>, bounds: &Bounds) -> Place {
        self.weight += seat.weight;
        self.waiting += 1;
        self.earliest = earlier(self.earliest, seat.deadline);
        let number = self.taken.insert(seat);
        let is_full = self.taken.len() >= bounds.callers || self.weight >= bounds.weight;
        Place { number, is_full }
    }

    /// Loads what has room, and returns the seats that it is from.
    pub(super) fn board(&mut self, load: &mut Load<I>) -> Vec<usize> {
        let count = self.waiting.min(load.most_items - load.items.len());
        let mut numbers = Vec::with_capacity(count);
        load.items.reserve(count);
        for (number, seat) in self.taken.iter_mut().filter(|(_, seat)| seat.is_waiting()) {
            if !load.has_room(seat.weight) {
                break;
            }
            if let Cargo::Waiting(item) = std::mem::replace(&mut seat.item, Cargo::UnderWay) {
                numbers.push(number);
                load.items.push(item);
                load.weight += seat.weight;
            }
        }
        self.waiting -= numbers.len();
        self.has_left |= !numbers.is_empty();
        numbers
    }

    fn is_deserted(&self) -> bool {
        !self.has_left && self.taken.is_empty()
    }
}

impl<I> Load<I> {
    /// Of at most so many items.
    pub(super) fn new(most_items: usize, bounds: &Bounds) -> Self {
        Self { items: Vec::new(), weight: 0, most_items, most_weight: bounds.weight }
    }

    pub(super) fn is_full(&self) -> bool {
        self.items.len() >= self.most_items
    }

    fn has_room(&self, weight: usize) -> bool {
        let fits = self.items.is_empty() || self.weight + weight <= self.most_weight;
        fits && !self.is_full()
    }
}

impl<I, O> Waiting<I, O> {
    pub(super) fn new(batch: Arc<Batch<I, O>>, seat: usize, is_watched: bool) -> Self {
        Self { batch, seat: Some(seat), is_watched }
    }

    /// Whether it is woken when its time is over. It is so once, and as long as nobody else polls it.
    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched
    }
}

impl<I, O> Future for Waiting<I, O> {
    type Output = Landed<O>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Landed<O>> {
        let Some(number) = self.seat else { return Poll::Pending };
        let mut seats = self.batch.seats();
        let Some(seat) = seats.taken.get_mut(number) else { return Poll::Pending };
        if !matches!(seat.item, Cargo::Landed(_)) {
            let known = seat.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            let before = if known { None } else { seat.waker.replace(cx.waker().clone()) };
            drop(seats);
            drop(before);
            return Poll::Pending;
        }
        let Seat { item, waker, .. } = seats.taken.remove(number);
        drop(seats);
        drop(waker);
        self.seat = None;
        match item {
            Cargo::Landed(landed) => Poll::Ready(landed),
            Cargo::Waiting(_) | Cargo::UnderWay => Poll::Pending,
        }
    }
}

impl<I, O> Drop for Waiting<I, O> {
    fn drop(&mut self) {
        let Some(number) = self.seat else { return };
        let mut seats = self.batch.seats();
        let left = seats.taken.try_remove(number);
        if let Some(seat) = left.as_ref().filter(|seat| seat.is_waiting()) {
            seats.weight -= seat.weight;
            seats.waiting -= 1;
        }
        let is_deserted = seats.is_deserted();
        drop(seats);
        if left.as_ref().is_some_and(Seat::is_under_way) {
            // It may be about to be handed over. Nothing is sent for it after this.
            drop(self.batch.group.departing());
        }
        drop(left);
        if is_deserted {
            self.batch.group.tidy();
        }
    }
}
