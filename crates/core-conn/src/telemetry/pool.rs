//! What is told of links: per name of a connection, not per connection, of which a process may have many.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use ::metrics::{Key, Label, Unit};

use super::{Now, Replaced, instrument::Instrument};

/// The name of a connection that has none.
const UNNAMED: &str = "redis";

static LINKS: Instrument = Instrument::new(
    "redbrick.connection.count",
    Unit::Count,
    "How many links for commands, reads and transactions there are, up or down",
);
static PENDING: Instrument = Instrument::new(
    "redbrick.calls.waiting",
    Unit::Count,
    "How many calls wait for a link or an answer",
);
static TIMEOUTS: Instrument = Instrument::new(
    "redbrick.operation.timeouts",
    Unit::Count,
    "How many operations had no answer in time",
);
static LOST: Instrument =
    Instrument::new("redbrick.connection.lost", Unit::Count, "How many links were lost");
static RECONNECTS: Instrument = Instrument::new(
    "redbrick.connection.reconnects",
    Unit::Count,
    "How many links came up in the place of one that was lost",
);
static REPLACED: Instrument = Instrument::new(
    "redbrick.connection.replaced",
    Unit::Count,
    "How many links gave their place to another while they were up",
);

static POOLS: Mutex<BTreeMap<String, Weak<Pool>>> = Mutex::new(BTreeMap::new());

/// The connections of one name, whose gauges add up.
struct Pool {
    up: Key,
    down: Key,
    pending: Key,
    timeouts: Key,
    lost: Key,
    reconnects: Key,
    stuck: Key,
    moved: Key,
    sum: Mutex<Now>,
}

/// What one connection adds to the gauges of its name, until this is dropped.
pub(super) struct Share {
    pool: Arc<Pool>,
    given: Mutex<Now>,
}

impl Share {
    pub(super) fn new(name: Option<&str>) -> Self {
        let name = name.unwrap_or(UNNAMED);
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = pools.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
            pools.retain(|_, pool| pool.strong_count() > 0);
            let pool = Arc::new(Pool::new(name));
            pools.insert(name.to_owned(), Arc::downgrade(&pool));
            pool
        });
        Self { pool, given: Mutex::default() }
    }

    pub(super) fn timeout(&self) {
        TIMEOUTS.count(&self.pool.timeouts, 1);
    }

    pub(super) fn lost(&self) {
        LOST.count(&self.pool.lost, 1);
    }

    pub(super) fn reconnected(&self) {
        RECONNECTS.count(&self.pool.reconnects, 1);
    }

    pub(super) fn replaced(&self, why: Replaced) {
        let key = match why {
            Replaced::Stuck => &self.pool.stuck,
            Replaced::Moved => &self.pool.moved,
        };
        REPLACED.count(key, 1);
    }

    /// Sets what this connection adds from now on.
    pub(super) fn set(&self, now: Now) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        // Held until the gauges are set, so that they are set in this order.
        let mut sum = self.pool.sum.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = |sum: u64, given: u64, now: u64| (sum + now).saturating_sub(given);
        *sum = Now {
            links_up: moved(sum.links_up, given.links_up, now.links_up),
            links_down: moved(sum.links_down, given.links_down, now.links_down),
            calls_waiting: moved(sum.calls_waiting, given.calls_waiting, now.calls_waiting),
        };
        *given = now;
        LINKS.set(&self.pool.up, as_f64(sum.links_up));
        LINKS.set(&self.pool.down, as_f64(sum.links_down));
        PENDING.set(&self.pool.pending, as_f64(sum.calls_waiting));
        // So that the first one is seen as a step from zero.
        let pool = &self.pool;
        TIMEOUTS.count(&pool.timeouts, 0);
        LOST.count(&pool.lost, 0);
        RECONNECTS.count(&pool.reconnects, 0);
        [&pool.stuck, &pool.moved].into_iter().for_each(|key| REPLACED.count(key, 0));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let given = *self.given.get_mut().unwrap_or_else(PoisonError::into_inner);
        if given != Now::default() {
            self.set(Now::default());
        }
    }
}

impl Pool {
    fn new(name: &str) -> Self {
        // Shared by the keys.
        let name: Arc<str> = name.into();
        let key = |of: &Instrument, more: Option<(&'static str, &'static str)>| {
            let mut labels = vec![Label::new("db.client.connection.pool.name", Arc::clone(&name))];
            labels.extend(more.map(|(key, value)| Label::from_static_parts(key, value)));
            Key::from_parts(of.name(), labels)
        };
        let state = |state| Some(("redbrick.state", state));
        let reason = |reason| Some(("redbrick.reason", reason));
        Self {
            up: key(&LINKS, state("up")),
            down: key(&LINKS, state("down")),
            pending: key(&PENDING, None),
            timeouts: key(&TIMEOUTS, None),
            lost: key(&LOST, None),
            reconnects: key(&RECONNECTS, None),
            stuck: key(&REPLACED, reason("stuck")),
            moved: key(&REPLACED, reason("moved")),
            sum: Mutex::default(),
        }
    }
}

/// Exact up to four billions.
fn as_f64(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(links_up: u64, links_down: u64, calls_waiting: u64) -> Now {
        Now { links_up, links_down, calls_waiting }
    }

    #[test]
    fn connections_of_one_name_add_up_and_those_of_another_do_not() {
        let (a, b) = (Share::new(Some("sum")), Share::new(Some("sum")));
        let other = Share::new(Some("other sum"));
        other.set(now(100, 100, 100));
        a.set(now(1, 2, 3));
        b.set(now(10, 0, 5));
        a.set(now(2, 1, 0));
        let sum = |share: &Share| *share.pool.sum.lock().unwrap();
        assert_eq!(sum(&a), now(12, 1, 5));
        drop(b);
        assert_eq!(sum(&a), now(2, 1, 0), "what is gone adds nothing");
    }
}
