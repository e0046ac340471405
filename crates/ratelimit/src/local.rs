//! Limits within this process, for when Redis is away.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use redbrick_core_conn::Key;

use crate::rule::{Ask, Counted, Rule};

/// How often those of whom nothing counts any more are looked for, when there is no room.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A hash of a key under two seeds of this process's own, since keys can be long and chosen to collide.
type Id = [u64; 2];

/// Who is not known shares this.
const OTHERS: Id = [0, 0];

/// The arithmetic is that of `gcra.lua`, in nanoseconds since the beginning.
pub(crate) struct Local {
    subjects: NonZeroUsize,
    seeds: [RandomState; 2],
    begun: Instant,
    known: Mutex<Known>,
}

/// Who is known, and since when there may be somebody of whom nothing counts any more.
#[derive(Default)]
struct Known {
    /// For each subject the moment from which on nothing counts any more.
    arrivals: HashMap<Id, u64>,
    swept: Option<Instant>,
}

impl Local {
    pub(crate) fn new(subjects: NonZeroUsize) -> Self {
        Self {
            subjects,
            seeds: [RandomState::new(), RandomState::new()],
            begun: Instant::now(),
            known: Mutex::default(),
        }
    }

    pub(crate) fn decide(&self, rule: &Rule, key: &Key, ask: Ask) -> Counted {
        self.decide_at(Instant::now(), rule, key, ask)
    }

    fn decide_at(&self, at: Instant, rule: &Rule, key: &Key, ask: Ask) -> Counted {
        let now = nanos(at.saturating_duration_since(self.begun));
        let interval = nanos(rule.interval());
        let depth = interval * u64::from(rule.limit().get());
        let cost = interval * u64::from(ask.cost.get());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let id = self.seeds.each_ref().map(|seed| seed.hash_one(key.as_ref()));
        let id = known.place(id, self.subjects.get(), at, now);
        let arrival =
            known.arrivals.get(&id).map_or(now, |arrival| (*arrival).clamp(now, now + depth));
        let wait = (arrival + cost).saturating_sub(now + depth);
        if ask.consumes && wait == 0 {
            known.arrivals.insert(id, arrival + cost);
            counted(0, arrival + cost - now, interval)
        } else {
            counted(wait, arrival - now, interval)
        }
    }
}

impl Known {
    /// Where the moment of a subject is, or would be.
    fn place(&mut self, id: Id, most: usize, at: Instant, now: u64) -> Id {
        if self.arrivals.contains_key(&id) {
            return id;
        }
        // One place is that of the others.
        let is_full = |arrivals: &HashMap<Id, u64>| arrivals.len() >= most;
        if is_full(&self.arrivals)
            && self.swept.is_none_or(|swept| at.duration_since(swept) >= SWEEP_INTERVAL)
        {
            self.swept = Some(at);
            self.arrivals.retain(|_, arrival| *arrival > now);
        }
        if is_full(&self.arrivals) { OTHERS } else { id }
    }
}

/// At most what a quota reaches over, twice: that fits.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn counted(wait: u64, counting: u64, interval: u64) -> Counted {
    Counted {
        wait: Duration::from_nanos(wait),
        used: counting.div_ceil(interval),
        reset: Duration::from_nanos(counting),
        now: SystemTime::now(),
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("subjects", &self.subjects).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use redbrick_core_conn::Prefix;

    use super::*;
    use crate::{Algorithm, Quota};

    const ONE: Ask = Ask { cost: NonZeroU32::MIN, consumes: true };

    fn rule(amount: u32) -> Rule {
        let quota = Quota::per_second(NonZeroU32::new(amount).unwrap());
        Rule::new(Algorithm::FixedWindow, quota).unwrap()
    }

    fn local(subjects: usize) -> Local {
        Local::new(NonZeroUsize::new(subjects).unwrap())
    }

    fn key(id: impl AsRef<[u8]>) -> Key {
        Prefix::new("p").key(id)
    }

    #[test]
    fn a_burst_passes_and_then_one_per_interval() {
        let (local, rule) = (local(10), rule(4));
        let start = local.begun;
        let at = |millis| start + Duration::from_millis(millis);
        let ask = |millis| local.decide_at(at(millis), &rule, &key("a"), ONE);
        for used in 1..=4 {
            let counted = ask(0);
            assert_eq!((counted.wait, counted.used), (Duration::ZERO, used));
        }
        assert_eq!(ask(100).wait, Duration::from_millis(150));
        assert_eq!(ask(250).wait, Duration::ZERO);
        assert_eq!(ask(251).used, 4);
        assert_eq!(ask(100_000).used, 1);
    }

    #[test]
    fn looking_consumes_nothing_and_is_remembered_by_nobody() {
        let (local, rule) = (local(10), rule(2));
        let ask = |ask| {
            let counted = local.decide_at(local.begun, &rule, &key("a"), ask);
            (counted.wait, counted.used)
        };
        assert_eq!(ask(Ask::CHECK), (Duration::ZERO, 0));
        assert_eq!(local.known.lock().unwrap().arrivals.len(), 0);
        for used in [1, 2] {
            assert_eq!(ask(ONE), (Duration::ZERO, used));
            let wait = if used == 2 { Duration::from_millis(500) } else { Duration::ZERO };
            assert_eq!(ask(Ask::CHECK), (wait, used));
            assert_eq!(ask(Ask::CHECK), (wait, used));
        }
    }

    #[test]
    fn there_are_never_more_subjects_than_were_asked_for_and_the_others_share_a_quota() {
        let (local, rule) = (local(8), rule(2));
        let start = local.begun;
        let at = |millis| start + Duration::from_millis(millis);
        let passes = (0..1_000_u32)
            .filter(|n| local.decide_at(at(0), &rule, &key(n.to_be_bytes()), ONE).wait.is_zero())
            .count();
        // Each of the eight once, and the others twice in all.
        assert_eq!(passes, 10);
        assert_eq!(local.known.lock().unwrap().arrivals.len(), 9);
        // Those who are known keep what is theirs.
        assert!(local.decide_at(at(0), &rule, &key(0_u32.to_be_bytes()), ONE).wait.is_zero());
        assert!(!local.decide_at(at(0), &rule, &key(0_u32.to_be_bytes()), ONE).wait.is_zero());
        // Once nothing counts any more, there is room.
        assert!(local.decide_at(at(2_000), &rule, &key("new"), ONE).wait.is_zero());
        assert_eq!(local.known.lock().unwrap().arrivals.len(), 1);
    }
}
