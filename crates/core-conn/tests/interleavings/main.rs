//! The gathering of calls, in every order that threads can have.
//!
//! loom runs a model once for each order of what its threads do to locks, wake-ups and counts of references, as far as they
//! differ. A caller whom nobody wakes is a deadlock that it reports, and so is a lock that is taken twice; what is left
//! behind, be it a batch in the queue, is a leak that it reports. Each test says how often a thread is interrupted at most.
//!
//! A model that fails may abort the process, since what it drops asks loom again; `--nocapture --test-threads 1` tells which
//! it was, and why.

#[path = "../../src/gather/group/mod.rs"]
mod group;

/// What takes the place of the standard library's in the file above.
mod sync {
    pub(super) use loom::sync::{Arc, Mutex, MutexGuard};
}

mod road;
mod table;
mod world;

use std::{
    pin::Pin,
    sync::{
        Arc as Shared, Mutex as Cell,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use group::{Bounds, Joined, Landed, Lost};
use loom::sync::Arc;
use tokio::time::Instant;

use table::{Meddler, Table, take};
use world::{Script, World, explore};

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
fn what_a_caller_asked_for_is_not_handed_over_after_it_has_left() {
    for polls in 1..3 {
        explore(3, move || {
            let leaves = Script { caller: polls, ..Script::WHOLE };
            World::new(PAIRS).hold_alone().live([Script::WHOLE, leaves]);
        });
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
fn who_waits_behind_a_batch_under_way_is_woken_when_its_time_is_over() {
    explore(0, || {
        let now = Instant::now();
        let mut table = Table::new(Bounds { most: 1, ..PAIRS }).stuck();
        [None, None, Some(now)].into_iter().for_each(|deadline| {
            table.ask_until(deadline);
        });
        table.fly(0);
        table.world.road.time.happen();
        table.drive(0);
        let woken: Vec<_> = table.callers.iter().map(|caller| caller.flag.is_woken()).collect();
        assert_eq!(woken, [false, false, true]);
        assert!(!table.ask_until(Some(now)), "there is nothing to look for");
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
        table.world.bounds.overdue = 2;
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
fn who_waits_while_too_much_is_overdue_asks_by_itself() {
    explore(0, || {
        let mut table = Table::new(PAIRS).stuck();
        table.world.road.overdue = Some(Instant::now());
        table.ask(1);
        table.fly(0);
        table.ask(1);
        table.world.road.time.happen();
        table.drive(0);
        assert_eq!(table.living_drivers(), 1, "no more may be overdue");
        table.poll(1);
        let outcome = table.callers[1].output.as_ref().map(|landed| &landed.outcome);
        assert_eq!(outcome, Some(&Err(Lost::Stuck)));
        table.land();
        table.end(false);
    });
}

#[test]
fn a_driver_that_was_overdue_ends_when_others_have_its_place() {
    explore(0, || {
        let now = Instant::now();
        let mut table = Table::new(Bounds { overdue: 9, most: 3, ..PAIRS }).stuck();
        // Three are under way when one of them is overdue.
        table.world.bounds.most = 2;
        table.world.road.overdue = Some(now);
        table.ask(1);
        table.fly(0);
        table.ask(1);
        table.world.road.overdue = None;
        table.world.road.time.happen();
        table.drive(0);
        table.fly(1);
        (0..2).for_each(|_| table.ask(1));
        table.fly(2);
        assert!(!table.ask_until(Some(now)), "nobody looks");
        assert_eq!(table.living_drivers(), 3, "two, and one that is overdue");
        table.world.road.gone.happen();
        table.drive(0);
        assert_eq!(table.living_drivers(), 2);
        table.settle();
        table.end(false);
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
    for (weight, second) in [(8, vec![vec![3], vec![4]]), (7, vec![vec![3, 4]])] {
        explore(0, move || {
            let mut table = Table::new(Bounds { weight: 10, callers: 3, ..HALVES });
            [3, 3, 3, weight].into_iter().for_each(|weight| table.ask(weight));
            (0..2).for_each(|driver| table.fly(driver));
            table.settle();
            assert_eq!(table.batches(), [&[vec![1, 2]], &*second].concat());
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
fn who_has_left_a_batch_weighs_nothing_in_it() {
    explore(0, || {
        let mut table = Table::new(Bounds { weight: 10, callers: 3, few: 2, ..HALVES });
        [4, 4, 2, 7].into_iter().for_each(|weight| table.ask(weight));
        table.fly(0);
        // Somebody who has left with the batch, and somebody who waits in it no more.
        table.leave(1);
        table.leave(2);
        table.ask(3);
        table.settle();
        assert_eq!(table.batches(), [vec![1, 2], vec![4, 5]]);
        table.end(false);
    });
}

#[test]
fn part_of_a_batch_is_taken_along_with_a_rest_where_all_of_it_would_weigh_too_much() {
    explore(0, || {
        let mut table = Table::new(Bounds { weight: 10, callers: 3, ..HALVES });
        [3, 3, 3, 6, 2].into_iter().for_each(|weight| table.ask(weight));
        (0..2).for_each(|driver| table.fly(driver));
        table.settle();
        assert_eq!(table.batches(), [vec![1, 2, 3], vec![4, 5]]);
        table.end(false);
    });
    explore(0, || {
        let mut table = Table::new(Bounds { weight: 10, callers: 3, few: 9, ..EAGER });
        [9, 6, 4, 1].into_iter().for_each(|weight| table.ask(weight));
        table.settle();
        assert_eq!(table.batches(), [vec![1], vec![2, 3], vec![4]]);
        table.end(false);
    });
}

#[test]
fn a_driver_goes_by_the_newest_bounds() {
    explore(0, || {
        let mut table = Table::new(Bounds { callers: 4, most: 1, ..PAIRS });
        table.ask(1);
        table.fly(0);
        table.world.bounds.callers = 2;
        (0..3).for_each(|_| table.ask(1));
        table.settle();
        assert_eq!(table.batches(), [vec![1], vec![2, 3], vec![4]]);
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
