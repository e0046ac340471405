//! Callers who ask for the same kind of thing at the same time, and are served together.
//!
//! Nothing here sends, or knows what is asked for: it is who sits where, who is taken along, and who is woken.
//! `tests/interleavings.rs` runs it in every order that threads can have.
//!
//! While anybody waits, there is a driver, which is a task and serves whoever waits. So a caller who is given up, or whom
//! nobody polls for a while, holds up no other.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::{Pin, pin},
    sync::PoisonError,
    task::{Context, Poll, Waker},
};

use slab::Slab;
use tokio::time::Instant;

use super::sync::{Arc, Mutex, MutexGuard};

/// Below how many waiting callers a driver lets other tasks run first: those that it has just woken come back.
const FEW: usize = 32;

/// Callers who can be served together.
pub(crate) struct Group<I, O> {
    state: Mutex<State<I, O>>,
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
    /// How many callers the batches carry that are under way and not overdue.
    under_way: usize,
    /// How many callers the last batch carried: the next one has room for as many.
    usual: usize,
}

/// How much is gathered, and how much of it is under way at once.
#[derive(Clone, Copy, Debug)]
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

/// A caller who waits for what comes of its item. Dropped, it leaves.
pub(crate) struct Waiting<I, O> {
    batch: Arc<Batch<I, O>>,
    /// Until it has its outcome.
    seat: Option<usize>,
    is_watched: bool,
}

/// What came of an item, and when.
#[derive(Debug)]
pub(crate) struct Landed<O> {
    pub(crate) outcome: Result<O, Lost>,
    pub(crate) at: Instant,
}

struct Batch<I, O> {
    group: Arc<Group<I, O>>,
    seats: Mutex<Seats<I, O>>,
}

/// Wakers and items are dropped when the lock is free again: that can run code of a task.
struct Seats<I, O> {
    taken: Slab<Seat<I, O>>,
    /// How many have not left yet.
    waiting: usize,
    weight: usize,
    /// It is under way, or was, with all of them or the first.
    has_left: bool,
    /// No caller's time is over before.
    earliest: Option<Instant>,
}

struct Seat<I, O> {
    item: Cargo<I, O>,
    weight: usize,
    deadline: Option<Instant>,
    /// Until it is woken.
    waker: Option<Waker>,
}

/// Which seat a caller has, and whether its batch is full by that.
struct Place {
    number: usize,
    is_full: bool,
}

/// Where an item is.
enum Cargo<I, O> {
    Waiting(I),
    UnderWay,
    Landed(Landed<O>),
}

/// Why nothing can be said about an item.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lost {
    /// Nobody was left to take it along.
    Behind,
    /// It was under way, and nobody was left to hear of it.
    OnTheWay,
}

/// Serves callers, batch after batch, until nobody waits. When the last one is dropped before, those who wait are told
/// that nobody serves them.
pub(crate) struct Driver<I, O> {
    group: Arc<Group<I, O>>,
    doing: Doing,
    /// How many callers its last batch took along.
    carried: usize,
    /// Those by which it was made.
    bounds: Bounds,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Doing {
    Collecting,
    Flying,
    Overdue,
    Nothing,
}

/// What a driver takes along.
struct Departure<I, O> {
    /// One for each batch that somebody is from.
    flights: Vec<Flight<I, O>>,
    items: Vec<I>,
    /// For those who wait still, where they are to be under way too.
    another: Option<Driver<I, O>>,
}

/// A batch that is under way. Dropped before it lands, its callers are told that nobody knows.
struct Flight<I, O> {
    batch: Arc<Batch<I, O>>,
    seats: Vec<usize>,
}

/// What a driver needs of the world.
pub(crate) trait Carrier<I, O> {
    /// Lets other tasks run.
    fn pause(&self) -> impl Future<Output = ()> + Send;

    /// Serves the items, and says what came of each, in their order.
    fn carry(&self, items: Vec<I>) -> impl Future<Output = Vec<O>> + Send;

    /// Waits until then; for ever, when that is nothing.
    fn until(&self, then: Option<Instant>) -> impl Future<Output = ()> + Send;

    /// When a batch that leaves now is overdue: its server or its link may be stuck, and another one may not be.
    fn overdue(&self) -> Option<Instant>;

