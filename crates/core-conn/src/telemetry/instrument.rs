//! A metric, whatever its labels.

use std::sync::atomic::{AtomicUsize, Ordering};

use ::metrics::{Key, KeyName, Level, Metadata, Recorder, Unit, with_recorder};

static METADATA: Metadata<'static> =
    Metadata::new("redbrick_core_conn", Level::INFO, Some(module_path!()));

/// A metric, whatever its labels. Each value goes to the recorder of the moment, which so may be installed at any time,
/// and which is told first what the metric means.
#[derive(Debug)]
pub(super) struct Instrument {
    name: &'static str,
    unit: Unit,
    about: &'static str,
    /// Where the recorder lies that was told last.
    told: AtomicUsize,
}

impl Instrument {
    pub(super) const fn new(name: &'static str, unit: Unit, about: &'static str) -> Self {
        Self { name, unit, about, told: AtomicUsize::new(0) }
    }

    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// Adds to a counter.
    pub(super) fn count(&self, key: &Key, by: u64) {
        with_recorder(|recorder| {
            if self.is_new_to(recorder) {
                recorder.describe_counter(self.key_name(), Some(self.unit), self.about.into());
            }
            recorder.register_counter(key, &METADATA).increment(by);
        });
    }

    /// Sets a gauge.
    pub(super) fn set(&self, key: &Key, value: f64) {
        with_recorder(|recorder| {
            if self.is_new_to(recorder) {
                recorder.describe_gauge(self.key_name(), Some(self.unit), self.about.into());
            }
            recorder.register_gauge(key, &METADATA).set(value);
        });
    }

    /// Adds a value to a histogram.
    pub(super) fn record(&self, key: &Key, value: f64) {
        with_recorder(|recorder| {
            if self.is_new_to(recorder) {
                recorder.describe_histogram(self.key_name(), Some(self.unit), self.about.into());
            }
            recorder.register_histogram(key, &METADATA).record(value);
        });
    }

    fn key_name(&self) -> KeyName {
        KeyName::from_const_str(self.name)
    }

    fn is_new_to(&self, recorder: &dyn Recorder) -> bool {
        let here = std::ptr::from_ref(recorder).cast::<()>().addr();
        // Told twice is no harm.
        let is_new = self.told.load(Ordering::Relaxed) != here;
        if is_new {
            self.told.store(here, Ordering::Relaxed);
        }
        is_new
    }
}
