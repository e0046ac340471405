//! What bricks count.

#[cfg(feature = "metrics")]
use std::sync::OnceLock;
use std::time::Duration;

#[cfg(feature = "metrics")]
use ::metrics::{Key, Label, Unit};

#[cfg(feature = "metrics")]
use super::instrument::Instrument;

/// Of so many names each has a label; what comes after them shares one, `other`.
#[cfg(feature = "metrics")]
const MOST_NAMES: usize = 64;

/// A metric that counts, for what is built on a connection; it does nothing unless the feature `metrics` is on.
///
/// It has at most one label, `redbrick.name`: what the application's developer called the cache, the limiter and so on, of
/// which there are few. Of more than 64 names the later ones are counted as `other`. Nothing that a user can choose belongs
/// there.
///
/// ```
/// use redbrick_core_conn::Counter;
///
/// static SENT: Counter = Counter::new("shop.mails.sent", "Mails that were handed to the mail server");
///
/// SENT.add(1, "orders");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Counter {
    #[cfg(feature = "metrics")]
    keys: Keys,
}

/// A metric of durations, in seconds; otherwise as [`Counter`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Histogram {
    #[cfg(feature = "metrics")]
    keys: Keys,
}

impl Counter {
    /// A counter called `name`, with what it counts as recorders show it.
    #[must_use]
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "nothing is counted"))]
    pub const fn new(name: &'static str, about: &'static str) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            keys: Keys::new(Instrument::new(name, Unit::Count, about)),
        }
    }

    /// Counts `count` more under `name`; under none when that is empty.
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "nothing is counted"))]
    pub fn add(&self, count: u64, name: &str) {
        #[cfg(feature = "metrics")]
        if count > 0 {
            self.keys.metric.count(self.keys.of(name), count);
        }
    }
}

impl Histogram {
    /// A histogram called `name`, with what it measures as recorders show it.
    #[must_use]
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "nothing is measured"))]
    pub const fn new(name: &'static str, about: &'static str) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            keys: Keys::new(Instrument::new(name, Unit::Seconds, about)),
        }
    }

    /// Adds a duration under `name`; under none when that is empty.
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "nothing is measured"))]
    pub fn record(&self, took: Duration, name: &str) {
        #[cfg(feature = "metrics")]
        self.keys.metric.record(self.keys.of(name), took.as_secs_f64());
    }
}

/// A metric with a key for each name, which is made once. Few names are found faster in a row than in a map.
#[cfg(feature = "metrics")]
#[derive(Debug)]
struct Keys {
    metric: Instrument,
    first: OnceLock<Box<Named>>,
    other: OnceLock<Key>,
}

#[cfg(feature = "metrics")]
#[derive(Debug)]
struct Named {
    name: Box<str>,
    key: Key,
    next: OnceLock<Box<Self>>,
}

#[cfg(feature = "metrics")]
impl Keys {
    const fn new(metric: Instrument) -> Self {
        Self { metric, first: OnceLock::new(), other: OnceLock::new() }
    }

    fn of(&self, name: &str) -> &Key {
        let mut place = &self.first;
        for _ in 0..MOST_NAMES {
            let named = place.get_or_init(|| {
                let key = self.key(name);
                Box::new(Named { name: name.into(), key, next: OnceLock::new() })
            });
            if *named.name == *name {
                return &named.key;
            }
            place = &named.next;
        }
        self.other.get_or_init(|| self.key("other"))
    }

    fn key(&self, name: &str) -> Key {
        let label = || Label::new("redbrick.name", name.to_owned());
        let labels: Vec<Label> = (!name.is_empty()).then(label).into_iter().collect();
        Key::from_parts(self.metric.name(), labels)
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use super::*;

    fn label(key: &Key) -> Option<&str> {
        key.labels().next().map(Label::value)
    }

    #[test]
    fn a_name_has_one_key_and_too_many_share_one() {
        let counter = Counter::new("a.b", "c");
        let keys = &counter.keys;
        assert_eq!(label(keys.of("")), None);
        assert!(std::ptr::eq(keys.of("x"), keys.of("x")));
        for n in 2..MOST_NAMES {
            assert_eq!(label(keys.of(&format!("n{n}"))), Some(&*format!("n{n}")));
        }
        assert_eq!(label(keys.of("late")), Some("other"));
        assert_eq!(label(keys.of("later")), Some("other"));
        assert_eq!(label(keys.of("x")), Some("x"), "those before keep theirs");
    }
}
