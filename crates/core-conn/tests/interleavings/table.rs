//! Callers and drivers on one thread, step by step.

use std::{
    pin::Pin,
    sync::{
        Arc as Shared, Mutex as Cell, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

use loom::sync::Arc;
use tokio::time::Instant;

use crate::{
    Group,
    group::{Bounds, Joined, Landed, Lost, Waiting, drive},
    road::Event,
    world::{World, explore},
};

/// Callers and drivers on one thread, of whom each step polls or drops one.
pub(super) struct Table {
    pub(super) world: World,
    pub(super) callers: Vec<Task<Waiting<u32, u32>>>,
    pub(super) drivers: Vec<Task<Pin<Box<dyn Future<Output = ()>>>>>,
    /// Which callers have left, and how many batches had by then.
    pub(super) left_at: Vec<(usize, usize)>,
    /// At some time the last driver was dropped.
    pub(super) was_deserted: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Ask,
    Poll(usize),
    Leave(usize),
    Drive(usize),
    Abandon(usize),
}

impl Table {
    pub(super) fn new(bounds: Bounds) -> Self {
        let world = World::new(bounds).hold_alone().pausing();
        Self {
            world,
            callers: Vec::new(),
            drivers: Vec::new(),
            left_at: Vec::new(),
            was_deserted: false,
        }
    }

    /// Takes so many steps in every order, and looks after each what it has led to.
    pub(super) fn play_all(bounds: Bounds, callers: usize, steps: usize) {
        let mut paths = vec![Vec::new()];
        while !paths.is_empty() {
            // As many as fit into one run of a model.
            let some = paths.split_off(paths.len().saturating_sub(40));
            let found = Shared::new(Cell::new(Vec::new()));
            explore(0, {
                let found = Shared::clone(&found);
                move || {
                    let longer = some.iter().flat_map(|path| {
                        let next = Self::play(bounds, callers, path);
                        let is_short = path.len() < steps;
                        next.into_iter()
                            .filter(move |_| is_short)
                            .map(|step| [&**path, &[step]].concat())
                    });
                    *found.lock().unwrap_or_else(PoisonError::into_inner) = longer.collect();
                }
            });
            paths.append(&mut found.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Goes along a path, and returns how it may go on.
    pub(super) fn play(bounds: Bounds, callers: usize, path: &[Step]) -> Vec<Step> {
        let mut table = Self::new(bounds);
        for step in path {
            match *step {
                Step::Ask => table.ask(1),
                Step::Poll(caller) => table.poll(caller),
                Step::Leave(caller) => table.leave(caller),
                Step::Drive(driver) => table.drive(driver),
                Step::Abandon(driver) => table.abandon(driver),
            }
            table.check();
        }
        let next = table.next(callers);
        table.settle();
        table.end(path.iter().any(|step| matches!(step, Step::Abandon(_))));
        next
    }

    pub(super) fn next(&self, callers: usize) -> Vec<Step> {
        let mut next = Vec::new();
        if self.callers.len() < callers {
            next.push(Step::Ask);
        }
        for (number, caller) in
            self.callers.iter().enumerate().filter(|(_, caller)| !caller.is_over())
        {
            next.extend(caller.is_due().then_some(Step::Poll(number)));
            next.push(Step::Leave(number));
        }
        for (number, _) in self.drivers.iter().enumerate().filter(|(_, driver)| !driver.is_over()) {
            next.extend([Step::Drive(number), Step::Abandon(number)]);
        }
        next
    }

    /// Lets nothing land before [`land`](Self::land).
    pub(super) fn stuck(mut self) -> Self {
        self.world.road.gone = Arc::new(Event::after(1));
        self
    }

    pub(super) fn take_sent(&mut self) {
        let road = &self.world.road;
        let sent = road.take_sent().into_iter();
        let drives = sent.map(|driver| Task::new(Box::pin(drive(driver, road.clone())) as _));
        self.drivers.extend(drives.collect::<Vec<_>>());
    }

    pub(super) fn land(&mut self) {
        self.world.road.gone.happen();
        self.settle();
    }

    pub(super) fn ask(&mut self, weight: usize) {
        self.join_flagged(weight, None);
    }

    /// Returns whether it is watched.
    pub(super) fn ask_until(&mut self, deadline: Option<Instant>) -> bool {
        self.join_flagged(1, deadline).is_watched()
    }

    pub(super) fn join_flagged(
        &mut self,
        weight: usize,
        deadline: Option<Instant>,
    ) -> &Waiting<u32, u32> {
        let flag = Shared::new(Flag::default());
        self.join(weight, (&Waker::from(Shared::clone(&flag)), deadline));
        let caller = self.callers.last_mut().expect("somebody has joined");
        caller.flag = flag;
        caller.future.as_ref().expect("it waits")
    }

    pub(super) fn join(&mut self, weight: usize, (waker, deadline): (&Waker, Option<Instant>)) {
        let item = u32::try_from(self.callers.len() + 1).expect("few callers");
        let World { group, bounds, road, .. } = &self.world;
        let Joined::Waits(waiting, driver) =
            Group::join(group, || (item, deadline), weight, waker, bounds)
        else {
            panic!("{item} asks by itself though others do")
        };
        self.callers.push(Task::new(waiting));
        self.drivers
            .extend(driver.map(|driver| Task::new(Box::pin(drive(driver, road.clone())) as _)));
    }

    pub(super) fn poll(&mut self, caller: usize) {
        self.callers[caller].poll();
    }

    pub(super) fn leave(&mut self, caller: usize) {
        self.callers[caller].future = None;
        self.left_at.push((caller, self.batches().len()));
    }

    pub(super) fn drive(&mut self, driver: usize) {
        self.drivers[driver].poll();
        self.take_sent();
    }

    /// Polls a driver until another batch is under way.
    pub(super) fn fly(&mut self, driver: usize) {
        let before = self.batches().len();
        while self.batches().len() == before {
            self.drive(driver);
        }
    }

    pub(super) fn abandon(&mut self, driver: usize) {
        self.drivers[driver].future = None;
        self.was_deserted |= self.living_drivers() == 0;
    }

    pub(super) fn living_drivers(&self) -> usize {
        self.drivers.iter().filter(|driver| !driver.is_over()).count()
    }

    pub(super) fn batches(&self) -> Vec<Vec<u32>> {
        self.world.road.log.carried().into_iter().map(|(items, _)| items).collect()
    }

    pub(super) fn check(&self) {
        let drivers = self.living_drivers();
        assert!(drivers <= self.world.bounds.most, "{drivers} drivers");
        let is_waiting = |caller: &Task<_>| !caller.is_over() && !caller.flag.is_woken();
        assert!(
            drivers > 0 || !self.callers.iter().any(is_waiting),
            "nobody serves those who wait"
        );
    }

    /// Polls whoever is to be polled, until nobody is.
    pub(super) fn settle(&mut self) {
        loop {
            let mut is_over = true;
            for driver in self.drivers.iter_mut().filter(|driver| driver.is_due()) {
                driver.poll();
                is_over = false;
            }
            self.take_sent();
            for caller in self.callers.iter_mut().filter(|caller| caller.is_due()) {
                caller.poll();
                is_over = false;
            }
            if is_over {
                return;
            }
        }
    }

    pub(super) fn end(self, is_cut: bool) {
        assert_eq!(self.living_drivers(), 0, "drivers are left");
        for (caller, batches) in &self.left_at {
            let later = self.batches().split_off(*batches).concat();
            assert!(
                later.iter().all(|item| usize::try_from(*item) != Ok(caller + 1)),
                "{caller} was carried"
            );
        }
        for (item, caller) in (1..).zip(self.callers) {
            assert!(caller.is_over(), "{item} still waits");
            if let Some(Landed { outcome, .. }) = caller.output {
                let is_behind = outcome == Err(Lost::Behind);
                assert!(
                    self.was_deserted || !is_behind,
                    "{item} was left behind by one of several"
                );
                self.world.road.log.check(item, outcome, is_cut, None);
            }
        }
        self.world.ends_as_it_began();
    }
}

/// A future that is polled as an executor would, by another task each time.
pub(super) struct Task<F: Future> {
    pub(super) future: Option<F>,
    pub(super) output: Option<F::Output>,
    pub(super) is_new: bool,
    pub(super) flag: Shared<Flag>,
}

impl<F: Future + Unpin> Task<F> {
    pub(super) fn new(future: F) -> Self {
        Self { future: Some(future), output: None, is_new: true, flag: Shared::default() }
    }

    pub(super) fn poll(&mut self) {
        let Some(future) = &mut self.future else { return };
        self.is_new = false;
        self.flag = Shared::default();
        let waker = Waker::from(Shared::clone(&self.flag));
        if let Poll::Ready(output) = Pin::new(future).poll(&mut Context::from_waker(&waker)) {
            self.output = Some(output);
            self.future = None;
        }
    }

    pub(super) fn is_due(&self) -> bool {
        !self.is_over() && (self.is_new || self.flag.is_woken())
    }

    pub(super) fn is_over(&self) -> bool {
        self.future.is_none()
    }
}

#[derive(Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) fn is_woken(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Shared<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Does something when it is woken, or else when it is dropped.
#[derive(Default)]
pub(super) struct Meddler(Cell<Option<Box<dyn FnOnce() + Send>>>);

impl Wake for Meddler {
    fn wake(self: Shared<Self>) {
        self.meddle();
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.meddle();
    }
}

impl Meddler {
    pub(super) fn new(act: impl FnOnce() + Send + 'static) -> Self {
        Self(Cell::new(Some(Box::new(act))))
    }

    pub(super) fn meddle(&self) {
        let act = take(&self.0);
        if let Some(act) = act {
            act();
        }
    }
}

pub(super) fn take<T>(cell: &Cell<Option<T>>) -> Option<T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner).take()
}
