//! A history of three processes that read, load, store and invalidate the same keys at random, while one is killed, the server
//! is emptied and its connections are cut: nothing that was invalidated is ever read.
//!
//! No clocks are compared. Each key has one writer, which changes the key in the database, invalidates it in the cache, and
//! writes down the change when that has returned. A reader looks up what is written down, then reads the cache, and what it is
//! given must be as new. Short in a plain run, long where `REDBRICK_TEST_SOAK` is set.

mod database;
mod fleet;
mod member;
mod naive;
mod readers;
mod writers;

use std::{env, time::Duration};

use database::Figures;
use fleet::Fleet;
use tokio::time::Instant;

use crate::{PATIENCE, is_long};

/// What decides the seed; the one of a run that failed repeats what it chose, though not how its processes took turns.
const SEED: &str = "REDBRICK_TEST_SEED";
/// For how long it goes on at a time until all has happened.
const MORE: Duration = Duration::from_millis(500);
/// What must have happened for the history to say something.
const EVENTS: [&str; 22] = [
    "get",
    "get_many",
    "get_or_load",
    "get_or_load in background",
    "get_or_load_many",
    "get_or_load_with",
    "refresh",
    "delete",
    "delete_many",
    "set",
    "set_many",
    "invalidate_tag",
    "invalidate_tags",
    "clear",
    "apply",
    "shorten",
    "checked",
    "cached",
    "loaded",
    "refused fills",
    "dropped",
    "kills",
];
/// And where processes keep nothing.
const KEEPING_NOTHING: [&str; 9] = [
    "stale",
    "given after a failure",
    "loads",
    "load failures",
    "served stale",
    "waits",
    "coalesced",
    "not polled",
    "flushes",
];
/// And where they keep values.
#[cfg(feature = "local")]
const KEEPING: [&str; 6] = ["local", "local hits", "revalidated", "cuts", "stalls", "restarts"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_invalidated_is_read_in_a_history_of_three_processes() {
    let test = "history::nothing_invalidated_is_read_in_a_history_of_three_processes";
    history(test, false, &KEEPING_NOTHING).await;
}

/// Where processes keep values, what others have invalidated is to be seen after their bound.
#[cfg(feature = "local")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_invalidated_is_read_past_its_bound_where_processes_keep_values() {
    let test = "history::nothing_invalidated_is_read_past_its_bound_where_processes_keep_values";
    history(test, true, &KEEPING).await;
}

async fn history(test: &'static str, keeping: bool, events: &[&str]) {
    if let Some(part) = fleet::part() {
        return member::run(part).await;
    }
    let mut chance = chance("history");
    let (length, kills) = match is_long() {
        true => (Duration::from_secs(60), 12),
        false => (Duration::from_secs(4), 2),
    };
    let mut fleet = Fleet::start(test, keeping, u64::from(chance.u32(..))).await;
    let end = Instant::now() + length;
    for left in (0..=kills).rev() {
        fleet.disturb(&mut chance, end - length * left / (kills + 1)).await;
        if left > 0 {
            fleet.kill_one(&mut chance).await;
        }
    }
    // On a busy machine it takes longer until each of them has happened, and what is drawn seldom may not have been drawn.
    let late = Instant::now() + PATIENCE;
    while let Some(event) = missing(events, &fleet.figures().await)
        && Instant::now() < late
    {
        fleet.cause(event, &mut chance).await;
        fleet.disturb(&mut chance, Instant::now() + MORE).await;
    }
    let figures = fleet.end().await;
    tell(&format!("history of {length:?}: {figures}"));
    assert_eq!(missing(events, &figures), None, "it says nothing about this");
}

/// What has not happened yet.
fn missing<'e>(events: &[&'e str], figures: &Figures) -> Option<&'e str> {
    EVENTS.iter().chain(events).copied().find(|event| figures.of(event) == 0)
}

/// Random numbers from the seed of the environment, or a new one; tells which.
fn chance(test: &str) -> fastrand::Rng {
    let given = env::var(SEED).ok().filter(|seed| !seed.is_empty());
    let seed = given.map_or_else(
        || u64::from(fastrand::u32(..)),
        |seed| seed.parse().expect("a number in the variable"),
    );
    tell(&format!("{test}: {SEED}={seed}"));
    fastrand::Rng::with_seed(seed)
}

#[expect(
    clippy::print_stdout,
    reason = "figures for those who look at them, and when a test fails"
)]
fn tell(text: &str) {
    println!("{text}");
}
