use std::{sync::LazyLock, time::Duration};

use redbrick_core_conn::Arg;
use tokio::time::Instant;

use crate::{Error, time::jittered};

/// The shortest lease that is accepted: less is over before its answer comes.
pub const SHORTEST_LEASE: Duration = Duration::from_millis(10);

/// The longest lease that is accepted: a lock for ever is one that nobody gives back.
pub const LONGEST_LEASE: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// How long something is held unless it is renewed; checked.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Lease(Duration);

impl Lease {
    pub(crate) fn new(lease: Duration) -> Result<Self, Error> {
        match (SHORTEST_LEASE..=LONGEST_LEASE).contains(&lease) {
            true => Ok(Self(lease)),
            false => Err(Error::Lease),
        }
    }

    pub(crate) fn duration(self) -> Duration {
        self.0
    }

    /// When it is renewed that was asked for at `asked`: after a third, or up to an eighth of that sooner, so that many are renewed at once.
    pub(crate) fn renewal(self, asked: Instant) -> Instant {
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        let third = asked + self.0 / 3;
        let step = (self.0 / 24).as_nanos();
        let early = third.saturating_duration_since(*BEGAN).as_nanos() % step;
        third - Duration::from_nanos(u64::try_from(early).unwrap_or(0))
    }

    /// When a renewal that failed is tried again.
    pub(crate) fn again(self) -> Instant {
        Instant::now() + jittered(self.0 / 12)
    }

    /// Until when this process may rely on it, when it was asked for at `asked`: the server's clock may run faster, and
    /// counts in milliseconds.
    pub(crate) fn until(self, asked: Instant) -> Instant {
        until(asked, self.0)
    }
}

/// The same where so much was left of a lease.
pub(crate) fn until(asked: Instant, left: Duration) -> Instant {
    asked + left.saturating_sub(left / 100 + Duration::from_millis(2))
}

impl From<Lease> for Arg {
    fn from(lease: Lease) -> Self {
        lease.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_here_before_it_ends_at_the_server() {
        let asked = Instant::now();
        for (lease, until) in [(10, 7_900), (1_000, 988_000), (30_000, 29_698_000)] {
            let lease = Lease::new(Duration::from_millis(lease)).unwrap();
            assert_eq!(lease.until(asked) - asked, Duration::from_micros(until));
        }
    }

    #[test]
    fn many_are_renewed_at_once_after_about_a_third() {
        let asked = Instant::now();
        let lease = Lease::new(Duration::from_secs(24)).unwrap();
        let mut renewals: Vec<_> =
            (0..1000).map(|n| lease.renewal(asked + Duration::from_millis(n))).collect();
        for (n, renewal) in (0..).zip(&renewals) {
            let after = *renewal - (asked + Duration::from_millis(n));
            assert!((Duration::from_secs(7)..=Duration::from_secs(8)).contains(&after));
        }
        renewals.dedup();
        assert!(renewals.len() <= 2, "{renewals:?}");
    }

    #[test]
    fn no_other_lease_is_accepted() {
        for lease in [Duration::ZERO, SHORTEST_LEASE / 2, LONGEST_LEASE * 2, Duration::MAX] {
            assert!(matches!(Lease::new(lease), Err(Error::Lease)), "{lease:?}");
        }
        for lease in [SHORTEST_LEASE, LONGEST_LEASE] {
            assert!(Lease::new(lease).is_ok());
        }
    }
}
