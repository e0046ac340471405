//! A history of four processes that take turns with a lock, a lock to read and to write and a semaphore, while they are stopped beyond
//! their leases and killed, their links are cut, and the server stands still or loses its data.
//!
//! What they have they use on another server, which nothing happens to: there each of them writes with its fence, and a fence lower
//! than the highest that must be over is refused. That server also numbers what happens, so that no clocks are compared. A section lies between
//! two writes, and counts where the holder relied on what it had before the first and after the second. Short in a plain run, long where
//! `REDBRICK_TEST_SOAK` is set.

mod fleet;
mod member;
mod records;
mod resource;

use std::time::Duration;

use tokio::time::Instant;

use self::fleet::Fleet;
use crate::{PATIENCE, history::chance, is_long, tell};

const TEST: &str =
    "processes::no_two_have_it_nobody_waits_for_ever_and_fences_rise_in_four_processes";
const PROCESSES: usize = 4;
const TASKS: usize = 8;
const LEASE: Duration = Duration::from_millis(200);
/// How much longer than a lease somebody may wait once nothing happens to them any more, where a machine has much else to do.
const SLACK: Duration = Duration::from_secs(10);
const NAME: &str = "job";
const PERMITS: u32 = 4;
/// Of what is to read and to write, who writes has all.
const READERS: u32 = 1000;
/// What must have happened for the history to say something, and what it is called where it is counted.
const EVENTS: [&str; 17] = [
    "lock", "read", "write", "1 of 4", "2 of 4", "3 of 4", "4 of 4", "given up", "dropped",
    "aborted", "refused", "stops", "kills", "cuts", "deaf", "pauses", "restarts",
];

/// What is asked for.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Lock,
    Read,
    Write,
    Permits(u32),
}

impl Kind {
    fn random(chance: &mut fastrand::Rng) -> Self {
        match chance.u32(..9) {
            0..3 => Self::Lock,
            3..5 => Self::Read,
            5 => Self::Write,
            _ => Self::Permits(chance.u32(1..=PERMITS)),
        }
    }

    /// That of one of the [`EVENTS`].
    fn of(event: &str) -> Option<Self> {
        let all = [Self::Lock, Self::Read, Self::Write].into_iter();
        all.chain((1..=PERMITS).map(Self::Permits)).find(|kind| kind.event() == event)
    }

    fn event(self) -> String {
        match self {
            Self::Lock => "lock".to_owned(),
            Self::Read => "read".to_owned(),
            Self::Write => "write".to_owned(),
            Self::Permits(weight) => format!("{weight} of {PERMITS}"),
        }
    }

    /// What it is part of, and how much of how much.
    fn share(self) -> (&'static str, u32, u32) {
        match self {
            Self::Lock => ("lock", 1, 1),
            Self::Read => ("rw", 1, READERS),
            Self::Write => ("rw", READERS, READERS),
            Self::Permits(weight) => ("permits", weight, PERMITS),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_have_it_nobody_waits_for_ever_and_fences_rise_in_four_processes() {
    if let Some(part) = fleet::part() {
        return member::run(part).await;
    }
    let mut chance = chance("processes");
    let length = Duration::from_secs(if is_long() { 600 } else { 4 });
    let mut fleet = Fleet::start(chance.u64(..)).await;
    let end = Instant::now() + length;
    while Instant::now() < end {
        fleet.rest(Duration::from_millis(chance.u64(10..150))).await;
        let what = match chance.u32(..40) {
            0..12 => "stops",
            12..15 => "kills",
            15..19 => "cuts",
            19..25 => "deaf",
            25..34 => "pauses",
            34 => "restarts",
            35 => "refused",
            _ => "forgotten scripts",
        };
        fleet.cause(what, &mut chance).await;
    }
    // What is drawn seldom may not have been drawn.
    let late = Instant::now() + PATIENCE;
    while let Some(event) = missing(&fleet).await
        && Instant::now() < late
    {
        fleet.cause(event, &mut chance).await;
    }
    let missing = missing(&fleet).await;
    let figures = fleet.end().await;
    tell(&format!("processes in {length:?}: {figures}"));
    assert_eq!(missing, None, "it says nothing about this");
}

/// What has not happened yet.
async fn missing(fleet: &Fleet) -> Option<&'static str> {
    let figures = fleet.figures().await;
    EVENTS.into_iter().find(|event| !figures.contains_key(*event))
}
