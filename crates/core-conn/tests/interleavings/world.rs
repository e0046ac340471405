//! Callers who live on threads of their own, in every order that these can have.

use std::{
    pin::Pin,
    sync::{
        Arc as Shared, Mutex as Cell,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

use loom::{
    model::Builder,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};
use tokio::time::Instant;

use crate::{
    Group, Outcome,
    group::{Alone, Bounds, Joined, Landed, drive},
    road::{Event, Road, echo},
};

/// More polls than anything here takes.
const TO_THE_END: usize = 100;

/// Runs a model in every order in which no thread is interrupted more often than that.
pub(super) fn explore(interruptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

/// After how many polls what a thread runs is dropped.
#[derive(Clone, Copy)]
pub(super) struct Script {
    pub(super) caller: usize,
    /// The driver that its caller may be given.
    pub(super) driver: usize,
    /// Its caller polls for the first time when it is woken, which it then is at the latest when its time is over; it leaves.
    pub(super) is_late: bool,
}

impl Script {
    pub(super) const WHOLE: Self = Self { caller: TO_THE_END, driver: TO_THE_END, is_late: false };
    pub(super) const LATE: Self = Self { is_late: true, ..Self::WHOLE };
}

/// Callers of one group. Each has a thread, on which the driver that it is given runs as well.
pub(super) struct World {
    pub(super) group: Arc<Group>,
    pub(super) bounds: Bounds,
    /// They are never polled.
    pub(super) held: Vec<Alone<u32, u32>>,
    pub(super) road: Road,
}

impl World {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { group: Group::new(), bounds, held: Vec::new(), road: Road::new(bounds) }
    }

    /// Has callers ask by themselves as long as anything else goes on, so that all others have to wait.
    pub(super) fn hold_alone(mut self) -> Self {
        for _ in 0..self.bounds.alone {
            match Group::join(&self.group, || (0, None), 1, Waker::noop(), &self.bounds) {
                Joined::Alone(alone) => self.held.push(alone),
                Joined::Waits(..) => panic!("a caller waits though nobody else asks"),
            }
        }
        self
    }

    /// Makes a driver pending once wherever it can be.
    pub(super) fn pausing(mut self) -> Self {
        self.road.pauses = true;
        self
    }

    /// Has the carrier return so many outcomes.
    pub(super) fn saying(mut self, outcomes: usize) -> Self {
        self.road.says = Some(outcomes);
        self
    }

    /// Lets no batch land before so many have left.
    pub(super) fn meeting(mut self, batches: usize) -> Self {
        self.road.gate = Some(Arc::new(Event::after(batches)));
        self
    }

    pub(super) fn live<const N: usize>(mut self, scripts: [Script; N]) {
        let late = scripts.iter().filter(|script| script.is_late).count();
        self.road.gone = Arc::new(Event::after(late));
        let mut numbered = (1..).zip(scripts);
        let first = numbered.next().expect("somebody lives");
        let threads: Vec<_> = numbered
            .map(|(item, script)| {
                let (group, bounds, road) =
                    (Arc::clone(&self.group), self.bounds, self.road.clone());
                (item, script, thread::spawn(move || live(&group, &bounds, &road, item, script)))
            })
            .collect();
        if late > 0 {
            self.road.time.happen();
        }
        let mut outcomes =
            vec![(first, live(&self.group, &self.bounds, &self.road, first.0, first.1))];
        for (item, script, thread) in threads {
            outcomes.push(((item, script), thread.join().expect("a thread that ends")));
        }
        let is_cut = scripts.iter().any(|script| script.driver < TO_THE_END);
        for ((item, script), outcome) in outcomes {
            match outcome {
                None => {
                    assert!(script.caller < TO_THE_END || script.is_late, "{item} has no outcome");
                }
                Some(outcome) => self.road.log.check(item, outcome, is_cut, self.road.says),
            }
        }
        self.ends_as_it_began();
    }

    /// Nothing is left of those who were here, and whoever comes later is served.
    pub(super) fn ends_as_it_began(self) {
        let road = Road::new(self.bounds);
        let later = live(&self.group, &self.bounds, &road, 99, Script::WHOLE);
        assert_eq!(later, Some(Ok(echo(99))));
        let is_driven = !road.log.carried().is_empty();
        assert_eq!(is_driven, !self.held.is_empty(), "nobody has stayed");
        drop(self.held);
        assert!(self.group.is_idle());
    }
}

/// Asks, and runs the caller and its driver until both are over. Returns the caller's outcome, unless it has left before.
pub(super) fn live(
    group: &Arc<Group>,
    bounds: &Bounds,
    road: &Road,
    item: u32,
    script: Script,
) -> Option<Outcome> {
    let bell = Bell::new();
    let waker = Waker::from(Shared::clone(&bell));
    let mark = Shared::new(Mark { is_woken: AtomicBool::new(false), waker: waker.clone() });
    let marking = Waker::from(Shared::clone(&mark));
    let deadline = script.is_late.then_some(road.began);
    let (mut waiting, driver) = match Group::join(group, || (item, deadline), 1, &marking, bounds) {
        Joined::Waits(waiting, driver) => (Polled::new(waiting, script.caller), driver),
        Joined::Alone(_alone) => {
            road.log.alone.enter(bounds.alone);
            road.log.alone.leave();
            return Some(Ok(echo(item)));
        }
    };
    let driven = |driver| Box::pin(drive(driver, road.clone()));
    let mut drivers: Vec<_> =
        driver.map(|driver| Polled::new(driven(driver), script.driver)).into_iter().collect();
    let mut cx = Context::from_waker(&waker);
    loop {
        if !script.is_late {
            let was_there = !waiting.is_over();
            waiting.poll(&mut cx);
            if was_there && waiting.is_over() && waiting.output.is_none() {
                road.log.leaves_behind(item);
            }
        } else if let Some(late) = &waiting.future
            && (mark.is_woken.load(Relaxed) || !late.is_watched())
        {
            waiting.future = None;
            road.log.leaves_behind(item);
            road.gone.happen();
        }
        drivers.iter_mut().for_each(|driver| driver.poll(&mut cx));
        let another = road.take_sent();
        if !another.is_empty() {
            let another = another.into_iter().map(driven);
            drivers.extend(another.map(|driver| Polled::new(driver, TO_THE_END)));
            continue;
        }
        if waiting.is_over() && drivers.iter().all(Polled::is_over) {
            let Landed { outcome, at } = waiting.output?;
            assert!(at <= Instant::now(), "{item} lands at a time to come");
            return Some(outcome);
        }
        bell.wait();
    }
}

/// Wakes a thread in a way that loom sees, and never without reason.
pub(super) struct Bell {
    pub(super) is_rung: AtomicBool,
    pub(super) ring: Sender<()>,
    pub(super) rung: Cell<Receiver<()>>,
}

impl Bell {
    pub(super) fn new() -> Shared<Self> {
        let (ring, rung) = channel();
        Shared::new(Self { is_rung: AtomicBool::new(false), ring, rung: Cell::new(rung) })
    }

    pub(super) fn wait(&self) {
        let rung = self.rung.try_lock().expect("one thread that waits");
        rung.recv().expect("a bell that is there");
        self.is_rung.store(false, Relaxed);
    }
}

impl Wake for Bell {
    fn wake(self: Shared<Self>) {
        if !self.is_rung.swap(true, Relaxed) {
            self.ring.send(()).expect("a bell that is there");
        }
    }
}

/// Knows whether it has been woken.
pub(super) struct Mark {
    pub(super) is_woken: AtomicBool,
    pub(super) waker: Waker,
}

impl Wake for Mark {
    fn wake(self: Shared<Self>) {
        self.is_woken.store(true, Relaxed);
        self.waker.wake_by_ref();
    }
}

/// A future that is dropped after so many polls.
pub(super) struct Polled<F: Future> {
    pub(super) future: Option<F>,
    pub(super) polls: usize,
    pub(super) output: Option<F::Output>,
}

impl<F: Future + Unpin> Polled<F> {
    pub(super) fn new(future: F, polls: usize) -> Self {
        let mut this = Self { future: Some(future), polls, output: None };
        this.end();
        this
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        let Some(future) = &mut self.future else { return };
        self.polls -= 1;
        if let Poll::Ready(output) = Pin::new(future).poll(cx) {
            self.output = Some(output);
            self.polls = 0;
        }
        self.end();
    }

    pub(super) fn end(&mut self) {
        if self.polls == 0 {
            self.future = None;
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.future.is_none()
    }
}
