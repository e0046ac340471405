//! How long operations take, and how many calls share a batch.

use std::{sync::OnceLock, time::Duration};

use ::metrics::{Key, Label, Unit};

use super::{instrument::Instrument, outcome::error_type};
use crate::Error;

static DURATION: Instrument = Instrument::new(
    "db.client.operation.duration",
    Unit::Seconds,
    "How long an operation took: waiting for a link, all its attempts, the answer",
);
static BATCH: Instrument = Instrument::new(
    "redbrick.batch.size",
    Unit::Count,
    "How many calls of different tasks went out as one",
);
static BATCH_KEY: Key = Key::from_static_name("redbrick.batch.size");

/// More than there are commands and scripts in a program.
const PLACES: usize = 512;
/// How many places are looked at for a name.
const LOOKS: usize = 8;

/// The keys of successful operations. Names live as long as the program, so where one lies tells it from the others, and a
/// key is found without its being read.
static KEYS: [OnceLock<(&str, Key)>; PLACES] = [const { OnceLock::new() }; PLACES];

pub(super) fn ended(name: &'static str, took: Duration, failed: Option<&Error>) {
    let took = took.as_secs_f64();
    match failed {
        None => match known(name) {
            Some(key) => DURATION.record(key, took),
            None => DURATION.record(&key(name, None), took),
        },
        Some(err) => DURATION.record(&key(name, Some(error_type(err))), took),
    }
}

pub(super) fn gathered(calls: usize) {
    BATCH.record(&BATCH_KEY, f64::from(u32::try_from(calls).unwrap_or(u32::MAX)));
}

fn known(name: &'static str) -> Option<&'static Key> {
    let at = name.as_ptr().addr();
    let first = at ^ (at / PLACES);
    (0..LOOKS).find_map(|look| {
        let place = &KEYS[first.wrapping_add(look) % PLACES];
        let (named, key) = place.get_or_init(|| (name, key(name, None)));
        std::ptr::eq(*named, name).then_some(key)
    })
}

fn key(name: &'static str, error: Option<&'static str>) -> Key {
    let mut labels = vec![
        Label::from_static_parts("db.system.name", "redis"),
        Label::from_static_parts("db.operation.name", name),
    ];
    labels.extend(error.map(|error| Label::from_static_parts("error.type", error)));
    Key::from_parts(DURATION.name(), labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_a_key_of_its_own_and_keeps_it() {
        for name in crate::commands::COMMANDS {
            let Some(found) = known(name) else { continue };
            assert_eq!(*found, key(name, None), "{name}");
            assert!(std::ptr::eq(known(name).unwrap(), found), "{name}");
        }
        assert!(known("GET").is_some() || known("SET").is_some());
    }
}