    /// Has another driver [driven](drive) beside this one.
    fn send_another(&self, driver: Driver<I, O>);
}

/// Serves whoever waits, until nobody does.
pub(crate) async fn drive<I, O>(mut driver: Driver<I, O>, carrier: impl Carrier<I, O>) {
    loop {
        if driver.sees_few() {
            carrier.pause().await;
        }
        let Some(Departure { flights, items, another }) = driver.take() else { return };
        if let Some(another) = another {
            carrier.send_another(another);
        }
        let mut overdue = carrier.overdue();
        let mut carrying = pin!(carrier.carry(items));
        let outcomes = loop {
            let then = earlier(driver.look(&flights), overdue);
            let mut looking = pin!(carrier.until(then));
            let outcomes = poll_fn(|cx| match carrying.as_mut().poll(cx) {
                Poll::Ready(outcomes) => Poll::Ready(Some(outcomes)),
                Poll::Pending => looking.as_mut().poll(cx).map(|()| None),
            });
            if let Some(outcomes) = outcomes.await {
                break outcomes;
            }
            let now = Instant::now();
            driver.wake_late(&flights, now);
            if overdue.is_some_and(|then| then <= now) {
                overdue = None;
                if let Some(another) = driver.is_overdue() {
                    carrier.send_another(another);
                }
            }
        };
        // Counted first, so that callers who come back find that somebody will take them along.
        driver.collect();
        let mut outcomes = outcomes.into_iter();
        flights.into_iter().for_each(|flight| flight.land(&mut outcomes));
    }
}

impl<I, O> Group<I, O> {
    pub(crate) fn new() -> Arc<Self> {
        let state = State {
            alone: 0,
            collecting: 0,
            flying: 0,
            overdue: 0,
            look: None,
            queue: VecDeque::new(),
            under_way: 0,
            usual: 0,
        };
        Arc::new(Self { state: Mutex::new(state) })
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
        let (item, deadline) = item();
        let item = Cargo::Waiting(item);
        let seat = Seat { item, weight, deadline, waker: Some(waker.clone()) };
        let (batch, Place { number, is_full }) = state.seat(this, seat, bounds);
        let driver =
            state.wants_driver(is_full, bounds).then(|| Driver::new(this, &mut state, *bounds));
        let is_watched = deadline.is_some_and(|deadline| state.watches(deadline));
        Joined::Waits(Waiting { batch, seat: Some(number), is_watched }, driver)
    }

    /// Whether nobody asks for anything.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state();
        let is_driven = state.drivers() + state.overdue > 0;
        debug_assert!(is_driven || state.under_way == 0, "nobody has landed what was under way");
        state.alone == 0 && !is_driven
    }

    /// Forgets a batch whose callers have all left before it did.
    fn forget(&self, batch: &Arc<Batch<I, O>>) {
        let mut state = self.state();
        // Since then, somebody may have joined it.
        if batch.seats().is_open_and_empty() {
            state.queue.retain(|queued| !Arc::ptr_eq(queued, batch));
        }
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
        bounds: &Bounds,
    ) -> (Arc<Batch<I, O>>, Place) {
        if let Some(last) = self.queue.back() {
            match last.seats().sit(seat, bounds) {
                Ok(place) => return (Arc::clone(last), place),
                Err(standing) => seat = standing,
            }
        }
        let batch = Batch::new(group, self.usual);
        let place = batch.seats().take(seat, bounds);
        self.queue.push_back(Arc::clone(&batch));
        (batch, place)
    }

    /// Whether another driver is to serve who waits, now that somebody has joined the last batch.
    fn wants_driver(&self, is_full: bool, bounds: &Bounds) -> bool {
        let drivers = self.drivers();
        if drivers < bounds.eager && self.collecting == 0 {
            return true;
        }
        // All but the last are full, and the first, where some of it have left.
        let full = || {
            let rest = self.queue.front().is_some_and(|first| first.seats().has_left);
            self.queue.len() - usize::from(!is_full) - usize::from(rest)
        };
        drivers < bounds.most && self.collecting < full()
    }

