//! A quota that an algorithm can keep, and the question to Redis.

use std::{
    num::NonZeroU32,
    time::{Duration, SystemTime},
};

use redbrick_core_conn::{Call, Conn, Key, Script, Token};

use crate::{Algorithm, Error, Quota};

static GCRA: Script = Script::new("ratelimit.gcra", include_str!("lua/gcra.lua"));
static SLIDING_LOG: Script =
    Script::new("ratelimit.sliding_log", include_str!("lua/sliding_log.lua"));
static FIXED_WINDOW: Script =
    Script::new("ratelimit.fixed_window", include_str!("lua/fixed_window.lua"));

/// Up to here, a moment in microseconds since 1970 with twice the reach of a quota behind it stays below 2^53, where Lua's numbers
/// are exact.
const LONGEST_MICROS: u64 = 100 * 365 * 24 * 60 * 60 * 1_000_000;

/// How many one call may write into a sliding log: each is an entry, and nobody else is served meanwhile.
const MOST_LOGGED_AT_ONCE: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

/// A quota that was checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    algorithm: Algorithm,
    /// How many may pass at once.
    limit: NonZeroU32,
    /// Microseconds, rounded up: never more passes than the quota says.
    period: u64,
    /// Microseconds after which one more may pass, rounded up.
    interval: u64,
}

/// What is known of a subject, in whatever way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// How long until the request would pass; zero when it does.
    pub(crate) wait: Duration,
    pub(crate) used: u64,
    /// How long until nothing is counted any more.
    pub(crate) reset: Duration,
    pub(crate) now: SystemTime,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) cost: NonZeroU32,
    pub(crate) consumes: bool,
}

impl Ask {
    /// Looks whether one would pass.
    pub(crate) const CHECK: Self = Self { cost: NonZeroU32::MIN, consumes: false };
}

/// What the scripts return: the wait, how many are counted, the time to the reset, the clock; in microseconds.
pub(crate) type Answer = (u64, u64, u64, u64);

impl From<Answer> for Counted {
    fn from((wait, used, reset, now): Answer) -> Self {
        Self {
            wait: Duration::from_micros(wait),
            used,
            reset: Duration::from_micros(reset),
            now: SystemTime::UNIX_EPOCH + Duration::from_micros(now),
        }
    }
}

impl Rule {
    /// # Errors
    ///
    /// When `algorithm` cannot keep `quota`.
    pub(crate) fn new(algorithm: Algorithm, quota: Quota) -> Result<Self, Error> {
        let amount = quota.amount();
        let nanos = quota.period().as_nanos();
        let micros = |nanos: u128| {
            u64::try_from(nanos.div_ceil(1_000)).ok().filter(|micros| *micros <= LONGEST_MICROS)
        };
        if nanos < 1_000 * u128::from(amount.get()) {
            return Err(Error::QuotaTooFine);
        }
        if quota.depth().is_some() && algorithm != Algorithm::Gcra {
            return Err(Error::BurstWithoutGcra);
        }
        let limit = quota.depth().unwrap_or(amount);
        let period = micros(nanos).ok_or(Error::QuotaTooLong)?;
        let interval = period.div_ceil(u64::from(amount.get()));
        let depth = interval.checked_mul(u64::from(limit.get()));
        if depth.is_none_or(|depth| depth > LONGEST_MICROS + u64::from(limit.get())) {
            return Err(Error::QuotaTooLong);
        }
        Ok(Self { algorithm, limit, period, interval })
    }

    pub(crate) fn limit(&self) -> NonZeroU32 {
        self.limit
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_micros(self.interval)
    }

    /// The key of this rule below what the subject and its action share.
    pub(crate) fn key(&self, stem: &Key) -> Key {
        stem.join(self.algorithm.word())
    }

    /// # Errors
    ///
    /// When that many can never pass.
    pub(crate) fn check(&self, asked: NonZeroU32) -> Result<(), Error> {
        let limit = match self.algorithm {
            Algorithm::SlidingLog => self.limit.min(MOST_LOGGED_AT_ONCE),
            Algorithm::Gcra | Algorithm::FixedWindow => self.limit,
        };
        if asked > limit { Err(Error::ExceedsQuota { asked, limit }) } else { Ok(()) }
    }

    /// The one round trip.
    pub(crate) fn ask<'a>(&self, conn: &'a Conn, stem: &Key, ask: Ask) -> Call<'a, Answer> {
        let (script, time) = match self.algorithm {
            Algorithm::Gcra => (&GCRA, self.interval),
            Algorithm::SlidingLog => (&SLIDING_LOG, self.period),
            Algorithm::FixedWindow => (&FIXED_WINDOW, self.period.div_ceil(1_000)),
        };
        let call = conn.script(script).key(self.key(stem));
        let call = call.arg(time).arg(self.limit.get()).arg(ask.cost.get()).arg(ask.consumes);
        match self.algorithm {
            Algorithm::SlidingLog => call.arg(Token::<16>::random().as_bytes().as_slice()).run(),
            Algorithm::Gcra | Algorithm::FixedWindow => call.run(),
        }
    }
}
