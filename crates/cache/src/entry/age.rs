//! How old an entry is, and what that means for whoever asks.

use std::time::Duration;

use tokio::runtime::Handle;

use crate::{
    cache::Inner,
    entry::{Head, NEVER_OVER},
    terms::Wanted,
};

/// How many times its cost an entry can be loaded ahead of its end: the logarithm of the smallest chance there is.
const FARTHEST: u64 = 23;

/// What the age of an entry means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Age {
    Fresh,
    /// It is fresh, and it is time to load it anew, so that nobody has to wait for that later.
    Due,
    /// Its time to live is over, and it is served while somebody loads it anew.
    Stale,
    /// It is served only when it cannot be loaded anew.
    Spare,
    /// It is not served.
    Over,
}

impl Age {
    pub(crate) fn is_fresh(self) -> bool {
        matches!(self, Self::Fresh | Self::Due)
    }

    /// Whether it is served while somebody loads it anew.
    pub(crate) fn is_served_meanwhile(self) -> bool {
        matches!(self, Self::Due | Self::Stale)
    }

    /// Whether it is served where it cannot be loaded anew.
    pub(crate) fn is_fallback(self) -> bool {
        self != Self::Over
    }
}

impl Inner {
    /// What time it is by the server's clock; nothing where it does not say so.
    pub(crate) async fn now(&self) -> Option<u64> {
        self.clock.told(|| self.time()).await
    }

    /// Has it asked for where that is due so long after the clock began; nobody waits for that.
    pub(crate) fn keep_time(&self, since: u64) {
        // A hit may be polled where nothing can be spawned.
        if self.clock.is_time(since) && Handle::try_current().is_ok() {
            drop(self.clock.asking(|| self.time()));
        }
    }

    fn time(&self) -> impl Future<Output = redbrick_core_conn::Result<Duration>> + Send + use<> {
        // For no longer than anybody waits.
        let patience = self.quick.command_timeout().min(self.conn.command_timeout());
        let conn = self.quick.with_command_timeout(patience);
        async move { Box::pin(conn.server_time()).await }
    }

    /// The age of an entry at `now`; fresh where the time is not known, since it is there.
    pub(crate) fn age(&self, entry: &Head, now: Option<u64>, wanted: Wanted<'_>) -> Age {
        let Some(now) = now else { return Age::Fresh };
        if now < entry.fresh_until || entry.fresh_until == NEVER_OVER {
            let left = entry.fresh_until.saturating_sub(now);
            let is_due = wanted.loads && self.settings.early_refresh && is_due(left, entry.cost);
            return if is_due { Age::Due } else { Age::Fresh };
        }
        let since = Duration::from_millis(now - entry.fresh_until);
        if entry.ends {
            Age::Over
        } else if since < wanted.stale {
            Age::Stale
        } else if since < self.settings.stale_if_error {
            Age::Spare
        } else {
            Age::Over
        }
    }
}

/// The moment so long after another one; never, when that is not known.
pub(crate) fn after(now: Option<u64>, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    now.map_or(NEVER_OVER, |now| now.saturating_add(millis))
}

/// Whether somebody is to load an entry anew that is fresh for so long still and took so long to load, in milliseconds: seldom
/// at first, and nearly always in the end, so that of many who ask one does it in time (`XFetch`: Vattani, Chierichetti, Lowenstein,
/// *Optimal Probabilistic Cache Stampede Prevention*, 2015, with β = 1).
fn is_due(left: u64, cost: u16) -> bool {
    if left > u64::from(cost) * FARTHEST {
        return false;
    }
    // Above 0, up to 1, so that its logarithm is zero or below.
    let chance = f64::from(fastrand::u32(1..)) / f64::from(u32::MAX);
    -f64::from(cost) * chance.ln() >= f64::from(u32::try_from(left).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_due_the_more_often_the_nearer_its_end_is_and_the_longer_it_takes_to_load() {
        let share = |left, cost| {
            let due = (0..20_000).filter(|_| is_due(left, cost)).count();
            f64::from(u32::try_from(due).unwrap()) / 20_000.0
        };
        assert!(share(0, 100) > 0.999);
        for (left, cost, expected) in [(100, 100, 0.368), (300, 100, 0.050), (300, 300, 0.368)] {
            let share = share(left, cost);
            assert!((share - expected).abs() < 0.02, "{left}, {cost}: {share}");
        }
        assert!(share(1, 0) < 0.001, "what was set is never due");
    }
}
