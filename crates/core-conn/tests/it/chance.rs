//! Chance that can be repeated.

use std::ops::Range;

/// What decides the seed; the one of a run that failed repeats what it chose.
const SEED: &str = "REDBRICK_TEST_SEED";

/// Random numbers from a seed (`SplitMix64`).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// Takes the seed of the environment, or a new one, and tells which.
    #[expect(clippy::print_stdout, reason = "shown when the test fails")]
    pub(crate) fn new(test: &str) -> Self {
        let given = std::env::var(SEED).ok().filter(|seed| !seed.is_empty());
        let seed = given.map_or_else(fresh, |seed| seed.parse().expect("a number in the variable"));
        println!("{test}: {SEED}={seed}");
        Self(seed)
    }

    /// Another one, for a task of its own.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// A number in the range.
    pub(crate) fn of(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    pub(crate) fn one_in(&mut self, of: u64) -> bool {
        self.of(0..of) == 0
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn fresh() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(()) >> 32
}