    /// How many callers the next batch carries: where two are to be under way, about half of all who are there, so that
    /// neither they nor the server wait for the other.
    fn share(&self, bounds: &Bounds) -> usize {
        if bounds.eager < 2 {
            return bounds.callers;
        }
        let mut there = self.under_way;
        for batch in &self.queue {
            if there >= 2 * bounds.callers {
                // More than that is not taken along, and the queue may be long.
                break;
            }
            there += batch.seats().waiting;
        }
        there.div_ceil(2).max(bounds.few).min(bounds.callers)
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

impl<I, O> Batch<I, O> {
    fn new(group: &Arc<Group<I, O>>, callers: usize) -> Arc<Self> {
        let taken = Slab::with_capacity(callers);
        let seats = Seats { taken, waiting: 0, weight: 0, has_left: false, earliest: None };
        Arc::new(Self { group: Arc::clone(group), seats: Mutex::new(seats) })
    }

    /// Takes the wakers of those whose time is over, and finds out whose is next.
    fn late(&self, now: Instant, woken: &mut Vec<Waker>) {
        let mut seats = self.seats();
        if seats.earliest.is_none_or(|earliest| now < earliest) {
            return;
        }
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

    /// Tells all who have not left that nobody is left to take them along.
    fn desert(&self) {
        let mut seats = self.seats();
        seats.has_left = true;
        let waiting = seats.taken.iter().filter(|(_, seat)| seat.is_waiting());
        let numbers: Vec<_> = waiting.map(|(number, _)| number).collect();
        drop(seats);
        self.tell(numbers.into_iter().map(|number| (number, Err(Lost::Behind))));
    }

    /// Wakes all who wait: whoever watched their time may be gone.
    fn unwatch(&self) {
        let mut seats = self.seats();
        let woken: Vec<_> =
            seats.taken.iter_mut().filter_map(|(_, seat)| seat.waker.take()).collect();
        drop(seats);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Gives what is known to those who still wait, and wakes them.
    fn tell(&self, outcomes: impl IntoIterator<Item = (usize, Result<O, Lost>)>) {
        let mut seats = self.seats();
        let mut woken = Vec::with_capacity(seats.taken.len());
        let mut left_behind = Vec::new();
        let at = Instant::now();
        for (number, outcome) in outcomes {
            if let Some(seat) = seats.taken.get_mut(number) {
                let landed = Cargo::Landed(Landed { outcome, at });
                let before = std::mem::replace(&mut seat.item, landed);
                if let Cargo::Waiting(item) = before {
                    left_behind.push(item);
                }
                woken.extend(seat.waker.take());
            }
        }
        seats.waiting -= left_behind.len();
        drop(seats);
        woken.into_iter().for_each(Waker::wake);
    }

    fn seats(&self) -> MutexGuard<'_, Seats<I, O>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I, O> Seat<I, O> {
    /// Whether it has not left yet.
    fn is_waiting(&self) -> bool {
        matches!(self.item, Cargo::Waiting(_))
    }
}

impl<I, O> Seats<I, O> {
    /// Takes a seat, or gives it back where there is no room.
    fn sit(&mut self, seat: Seat<I, O>, bounds: &Bounds) -> Result<Place, Seat<I, O>> {
        let fits = self.taken.len() < bounds.callers && self.weight + seat.weight <= bounds.weight;
        let has_room = !self.has_left && (fits || self.taken.is_empty());
        if has_room { Ok(self.take(seat, bounds)) } else { Err(seat) }
    }

    fn take(&mut self, seat: Seat<I, O>, bounds: &Bounds) -> Place {
        self.weight += seat.weight;
        self.waiting += 1;
        self.earliest = earlier(self.earliest, seat.deadline);
        let number = self.taken.insert(seat);
        let is_full = self.taken.len() >= bounds.callers || self.weight >= bounds.weight;
        Place { number, is_full }
    }

    /// Adds at most so many items to those who leave, and returns the seats that they are from.
    fn board(&mut self, most: usize, items: &mut Vec<I>) -> Vec<usize> {
        self.has_left = true;
        let count = self.waiting.min(most);
        let mut numbers = Vec::with_capacity(count);
        items.reserve(count);
        let waiting = self.taken.iter_mut().filter(|(_, seat)| seat.is_waiting());
        for (number, seat) in waiting.take(count) {
            if let Cargo::Waiting(item) = std::mem::replace(&mut seat.item, Cargo::UnderWay) {
                numbers.push(number);
                items.push(item);
            }
        }
        self.waiting -= numbers.len();
        numbers
    }

    fn is_open_and_empty(&self) -> bool {
        !self.has_left && self.taken.is_empty()
    }
}

impl<I, O> Waiting<I, O> {
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
        if let Some(seat) = &left {
            seats.weight -= seat.weight;
            seats.waiting -= usize::from(seat.is_waiting());
        }
        let is_empty = seats.is_open_and_empty();
        drop(seats);
        drop(left);
        if is_empty {
            self.batch.group.forget(&self.batch);
        }
    }
}

impl<I, O> Driver<I, O> {
    /// A driver that collects, and is counted as such.
    fn new(group: &Arc<Group<I, O>>, state: &mut State<I, O>, bounds: Bounds) -> Self {
        state.collecting += 1;
        Self { group: Arc::clone(group), doing: Doing::Collecting, carried: 0, bounds }
    }

    /// Another one for those who wait still, where they are to be under way too.
    fn another(&self, state: &mut State<I, O>) -> Option<Self> {
        let is_wanted = state.collecting == 0 && state.drivers() < self.bounds.eager;
        (is_wanted && !state.queue.is_empty()).then(|| Self::new(&self.group, state, self.bounds))
    }

    /// Whether so few wait that others may join them soon.
    fn sees_few(&self) -> bool {
        let state = self.group.state();
        let waiting = || state.queue.iter().map(|batch| batch.seats().waiting).sum::<usize>();
        // All but the first and the last are full.
        state.queue.len() < 3 && waiting() < FEW
    }

    /// Takes the batch that waits longest; nothing, and the end of this driver, when nobody waits.
    fn take(&mut self) -> Option<Departure<I, O>> {
        let mut state = self.group.state();
        state.collecting -= 1;
        let most = state.share(&self.bounds);
        let (mut flights, mut items, mut weight) = (Vec::new(), Vec::new(), 0);
        while items.len() < most
            && let Some(batch) = state.queue.pop_front()
        {
            let mut seats = batch.seats();
            let fits = items.is_empty() || weight + seats.weight <= self.bounds.weight;
            if fits {
                weight += seats.weight;
                let numbers = seats.board(most - items.len(), &mut items);
                flights.push(Flight { batch: Arc::clone(&batch), seats: numbers });
            }
            let is_left = seats.waiting > 0;
            drop(seats);
            if is_left {
                state.queue.push_front(batch);
                break;
            }
        }
        if !items.is_empty() {
            state.usual = items.len();
            state.flying += 1;
            state.under_way += items.len();
            self.doing = Doing::Flying;
            self.carried = items.len();
            let another = self.another(&mut state);
            return Some(Departure { flights, items, another });
        }
        self.doing = Doing::Nothing;
        None
    }

    /// When to look whose time is over, among those under way and those who wait.
    fn look(&self, flights: &[Flight<I, O>]) -> Option<Instant> {
        let mut state = self.group.state();
        let batches = state.queue.iter().chain(flights.iter().map(|flight| &flight.batch));
        state.look = batches.map(|batch| batch.seats().earliest).reduce(earlier).flatten();
        state.look
    }

    /// Wakes those whose time is over.
    fn wake_late(&self, flights: &[Flight<I, O>], now: Instant) {
        let mut woken = Vec::new();
        let state = self.group.state();
        for batch in state.queue.iter().chain(flights.iter().map(|flight| &flight.batch)) {
            batch.late(now, &mut woken);
        }
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Nobody waits for this driver any more. Returns another one, where there is none for those who wait.
    fn is_overdue(&mut self) -> Option<Self> {
        let mut state = self.group.state();
        state.flying -= 1;
        state.under_way -= self.carried;
        state.overdue += 1;
        self.doing = Doing::Overdue;
        let is_wanted = state.drivers() == 0 && !state.queue.is_empty();
        is_wanted.then(|| Self::new(&self.group, &mut state, self.bounds))
    }

    /// Goes on, after a batch.
    fn collect(&mut self) {
        let mut state = self.group.state();
        state.look = None;
        if self.doing == Doing::Overdue {
            state.overdue -= 1;
        } else {
            state.flying -= 1;
            state.under_way -= self.carried;
        }
        state.collecting += 1;
        self.doing = Doing::Collecting;
    }
}

impl<I, O> Drop for Driver<I, O> {
    fn drop(&mut self) {
        let mut state = self.group.state();
        match self.doing {
            Doing::Nothing => return,
            Doing::Collecting => state.collecting -= 1,
            Doing::Flying => {
                state.flying -= 1;
                state.under_way -= self.carried;
            }
            Doing::Overdue => state.overdue -= 1,
        }
        state.look = None;
        // It was given up, with the runtime it ran on.
        let is_last = state.drivers() + state.overdue == 0;
        let deserted = if is_last { std::mem::take(&mut state.queue) } else { state.queue.clone() };
        drop(state);
        for batch in deserted {
            if is_last {
                batch.desert();
            } else {
                batch.unwatch();
            }
        }
    }
}

impl<I, O> Flight<I, O> {
    /// Gives each caller what came of its item, which is next among the outcomes.
    fn land(mut self, outcomes: &mut impl Iterator<Item = O>) {
        let seats = std::mem::take(&mut self.seats);
        // Whoever is left without an outcome is told so.
        let outcomes = outcomes.map(Ok);
        let outcomes = outcomes.chain(std::iter::repeat_with(|| Err(Lost::OnTheWay)));
        self.batch.tell(seats.into_iter().zip(outcomes));
    }
}

impl<I, O> Drop for Flight<I, O> {
    fn drop(&mut self) {
        let lost = self.seats.drain(..).map(|number| (number, Err(Lost::OnTheWay)));
        self.batch.tell(lost);
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
