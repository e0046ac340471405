//! Who takes those who wait along, batch after batch.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use super::{
    super::sync::Arc,
    Group, State,
    batch::{Batch, Load, Lost},
    earlier,
};

/// Below how many waiting callers a driver lets other tasks run first: those that it has just woken come back.
const FEW: usize = 32;

/// Serves callers, batch after batch, until nobody waits. When the last one is dropped before, those who wait are told
/// that nobody serves them.
pub(crate) struct Driver<I, O> {
    group: Arc<Group<I, O>>,
    doing: Doing,
    /// How many callers its last batch took along.
    carried: usize,
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

/// What has left.
struct Departed<'c, I, O> {
    flights: Vec<Flight<I, O>>,
    another: Option<Driver<I, O>>,
    carrying: Pin<Box<dyn Future<Output = Vec<O>> + Send + 'c>>,
    /// Where that is known at once.
    landed: Option<Vec<O>>,
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

    /// Serves the items, and says what came of each, in their order. They are handed over by its first poll.
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
        let departed = poll_fn(|cx| Poll::Ready(driver.depart(&carrier, cx))).await;
        let Some(Departed { flights, another, mut carrying, mut landed }) = departed else {
            return;
        };
        if let Some(another) = another {
            carrier.send_another(another);
        }
        let mut overdue = carrier.overdue();
        // It was polled when it left.
        let mut is_polled = true;
        let outcomes = loop {
            if let Some(outcomes) = landed {
                break outcomes;
            }
            let then = earlier(driver.look(&flights), overdue);
            let mut looking = pin!(carrier.until(then));
            let outcomes = poll_fn(|cx| {
                if !std::mem::take(&mut is_polled)
                    && let Poll::Ready(outcomes) = carrying.as_mut().poll(cx)
                {
                    return Poll::Ready(Some(outcomes));
                }
                looking.as_mut().poll(cx).map(|()| None)
            });
            landed = outcomes.await;
            if landed.is_some() {
                continue;
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
        let goes_on = driver.collect();
        let mut outcomes = outcomes.into_iter();
        flights.into_iter().for_each(|flight| flight.land(&mut outcomes));
        if !goes_on {
            return;
        }
    }
}

impl<I, O> Driver<I, O> {
    /// A driver that collects, and is counted as such.
    pub(super) fn new(group: &Arc<Group<I, O>>, state: &mut State<I, O>) -> Self {
        state.collecting += 1;
        Self { group: Arc::clone(group), doing: Doing::Collecting, carried: 0 }
    }

    /// Whether so few wait that others may join them soon.
    fn sees_few(&self) -> bool {
        let state = self.group.state();
        let waiting = || state.queue.iter().map(|batch| batch.seats().waiting).sum::<usize>();
        // All but the first and the last are full.
        state.queue.len() < 3 && waiting() < FEW
    }

    /// Takes along those who wait longest, and sends them off; nothing, when nobody waits.
    fn depart<'c>(
        &mut self,
        carrier: &'c impl Carrier<I, O>,
        cx: &mut Context<'_>,
    ) -> Option<Departed<'c, I, O>>
    where
        I: 'c,
        O: 'c,
    {
        let group = Arc::clone(&self.group);
        // Whoever leaves meanwhile waits for that: what it does next is to come after what it asked for.
        let _departing = group.departing();
        let Departure { flights, items, another } = self.take()?;
        let mut carrying: Pin<Box<dyn Future<Output = Vec<O>> + Send>> =
            Box::pin(carrier.carry(items));
        let landed = match carrying.as_mut().poll(cx) {
            Poll::Ready(outcomes) => Some(outcomes),
            Poll::Pending => None,
        };
        Some(Departed { flights, another, carrying, landed })
    }

    /// Takes along those who wait longest; nothing, and the end of this driver, when nobody waits.
    fn take(&mut self) -> Option<Departure<I, O>> {
        let mut state = self.group.state();
        state.collecting -= 1;
        let mut load = Load::new(state.share(), &state.bounds);
        let mut flights = Vec::new();
        while !load.is_full()
            && let Some(batch) = state.queue.pop_front()
        {
            let mut seats = batch.seats();
            let boarded = seats.board(&mut load);
            let is_left = seats.waiting > 0;
            drop(seats);
            if is_left {
                state.queue.push_front(Arc::clone(&batch));
            }
            if !boarded.is_empty() {
                flights.push(Flight { batch, seats: boarded });
            }
            if is_left {
                break;
            }
        }
        let items = load.items;
        if items.is_empty() {
            self.doing = Doing::Nothing;
            return None;
        }
        state.usual = items.len();
        state.flying += 1;
        state.under_way += items.len();
        self.doing = Doing::Flying;
        self.carried = items.len();
        let another = state.wants_another().then(|| Self::new(&self.group, &mut state));
        Some(Departure { flights, items, another })
    }

    /// When to look whose time is over, among those under way and those who wait.
    fn look(&self, flights: &[Flight<I, O>]) -> Option<Instant> {
        let mut state = self.group.state();
        let under_way = flights.iter().map(|flight| flight.batch.seats().earliest);
        state.look = under_way.fold(state.earliest, earlier);
        state.look
    }

    /// Wakes those whose time is over.
    fn wake_late(&self, flights: &[Flight<I, O>], now: Instant) {
        let mut woken = Vec::new();
        let mut state = self.group.state();
        // Exact again: whoever had the least time may have left meanwhile.
        let waiting = state.queue.iter().map(|batch| batch.late(now, &mut woken));
        let earliest = waiting.fold(None, earlier);
        state.earliest = earliest;
        for flight in flights {
            flight.batch.late(now, &mut woken);
        }
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Nobody waits for this driver any more. Returns another one, where there is none for those who wait; when too much is
    /// overdue, they are told to ask by themselves.
    fn is_overdue(&mut self) -> Option<Self> {
        let mut state = self.group.state();
        state.flying -= 1;
        state.under_way -= self.carried;
        state.overdue += 1;
        self.doing = Doing::Overdue;
        if state.drivers() > 0 || state.queue.is_empty() {
            return None;
        }
        if state.overdue < state.bounds.overdue {
            return Some(Self::new(&self.group, &mut state));
        }
        let stuck = std::mem::take(&mut state.queue);
        drop(state);
        stuck.iter().for_each(|batch| batch.give_up(Lost::Stuck));
        None
    }

    /// Goes on, after a batch; or ends, when others have taken its place while it was overdue. Returns whether it goes on.
    fn collect(&mut self) -> bool {
        let mut state = self.group.state();
        state.look = None;
        if self.doing == Doing::Overdue {
            state.overdue -= 1;
            if state.drivers() > 0 && state.drivers() >= state.bounds.most {
                self.doing = Doing::Nothing;
                let unwatched = state.queue.clone();
                drop(state);
                unwatched.iter().for_each(|batch| batch.unwatch());
                return false;
            }
        } else {
            state.flying -= 1;
            state.under_way -= self.carried;
        }
        state.collecting += 1;
        self.doing = Doing::Collecting;
        true
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
        // It was given up, with the runtime it ran on. One that is overdue is waited for by nobody.
        let is_last = state.drivers() == 0;
        let deserted = if is_last { std::mem::take(&mut state.queue) } else { state.queue.clone() };
        drop(state);
        for batch in deserted {
            if is_last {
                batch.give_up(Lost::Behind);
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
