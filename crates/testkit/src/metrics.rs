use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ::metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, LocalRecorderGuard,
    Metadata, Recorder, SharedString, Unit, set_default_local_recorder,
};

/// Writes down what code reports through the facade `metrics`. Needs the feature `metrics`.
///
/// A series is written `name{label=value,label=value}` with its labels in order, or `name` where it has none. Clones share
/// what they write down.
///
/// ```
/// use redbrick_testkit::Metrics;
///
/// let metrics = Metrics::new();
/// let listening = metrics.listen();
/// // … the code under test …
/// assert_eq!(metrics.counter("shop.orders{state=paid}"), 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Written>>);

#[derive(Debug, Default)]
struct Written {
    counters: BTreeMap<String, u64>,
    gauges: BTreeMap<String, f64>,
    histograms: BTreeMap<String, Vec<f64>>,
    described: BTreeMap<String, (Option<Unit>, String)>,
}

/// One series of a recorder.
struct Series(Metrics, String);

impl Metrics {
    /// Makes one that has written down nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes down what this thread reports until the guard is dropped. With a runtime on one thread, as `#[tokio::test]`
    /// makes it, that is a test with all its tasks.
    #[must_use = "it ends when this is dropped"]
    pub fn listen(&self) -> LocalRecorderGuard<'_> {
        set_default_local_recorder(self)
    }

    /// Returns the count of a series, which is zero where nothing was counted.
    #[must_use]
    pub fn counter(&self, series: &str) -> u64 {
        self.lock().counters.get(series).copied().unwrap_or_default()
    }

    /// Returns the value of a series, if it was ever set.
    #[must_use]
    pub fn gauge(&self, series: &str) -> Option<f64> {
        self.lock().gauges.get(series).copied()
    }

    /// Returns the values of a series in the order in which they came.
    #[must_use]
    pub fn histogram(&self, series: &str) -> Vec<f64> {
        self.lock().histograms.get(series).cloned().unwrap_or_default()
    }

    /// Returns all series that something was reported for, in order.
    #[must_use]
    pub fn series(&self) -> Vec<String> {
        let written = self.lock();
        let mut all: Vec<String> = written.counters.keys().cloned().collect();
        all.extend(written.gauges.keys().cloned());
        all.extend(written.histograms.keys().cloned());
        all.sort_unstable();
        all
    }

    /// Returns the unit and the description of the metric `name`, if it has been described.
    #[must_use]
    pub fn described(&self, name: &str) -> Option<(Option<Unit>, String)> {
        self.lock().described.get(name).cloned()
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>, about: &SharedString) {
        self.lock().described.insert(name.as_str().to_owned(), (unit, about.to_string()));
    }

    fn of(&self, key: &Key) -> Arc<Series> {
        let mut labels: Vec<_> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        labels.sort_unstable();
        let labels = labels.join(",");
        let name = key.name();
        let series =
            if labels.is_empty() { name.to_owned() } else { format!("{name}{{{labels}}}") };
        Arc::new(Series(self.clone(), series))
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder for Metrics {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, &description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, &description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, &description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.of(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.of(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.of(key))
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        *self.0.lock().counters.entry(self.1.clone()).or_default() += value;
    }

    fn absolute(&self, value: u64) {
        let mut written = self.0.lock();
        let count = written.counters.entry(self.1.clone()).or_default();
        *count = value.max(*count);
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        *self.0.lock().gauges.entry(self.1.clone()).or_default() += value;
    }

    fn decrement(&self, value: f64) {
        *self.0.lock().gauges.entry(self.1.clone()).or_default() -= value;
    }

    fn set(&self, value: f64) {
        self.0.lock().gauges.insert(self.1.clone(), value);
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.0.lock().histograms.entry(self.1.clone()).or_default().push(value);
    }
}

#[cfg(test)]
mod tests {
    use ::metrics::{counter, gauge, histogram};

    use super::*;

    #[test]
    fn what_a_thread_reports_is_written_down_while_it_listens() {
        let metrics = Metrics::new();
        counter!("a").increment(1);
        {
            let _listening = metrics.listen();
            counter!("a", "y" => "2", "x" => "1").increment(2);
            counter!("a", "x" => "1", "y" => "2").increment(3);
            gauge!("b").set(4.0);
            histogram!("c").record(5.0);
            histogram!("c").record(6.0);
        }
        counter!("a").increment(1);
        assert_eq!(metrics.counter("a{x=1,y=2}"), 5);
        assert_eq!(metrics.gauge("b"), Some(4.0));
        assert_eq!(metrics.histogram("c"), [5.0, 6.0]);
        assert_eq!(metrics.series(), ["a{x=1,y=2}", "b", "c"]);
    }
}
