//! The gathering of calls, in every order that threads can have.
//!
//! loom runs a model once for each order of what its threads do to locks, wake-ups and counts of references, as far as they
//! differ. A caller whom nobody wakes is a deadlock that it reports, and so is a lock that is taken twice; what is left
//! behind, be it a batch in the queue, is a leak that it reports. Each test says how often a thread is interrupted at most.
//!
//! A model that fails may abort the process, since what it drops asks loom again; `--nocapture --test-threads 1` tells which
//! it was, and why.

#[path = "../src/gather/group.rs"]
mod group;

/// What takes the place of the standard library's in the file above.
mod sync {
    pub(super) use loom::sync::{Arc, Mutex, MutexGuard};
}

use std::{
    future::{pending, poll_fn},
    pin::Pin,
    sync::{
        Arc as Shared, Mutex as Cell, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use group::{Alone, Bounds, Carrier, Joined, Landed, Lost, Waiting, drive};
use loom::{
    model::Builder,
    sync::{
        Arc, Condvar, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};
use tokio::time::Instant;

type Group = group::Group<u32, u32>;
type Outcome = Result<u32, Lost>;

/// Two share a batch, and a second one leaves while the first is under way when it is full.
const PAIRS: Bounds =
    Bounds { callers: 2, few: 2, weight: 100, alone: 1, eager: 1, most: 2, overdue: 1 };
/// Each is a full batch.
const SINGLES: Bounds = Bounds { callers: 1, ..PAIRS };
/// Two batches are under way, full or not.
const EAGER: Bounds = Bounds { alone: 2, eager: 2, ..PAIRS };
/// The same, and those who are there are divided between them.
const HALVES: Bounds = Bounds { callers: 9, few: 1, ..EAGER };
const ALL: [Bounds; 4] = [PAIRS, SINGLES, EAGER, HALVES];

/// More polls than anything here takes.
const TO_THE_END: usize = 100;
/// As many polls as a driver takes for two batches when everything on its way pauses once.
const LONGEST_DRIVE: usize = 6;

#[test]
fn each_caller_gets_the_outcome_of_its_own_item() {
    for bounds in ALL {
        explore(3, move || World::new(bounds).hold_alone().live([Script::WHOLE; 2]));
    }
}

#[test]
fn each_of_three_callers_gets_the_outcome_of_its_own_item() {
    for bounds in ALL {
        explore(2, move || World::new(bounds).hold_alone().live([Script::WHOLE; 3]));
    }
}

#[test]
fn callers_who_ask_by_themselves_and_callers_who_wait_are_served_side_by_side() {
    for bounds in ALL {
        explore(2, move || World::new(bounds).live([Script::WHOLE; 3]));
    }
}

#[test]
fn a_caller_who_leaves_at_any_point_disturbs_nobody_and_leaves_nothing_behind() {
    for bounds in ALL {
        for polls in 0..3 {
            explore(3, move || {
                let leaves = Script { caller: polls, ..Script::WHOLE };
                World::new(bounds).hold_alone().live([leaves, Script::WHOLE]);
            });
        }
    }
}

#[test]
fn callers_who_all_leave_leave_nothing_behind() {
    for bounds in [PAIRS, SINGLES] {
        for (one, other) in [(0, 0), (0, 1), (1, 1), (1, 2)] {
            explore(3, move || {
                let leaves = |caller| Script { caller, ..Script::WHOLE };
                World::new(bounds).hold_alone().live([leaves(one), leaves(other)]);
            });
        }
    }
}

#[test]
fn a_caller_joins_while_the_batch_is_left_by_its_last_one() {
    explore(2, || {
        let leaves = Script { caller: 0, ..Script::WHOLE };
        World::new(PAIRS).hold_alone().live([leaves, leaves, Script::WHOLE]);
    });
}

#[test]
fn a_driver_that_is_dropped_at_any_point_leaves_nobody_waiting() {
    for bounds in ALL {
        for polls in 0..=LONGEST_DRIVE {
            explore(2, move || {
                let ends = Script { driver: polls, ..Script::WHOLE };
                World::new(bounds).hold_alone().pausing().live([ends, Script::WHOLE]);
            });
        }
    }
}

#[test]
fn drivers_that_are_all_dropped_leave_nobody_waiting() {
    for bounds in [PAIRS, SINGLES] {
        for (one, other) in [(0, 0), (0, 1), (1, 2), (2, 2), (2, 3)] {
            explore(2, move || {
                let ends = |driver| Script { driver, ..Script::WHOLE };
                World::new(bounds).hold_alone().pausing().live([ends(one), ends(other)]);
            });
        }
    }
}

#[test]
fn a_caller_leaves_while_a_driver_is_dropped() {
    for caller in 0..2 {
        for driver in 0..4 {
            explore(2, move || {
                let both = Script { caller, driver, is_late: false };
                World::new(PAIRS).hold_alone().pausing().live([both, Script::WHOLE]);
                World::new(PAIRS)
                    .hold_alone()
                    .pausing()
                    .live([Script { caller, ..Script::WHOLE }, Script { driver, ..Script::WHOLE }]);
            });
        }
    }
}

#[test]
fn a_carrier_may_say_too_little_or_too_much() {
    for said in 0..4 {
        explore(3, move || {
            World::new(PAIRS).hold_alone().saying(said).live([Script::WHOLE; 2]);
        });
    }
}

#[test]
fn a_caller_who_is_watched_is_woken_when_its_time_is_over() {
    for bounds in ALL {
        explore(3, move || {
            World::new(bounds).hold_alone().live([Script::WHOLE, Script::LATE]);
        });
    }
    explore(1, || {
        World::new(EAGER).hold_alone().live([Script::LATE, Script::WHOLE, Script::LATE]);
    });
}

#[test]
fn a_caller_whose_watch_is_dropped_is_woken() {
    for bounds in ALL {
        for driver in 0..4 {
            explore(2, move || {
                let ends = Script { driver, ..Script::WHOLE };
                World::new(bounds).hold_alone().live([ends, Script::LATE]);
            });
            explore(1, move || {
                let ends = Script { driver, ..Script::LATE };
                World::new(bounds).hold_alone().live([Script::WHOLE, ends, Script::LATE]);
            });
        }
    }
}

#[test]
fn a_caller_is_watched_when_somebody_looks_in_time() {
    explore(0, || {
        let now = Instant::now();
        let seconds = |seconds| Some(now + Duration::from_secs(seconds));
        let mut table = Table::new(Bounds { callers: 9, ..PAIRS }).stuck();
        assert!(!table.ask_until(None), "it has no time");
        assert!(table.ask_until(seconds(20)), "a driver collects");
        table.fly(0);
        assert!(!table.ask_until(seconds(19)), "that is too early");
        assert!(table.ask_until(seconds(20)), "its driver looks then");
        assert!(table.ask_until(seconds(21)), "and before");
        table.land();
        table.end(false);
    });
    explore(0, || {
        let now = Instant::now();
        let mut table = Table::new(PAIRS).stuck();
        table.ask(1);
        table.fly(0);
        assert!(!table.ask_until(Some(now)), "nobody looks");
        table.land();
        table.end(false);
    });
    let ends = |table: &mut Table| (0..2).for_each(|_| table.drive(1));
    let is_dropped = |table: &mut Table| table.abandon(1);
    for act in [ends, is_dropped] {
        explore(0, move || {
            let now = Instant::now();
            let mut table = Table::new(PAIRS);
            table.ask(1);
            table.fly(0);
            table.ask_until(Some(now));
            table.ask_until(Some(now));
            table.fly(1);
            act(&mut table);
            assert_eq!(table.living_drivers(), 1);
            assert!(!table.ask_until(Some(now)), "who looked is gone");
            table.settle();
            table.end(true);
        });
    }
}

#[test]
fn only_those_whose_time_is_over_are_woken() {
    explore(0, || {
        let now = Instant::now();
        let later = now + Duration::from_secs(3600);
        let mut table = Table::new(Bounds { most: 1, ..PAIRS }).stuck();
        assert!(table.ask_until(Some(now)) && table.ask_until(Some(later)));
        table.fly(0);
        assert!(table.ask_until(Some(later)) && table.ask_until(Some(now)));
        table.world.road.time.happen();
        table.drive(0);
        let woken: Vec<_> = table.callers.iter().map(|caller| caller.flag.is_woken()).collect();
        assert_eq!(woken, [true, false, false, true]);
        assert!(table.ask_until(Some(later)), "it looks again");
        table.land();
        table.end(false);
    });
}

#[test]
fn a_batch_that_is_overdue_is_waited_for_by_nobody() {
    let overdue = || {
        let mut table = Table::new(PAIRS).stuck();
        table.world.road.overdue = Some(Instant::now());
        table.ask(1);
        table.fly(0);
        table
    };
    explore(0, move || {
        let mut table = overdue();
        table.ask(1);
        assert_eq!(table.living_drivers(), 1, "it is waited for");
        table.world.road.time.happen();
        table.drive(0);
        table.take_sent();
        assert_eq!(table.living_drivers(), 2, "somebody waits, so another one is sent");
        table.fly(1);
        assert_eq!(table.batches(), [[1], [2]]);
        table.land();
        table.end(false);
    });
    explore(0, move || {
        let mut table = overdue();
        table.world.road.time.happen();
        table.drive(0);
        table.take_sent();
        assert_eq!(table.living_drivers(), 1, "nobody waits");
        let join = |table: &Table| {
            let World { group, bounds, .. } = &table.world;
            match Group::join(group, || (0, None), 1, Waker::noop(), bounds) {
                Joined::Alone(alone) => Some(alone),
                Joined::Waits(..) => None,
            }
        };
        let alone = [join(&table), join(&table)];
        assert!(alone.iter().all(Option::is_some), "as many are overdue as may be");
        drop(alone);
        table.land();
        table.end(false);
    });
    explore(0, move || {
        let mut table = overdue();
        table.world.bounds.overdue = 2;
        table.world.road.time.happen();
        table.drive(0);
        table.ask(1);
        assert_eq!(table.living_drivers(), 2, "the one that is overdue does not count");
        table.abandon(0);
        table.world.road.gone.happen();
        table.settle();
        table.end(true);
    });
}

#[test]
fn full_batches_are_under_way_at_the_same_time() {
    explore(3, || {
        // The first lands when the second is under way too.
        World::new(SINGLES).hold_alone().meeting(2).live([Script::WHOLE; 2]);
    });
}

#[test]
fn in_every_order_of_polls_whoever_waits_has_a_driver_and_is_served() {
    for bounds in ALL {
        Table::play_all(bounds, 2, 6);
        Table::play_all(bounds, 3, 6);
    }
}

#[test]
fn another_driver_is_wanted_for_each_full_batch_up_to_the_most() {
    explore(0, || {
        let mut table = Table::new(PAIRS);
        let drivers = [1, 1, 1, 2, 2, 2].map(|drivers| {
            table.ask(1);
            (table.living_drivers(), drivers)
        });
        assert!(drivers.iter().all(|(found, wanted)| found == wanted), "{drivers:?}");
        table.settle();
        let mut batches: Vec<_> = table.batches();
        batches.sort();
        assert_eq!(batches, [[1, 2], [3, 4], [5, 6]]);
        table.end(false);
    });
}

#[test]
fn a_batch_that_all_have_left_wants_no_driver() {
    explore(0, || {
        let mut table = Table::new(PAIRS);
        (0..3).for_each(|_| table.ask(1));
        table.leave(0);
        table.leave(1);
        table.ask(1);
        assert_eq!(table.living_drivers(), 1);
        table.settle();
        assert_eq!(table.batches(), [[3, 4]]);
        table.end(false);
    });
}

#[test]
fn another_driver_is_wanted_while_few_batches_are_under_way() {
    explore(0, || {
        let mut table = Table::new(EAGER);
        table.ask(1);
        table.ask(1);
        assert_eq!(table.living_drivers(), 1, "it takes both along");
        table.fly(0);
        assert_eq!(table.batches(), [vec![1, 2]], "the first is under way");
        assert_eq!(table.living_drivers(), 1, "nobody waits");
        table.ask(1);
        assert_eq!(table.living_drivers(), 2);
        table.fly(1);
        assert_eq!(table.batches(), [vec![1, 2], vec![3]], "both are");
        table.ask(1);
        assert_eq!(table.living_drivers(), 2, "and that is enough");
        table.settle();
        table.end(false);
    });
}

#[test]
fn those_who_wait_still_are_taken_along_by_another_driver() {
    for (bounds, drivers) in [(EAGER, 2), (PAIRS, 1)] {
        explore(0, move || {
            let mut table = Table::new(bounds);
            (0..3).for_each(|_| table.ask(1));
            assert_eq!(table.living_drivers(), 1, "the second batch may become full");
            table.fly(0);
            assert_eq!(table.living_drivers(), drivers);
            table.settle();
            assert_eq!(table.batches(), [vec![1, 2], vec![3]]);
            table.end(false);
        });
    }
}

#[test]
fn callers_are_divided_between_two_batches_unless_they_are_few() {
    let divided = [
        (HALVES, vec![vec![1, 2], vec![3, 4]]),
        (Bounds { few: 3, ..HALVES }, vec![vec![1, 2, 3], vec![4]]),
        (Bounds { few: 4, ..HALVES }, vec![vec![1, 2, 3, 4]]),
        (Bounds { eager: 1, ..HALVES }, vec![vec![1, 2, 3, 4]]),
    ];
    for (bounds, batches) in divided {
        explore(0, move || {
            let mut table = Table::new(bounds);
            (0..4).for_each(|_| table.ask(1));
            table.fly(0);
            assert_eq!(table.living_drivers(), batches.len());
            (1..batches.len()).for_each(|driver| table.fly(driver));
            assert_eq!(table.batches(), batches);
            table.settle();
            table.end(false);
        });
    }
}

#[test]
fn those_under_way_count_among_those_who_are_divided() {
    explore(0, || {
        let mut table = Table::new(Bounds { eager: 3, most: 3, ..HALVES }).stuck();
        (0..3).for_each(|_| table.ask(1));
        (0..2).for_each(|driver| table.fly(driver));
        (0..3).for_each(|_| table.ask(1));
        table.fly(2);
        assert_eq!(table.batches(), [vec![1, 2], vec![3], vec![4, 5, 6]], "half of six");
        table.land();
        table.end(false);
    });
}

#[test]
fn the_rest_of_a_batch_leaves_before_those_behind_it() {
    explore(0, || {
        let mut table = Table::new(Bounds { callers: 4, ..HALVES });
        (0..6).for_each(|_| table.ask(1));
        (0..2).for_each(|driver| table.fly(driver));
        assert_eq!(table.batches(), [vec![1, 2, 3], vec![4, 5, 6]]);
        table.settle();
        table.end(false);
    });
}

#[test]
fn what_is_taken_along_with_a_rest_does_not_weigh_too_much() {
    for (weight, second) in [(3, vec![3]), (2, vec![3, 4])] {
        explore(0, move || {
            let mut table = Table::new(Bounds { weight: 3 * weight + 1, callers: 3, ..HALVES });
            (0..3).for_each(|_| table.ask(weight));
            table.ask(if weight == 3 { 3 } else { 1 });
            (0..2).for_each(|driver| table.fly(driver));
            assert_eq!(table.batches(), [vec![1, 2], second.clone()]);
            table.settle();
            table.end(false);
        });
    }
}

#[test]
fn a_batch_never_takes_more_than_it_may_however_many_are_under_way() {
    explore(0, || {
        let mut table = Table::new(Bounds { callers: 4, few: 1, ..EAGER });
        (0..3).for_each(|_| table.ask(1));
        (0..2).for_each(|driver| table.fly(driver));
        (0..8).for_each(|_| table.ask(1));
        table.fly(0);
        table.settle();
        table.end(false);
    });
}

#[test]
fn nobody_joins_a_batch_of_which_some_have_left() {
    explore(0, || {
        let mut table = Table::new(HALVES);
        (0..4).for_each(|_| table.ask(1));
        table.fly(0);
        table.leave(0);
        (0..2).for_each(|_| table.ask(1));
        table.fly(1);
        assert_eq!(table.batches(), [vec![1, 2], vec![3, 4, 5]]);
        table.settle();
        table.end(false);
    });
}

#[test]
fn nobody_asks_alone_beside_a_driver() {
    explore(0, || {
        let mut table = Table::new(PAIRS);
        table.ask(1);
        table.world.held.clear();
        assert!(!table.world.group.is_idle(), "a driver is there");
        table.ask(1);
        table.settle();
        assert!(table.world.group.is_idle());
        table.end(false);
    });
}

#[test]
fn an_outcome_has_the_time_at_which_it_came() {
    explore(0, || {
        let mut table = Table::new(PAIRS);
        table.ask(1);
        table.fly(0);
        table.drive(0);
        let landed = Instant::now();
        table.poll(0);
        assert!(table.callers[0].output.as_ref().is_some_and(|outcome| outcome.at <= landed));
        table.settle();
        table.end(false);
    });
}

#[test]
fn what_weighs_too_much_together_leaves_apart() {
    explore(0, || {
        let mut table = Table::new(Bounds { callers: 3, weight: 10, most: 1, ..PAIRS });
        for weight in [4, 6, 1, 10, 50, 5, 4] {
            table.ask(weight);
        }
        table.leave(5);
        table.ask(6);
        table.settle();
        let mut batches = table.batches();
        batches.iter_mut().for_each(|items| items.sort_unstable());
        assert_eq!(batches, [vec![1, 2], vec![3], vec![4], vec![5], vec![7, 8]]);
        table.end(false);
    });
}

#[test]
fn a_batch_is_full_by_its_weight_too() {
    explore(0, || {
        let mut table = Table::new(Bounds { callers: 9, weight: 10, ..PAIRS });
        [(10, 1), (9, 1), (1, 2)].into_iter().for_each(|(weight, drivers)| {
            table.ask(weight);
            assert_eq!(table.living_drivers(), drivers, "after {weight}");
        });
        table.settle();
        table.end(false);
    });
}

#[test]
fn others_are_let_join_as_long_as_few_wait() {
    for (callers, is_paused) in [(31, true), (32, false)] {
        explore(0, move || {
            let mut table = Table::new(Bounds { callers: 64, few: 64, most: 1, ..PAIRS });
            (0..callers).for_each(|_| table.ask(1));
            table.drive(0);
            assert_eq!(table.batches().is_empty(), is_paused);
            table.settle();
            table.end(false);
        });
    }
}

#[test]
fn a_waker_runs_outside_of_every_lock() {
    let answered = |table: &mut Table, mine| {
        table.fly(mine);
        table.world.road.gone.happen();
        table.drive(mine);
    };
    let late = |table: &mut Table, mine| {
        table.fly(mine);
        table.world.road.time.happen();
        table.drive(mine);
    };
    let lost_on_the_way = |table: &mut Table, mine| {
        table.fly(mine);
        table.abandon(mine);
    };
    let left_behind_or_not_watched = |table: &mut Table, mine| table.abandon(mine);
    let polled_by_another_task = |table: &mut Table, mine| table.poll(mine);
    let left = |table: &mut Table, mine| table.leave(mine);
    let acts: [fn(&mut Table, usize); 6] =
        [answered, late, lost_on_the_way, left_behind_or_not_watched, polled_by_another_task, left];
    for (act, others) in acts.into_iter().flat_map(|act| [(act, 0), (act, 1)]) {
        explore(0, move || {
            let mut table = Table::new(EAGER).stuck();
            for other in 0..others {
                table.ask(1);
                table.fly(other);
            }
            let group = Arc::clone(&table.world.group);
            let companion = Shared::new(Cell::new(None));
            let ran = Shared::new(AtomicBool::new(false));
            let meddler = Waker::from(Shared::new(Meddler::new({
                let (companion, ran) = (Shared::clone(&companion), Shared::clone(&ran));
                move || {
                    drop(take(&companion));
                    assert!(!group.is_idle());
                    ran.store(true, Relaxed);
                }
            })));
            table.join(1, (&meddler, Some(Instant::now())));
            drop(meddler);
            table.ask(1);
            *companion.lock().unwrap() = table.callers[others + 1].future.take();
            act(&mut table, others);
            assert!(ran.load(Relaxed), "the waker was neither woken nor dropped");
            table.land();
            table.end(true);
        });
    }
}

#[test]
fn an_item_that_nobody_takes_along_is_dropped_outside_of_every_lock() {
    for is_left_behind in [false, true] {
        explore(0, move || {
            let group = group::Group::<Meddler, ()>::new();
            let join = |item| {
                let bounds = Bounds { callers: 9, ..PAIRS };
                group::Group::join(&group, || (item, None), 1, Waker::noop(), &bounds)
            };
            let Joined::Alone(held) = join(Meddler::default()) else { panic!("it has to wait") };
            let companion = Shared::new(Cell::new(None));
            let ran = Shared::new(AtomicBool::new(false));
            let item = Meddler::new({
                let (companion, ran) = (Shared::clone(&companion), Shared::clone(&ran));
                move || {
                    drop(take(&companion));
                    ran.store(true, Relaxed);
                }
            });
            let Joined::Waits(mut waiting, driver) = join(item) else { panic!("it is alone") };
            *companion.lock().unwrap() = Some(join(Meddler::default()));
            if is_left_behind {
                drop(driver);
                let polled = Pin::new(&mut waiting).poll(&mut Context::from_waker(Waker::noop()));
                assert!(matches!(polled, Poll::Ready(Landed { outcome: Err(Lost::Behind), .. })));
            }
            drop(waiting);
            assert!(ran.load(Relaxed), "the item is still there");
            drop(held);
        });
    }
}

/// Runs a model in every order in which no thread is interrupted more often than that.
fn explore(interruptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

/// After how many polls what a thread runs is dropped.
#[derive(Clone, Copy)]
struct Script {
    caller: usize,
    /// The driver that its caller may be given.
    driver: usize,
    /// Its caller polls for the first time when it is woken, which it then is at the latest when its time is over; it leaves.
    is_late: bool,
}

impl Script {
    const WHOLE: Self = Self { caller: TO_THE_END, driver: TO_THE_END, is_late: false };
    const LATE: Self = Self { is_late: true, ..Self::WHOLE };
}

/// Callers of one group. Each has a thread, on which the driver that it is given runs as well.
struct World {
    group: Arc<Group>,
    bounds: Bounds,
    /// They are never polled.
    held: Vec<Alone<u32, u32>>,
    road: Road,
}

impl World {
    fn new(bounds: Bounds) -> Self {
        Self { group: Group::new(), bounds, held: Vec::new(), road: Road::new(bounds) }
    }

    /// Has callers ask by themselves as long as anything else goes on, so that all others have to wait.
    fn hold_alone(mut self) -> Self {
        for _ in 0..self.bounds.alone {
            match Group::join(&self.group, || (0, None), 1, Waker::noop(), &self.bounds) {
                Joined::Alone(alone) => self.held.push(alone),
                Joined::Waits(..) => panic!("a caller waits though nobody else asks"),
            }
        }
        self
    }

    /// Makes a driver pending once wherever it can be.
    fn pausing(mut self) -> Self {
        self.road.pauses = true;
        self
    }

    /// Has the carrier return so many outcomes.
    fn saying(mut self, outcomes: usize) -> Self {
        self.road.says = Some(outcomes);
        self
    }

    /// Lets no batch land before so many have left.
    fn meeting(mut self, batches: usize) -> Self {
        self.road.gate =
            Some(Arc::new(Gate { missing: Mutex::new(batches), changed: Condvar::new() }));
        self
    }

    fn live<const N: usize>(mut self, scripts: [Script; N]) {
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
    fn ends_as_it_began(self) {
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
fn live(
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
            waiting.poll(&mut cx);
        } else if let Some(late) = &waiting.future
            && (mark.is_woken.load(Relaxed) || !late.is_watched())
        {
            waiting.future = None;
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

fn echo(item: u32) -> u32 {
    item + 1000
}

/// Wakes a thread in a way that loom sees, and never without reason.
struct Bell {
    is_rung: AtomicBool,
    ring: Sender<()>,
    rung: Cell<Receiver<()>>,
}

impl Bell {
    fn new() -> Shared<Self> {
        let (ring, rung) = channel();
        Shared::new(Self { is_rung: AtomicBool::new(false), ring, rung: Cell::new(rung) })
    }

    fn wait(&self) {
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
struct Mark {
    is_woken: AtomicBool,
    waker: Waker,
}

impl Wake for Mark {
    fn wake(self: Shared<Self>) {
        self.is_woken.store(true, Relaxed);
        self.waker.wake_by_ref();
    }
}

/// A future that is dropped after so many polls.
struct Polled<F: Future> {
    future: Option<F>,
    polls: usize,
    output: Option<F::Output>,
}

impl<F: Future + Unpin> Polled<F> {
    fn new(future: F, polls: usize) -> Self {
        let mut this = Self { future: Some(future), polls, output: None };
        this.end();
        this
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        let Some(future) = &mut self.future else { return };
        self.polls -= 1;
        if let Poll::Ready(output) = Pin::new(future).poll(cx) {
            self.output = Some(output);
            self.polls = 0;
        }
        self.end();
    }

    fn end(&mut self) {
        if self.polls == 0 {
            self.future = None;
        }
    }

    fn is_over(&self) -> bool {
        self.future.is_none()
    }
}

/// Returns the items as outcomes.
#[derive(Clone)]
struct Road {
    log: Shared<Log>,
    pauses: bool,
    says: Option<usize>,
    gate: Option<Arc<Gate>>,
    /// The time of those who are late is over.
    time: Arc<Event>,
    began: Instant,
    /// Nothing lands before those who are late have gone.
    gone: Arc<Event>,
    /// When a batch is overdue.
    overdue: Option<Instant>,
    /// Drivers that were sent beside others.
    sent: Shared<Cell<Vec<group::Driver<u32, u32>>>>,
}

impl Road {
    fn new(bounds: Bounds) -> Self {
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

    fn take_sent(&self) -> Vec<group::Driver<u32, u32>> {
        std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn turn(&self) {
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
            gate.pass();
        }
        self.log.lands(&items);
        let outcomes = items.into_iter().map(echo);
        match self.says {
            None => outcomes.collect(),
            Some(said) => outcomes.chain(std::iter::repeat(0)).take(said).collect(),
        }
    }
}

/// What has been under way.
struct Log {
    bounds: Bounds,
    batches: Cell<Vec<(Vec<u32>, bool)>>,
    under_way: Crowd,
    alone: Crowd,
}

impl Log {
    fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            batches: Cell::default(),
            under_way: Crowd::default(),
            alone: Crowd::default(),
        }
    }

    fn carried(&self) -> Vec<(Vec<u32>, bool)> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn leaves(&self, items: &[u32]) -> UnderWay<'_> {
        assert!((1..=self.bounds.callers).contains(&items.len()), "a batch of {}", items.len());
        for item in items {
            assert!(self.batch_of(*item).is_none(), "{item} has left twice");
        }
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).push((items.to_vec(), false));
        self.under_way.enter(self.bounds.most);
        UnderWay(self)
    }

    fn lands(&self, items: &[u32]) {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, has_landed) in batches.iter_mut().filter(|(carried, _)| carried == items) {
            *has_landed = true;
        }
    }

    /// With whom an item was under way, and whether they landed.
    fn batch_of(&self, item: u32) -> Option<(Vec<u32>, bool)> {
        self.carried().into_iter().find(|(items, _)| items.contains(&item))
    }

    /// Whether an outcome is what has happened.
    fn check(&self, item: u32, outcome: Outcome, is_cut: bool, says: Option<usize>) {
        let batch = self.batch_of(item);
        match outcome {
            Ok(outcome) => {
                assert_eq!(outcome, echo(item));
            }
            Err(Lost::Behind) => {
                assert!(is_cut && batch.is_none(), "{item} was carried: {batch:?}");
            }
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
struct UnderWay<'a>(&'a Log);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.leave();
    }
}

/// How many are somewhere. loom sees it, and looks for the order in which they are most.
#[derive(Default)]
struct Crowd(Mutex<usize>);

impl Crowd {
    fn enter(&self, most: usize) {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        assert!(*count <= most, "{} at once", *count);
    }

    fn leave(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}

/// Something that happens once, after it was said so often.
struct Event(Mutex<(usize, Vec<Waker>)>);

impl Event {
    fn after(times: usize) -> Self {
        Self(Mutex::new((times, Vec::new())))
    }

    fn happen(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = state.0.saturating_sub(1);
        let woken = if state.0 == 0 { std::mem::take(&mut state.1) } else { Vec::new() };
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    async fn wait(&self) {
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

/// Opens when so many stand before it.
struct Gate {
    missing: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        *missing = missing.saturating_sub(1);
        self.changed.notify_all();
        while *missing > 0 {
            missing = self.changed.wait(missing).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Callers and drivers on one thread, of whom each step polls or drops one.
struct Table {
    world: World,
    callers: Vec<Task<Waiting<u32, u32>>>,
    drivers: Vec<Task<Pin<Box<dyn Future<Output = ()>>>>>,
    /// Which callers have left, and how many batches had by then.
    left_at: Vec<(usize, usize)>,
    /// At some time the last driver was dropped.
    was_deserted: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask,
    Poll(usize),
    Leave(usize),
    Drive(usize),
    Abandon(usize),
}

impl Table {
    fn new(bounds: Bounds) -> Self {
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
    fn play_all(bounds: Bounds, callers: usize, steps: usize) {
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
    fn play(bounds: Bounds, callers: usize, path: &[Step]) -> Vec<Step> {
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

    fn next(&self, callers: usize) -> Vec<Step> {
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
    fn stuck(mut self) -> Self {
        self.world.road.gone = Arc::new(Event::after(1));
        self
    }

    fn take_sent(&mut self) {
        let road = &self.world.road;
        let sent = road.take_sent().into_iter();
        let drives = sent.map(|driver| Task::new(Box::pin(drive(driver, road.clone())) as _));
        self.drivers.extend(drives.collect::<Vec<_>>());
    }

    fn land(&mut self) {
        self.world.road.gone.happen();
        self.settle();
    }

    fn ask(&mut self, weight: usize) {
        self.join_flagged(weight, None);
    }

    /// Returns whether it is watched.
    fn ask_until(&mut self, deadline: Option<Instant>) -> bool {
        self.join_flagged(1, deadline).is_watched()
    }

    fn join_flagged(&mut self, weight: usize, deadline: Option<Instant>) -> &Waiting<u32, u32> {
        let flag = Shared::new(Flag::default());
        self.join(weight, (&Waker::from(Shared::clone(&flag)), deadline));
        let caller = self.callers.last_mut().expect("somebody has joined");
        caller.flag = flag;
        caller.future.as_ref().expect("it waits")
    }

    fn join(&mut self, weight: usize, (waker, deadline): (&Waker, Option<Instant>)) {
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

    fn poll(&mut self, caller: usize) {
        self.callers[caller].poll();
    }

    fn leave(&mut self, caller: usize) {
        self.callers[caller].future = None;
        self.left_at.push((caller, self.batches().len()));
    }

    fn drive(&mut self, driver: usize) {
        self.drivers[driver].poll();
        self.take_sent();
    }

    /// Polls a driver until another batch is under way.
    fn fly(&mut self, driver: usize) {
        let before = self.batches().len();
        while self.batches().len() == before {
            self.drive(driver);
        }
    }

    fn abandon(&mut self, driver: usize) {
        self.drivers[driver].future = None;
        self.was_deserted |= self.living_drivers() == 0;
    }

    fn living_drivers(&self) -> usize {
        self.drivers.iter().filter(|driver| !driver.is_over()).count()
    }

    fn batches(&self) -> Vec<Vec<u32>> {
        self.world.road.log.carried().into_iter().map(|(items, _)| items).collect()
    }

    fn check(&self) {
        let drivers = self.living_drivers();
        assert!(drivers <= self.world.bounds.most, "{drivers} drivers");
        let is_waiting = |caller: &Task<_>| !caller.is_over() && !caller.flag.is_woken();
        assert!(
            drivers > 0 || !self.callers.iter().any(is_waiting),
            "nobody serves those who wait"
        );
    }

    /// Polls whoever is to be polled, until nobody is.
    fn settle(&mut self) {
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

    fn end(self, is_cut: bool) {
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
struct Task<F: Future> {
    future: Option<F>,
    output: Option<F::Output>,
    is_new: bool,
    flag: Shared<Flag>,
}

impl<F: Future + Unpin> Task<F> {
    fn new(future: F) -> Self {
        Self { future: Some(future), output: None, is_new: true, flag: Shared::default() }
    }

    fn poll(&mut self) {
        let Some(future) = &mut self.future else { return };
        self.is_new = false;
        self.flag = Shared::default();
        let waker = Waker::from(Shared::clone(&self.flag));
        if let Poll::Ready(output) = Pin::new(future).poll(&mut Context::from_waker(&waker)) {
            self.output = Some(output);
            self.future = None;
        }
    }

    fn is_due(&self) -> bool {
        !self.is_over() && (self.is_new || self.flag.is_woken())
    }

    fn is_over(&self) -> bool {
        self.future.is_none()
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Flag {
    fn is_woken(&self) -> bool {
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
struct Meddler(Cell<Option<Box<dyn FnOnce() + Send>>>);

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
    fn new(act: impl FnOnce() + Send + 'static) -> Self {
        Self(Cell::new(Some(Box::new(act))))
    }

    fn meddle(&self) {
        let act = take(&self.0);
        if let Some(act) = act {
            act();
        }
    }
}

fn take<T>(cell: &Cell<Option<T>>) -> Option<T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner).take()
}
