//! What a connection tells about itself: counts, metrics, slow operations, spans.
//!
//! The counts are always kept and cost an addition for each round trip. Metrics go through the facade `metrics` where the
//! feature of that name is on. No key, no value and no address is in any of it.

#[cfg(feature = "metrics")]
mod instrument;
mod meter;
#[cfg(feature = "metrics")]
mod operations;
mod outcome;
#[cfg(feature = "metrics")]
mod pool;
mod slow;
mod span;
mod statistics;

use tokio::time::Instant;

pub use meter::{Counter, Histogram};
pub(crate) use span::{failed, pipeline, span, transaction, waiting, within};
pub(crate) use statistics::Now;
pub use statistics::Statistics;

use crate::{Config, Error, ErrorKind};
#[cfg(feature = "metrics")]
use pool::Share;
use slow::Slow;
use statistics::Counts;

/// What a connection tells about itself.
pub(crate) struct Telemetry {
    counts: Counts,
    slow: Slow,
    #[cfg(feature = "metrics")]
    share: Share,
}

/// What became so far of a link's place: a link that comes up is the first one there, or one that was made anew.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Presence {
    was_made: bool,
    is_up: bool,
}

/// Why a link that works gave its place to another one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Replaced {
    /// Nothing arrived over it any more.
    Stuck,
    /// The other one has newer credentials, or leads to a server that takes writes.
    Moved,
}

impl Telemetry {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            counts: Counts::default(),
            slow: Slow::new(config.slow_threshold),
            #[cfg(feature = "metrics")]
            share: Share::new(config.client_name.as_deref()),
        }
    }

    /// Something goes out that is waited for as one.
    pub(crate) fn sent(&self) {
        self.counts.sent();
    }

    /// Calls of several callers go out as one; [`sent`](Self::sent) is said besides.
    pub(crate) fn gathered(&self, calls: usize) {
        self.counts.gathered(calls);
        #[cfg(feature = "metrics")]
        operations::gathered(calls);
    }

    /// An operation has ended, `failed` or not: whatever an `or_empty` makes of the failure.
    pub(crate) fn ended(
        &self,
        name: &'static str,
        began: Instant,
        ended: Instant,
        failed: Option<&Error>,
    ) {
        self.waited(name, began, ended, failed);
        let took = ended.saturating_duration_since(began);
        if self.slow.is_slow(took) {
            self.counts.slow();
            self.slow.report(name, took, ended, failed);
        }
    }

    /// An operation has ended that waits as long as it was told to, which is not slow.
    pub(crate) fn waited(
        &self,
        name: &'static str,
        began: Instant,
        ended: Instant,
        failed: Option<&Error>,
    ) {
        #[cfg(feature = "metrics")]
        operations::ended(name, ended.saturating_duration_since(began), failed);
        #[cfg(not(feature = "metrics"))]
        let _ = (name, began, ended);
        if failed.is_some_and(|err| err.kind() == ErrorKind::Timeout) {
            self.counts.timeout();
            #[cfg(feature = "metrics")]
            self.share.timeout();
        }
    }

    /// A link came up.
    pub(crate) fn up(&self, presence: &mut Presence) {
        presence.is_up = true;
        if std::mem::replace(&mut presence.was_made, true) {
            self.counts.reconnected();
            #[cfg(feature = "metrics")]
            self.share.reconnected();
        } else {
            self.counts.made();
        }
    }

    /// A link is down, if it was up.
    pub(crate) fn down(&self, presence: &mut Presence) {
        if std::mem::take(&mut presence.is_up) {
            self.counts.lost();
            #[cfg(feature = "metrics")]
            self.share.lost();
        }
    }

    /// A link took the place of one that was up.
    pub(crate) fn replaced(&self, why: Replaced) {
        self.counts.replaced();
        #[cfg(feature = "metrics")]
        self.share.replaced(why);
        #[cfg(not(feature = "metrics"))]
        let _ = why;
    }

    /// Publishes what is the case now.
    #[cfg(feature = "metrics")]
    pub(crate) fn now(&self, now: Now) {
        self.share.set(now);
    }

    pub(crate) fn statistics(&self, now: Now) -> Statistics {
        self.counts.read(now)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fmt,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use tracing::{
        Event, Metadata, Span, Subscriber,
        field::{Field, Visit},
        span::{Attributes, Id, Record},
    };

    use super::*;

    /// Writes down what spans and events hold.
    #[derive(Clone, Default)]
    struct Spans(Arc<Mutex<Vec<String>>>);

    impl Visit for Spans {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0.lock().unwrap().push(format!("{}={value:?}", field.name()));
        }
    }

    impl Subscriber for Spans {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, span: &Attributes<'_>) -> Id {
            span.record(&mut self.clone());
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, values: &Record<'_>) {
            values.record(&mut self.clone());
        }
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            event.record(&mut self.clone());
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_span_has_the_names_that_opentelemetry_gives_and_says_how_its_call_failed() {
        let spans = Spans::default();
        tracing::subscriber::with_default(spans.clone(), || {
            let span = span("GET");
            failed(&span, &Error::new(ErrorKind::WrongType, "x").with_code("WRONGTYPE", None));
        });
        let expected = [
            "command=\"GET\"",
            "otel.name=\"GET\"",
            "otel.kind=\"client\"",
            "db.system.name=\"redis\"",
            "db.operation.name=\"GET\"",
            "otel.status_code=\"ERROR\"",
            "error.type=\"WRONGTYPE\"",
            "db.response.status_code=\"WRONGTYPE\"",
        ];
        assert_eq!(*spans.0.lock().unwrap(), expected);
    }

    #[tokio::test]
    async fn what_is_no_single_call_says_so_and_how_it_failed() {
        for (span, says) in [
            (pipeline as fn(usize) -> Span, "calls=7 otel.name=\"PIPELINE\""),
            (transaction, "calls=7 otel.name=\"MULTI\""),
            (|_| waiting("BLPOP"), "otel.name=\"BLPOP\""),
        ] {
            let spans = Spans::default();
            let _guard = tracing::subscriber::set_default(spans.clone());
            let refused = async { Err::<(), _>(Error::busy()) };
            within(span(7), refused).await.unwrap_err();
            let said = spans.0.lock().unwrap().join(" ");
            assert!(said.starts_with(says), "{said}");
            assert!(said.ends_with("otel.status_code=\"ERROR\" error.type=\"busy\""), "{said}");
        }
    }

    #[test]
    fn one_slow_operation_in_a_second_is_logged_and_says_how_many_more_there_were() {
        let events = Spans::default();
        let telemetry = telemetry();
        let began = Instant::now();
        let end = |millis| began + Duration::from_millis(millis);
        let refused = Error::new(ErrorKind::WrongType, "hunter2").with_code("WRONGTYPE", None);
        tracing::subscriber::with_default(events.clone(), || {
            telemetry.ended("GET", began, end(1000), None);
            telemetry.ended("GET", began, end(1500), None);
            telemetry.ended("GET", began, end(1999), None);
            telemetry.ended("SET", began, end(2000), Some(&refused));
        });
        let expected = [
            "message=a slow operation",
            "command=\"GET\"",
            "took=1s",
            "outcome=\"ok\"",
            "more=0",
            "message=a slow operation",
            "command=\"SET\"",
            "took=2s",
            "outcome=\"WRONGTYPE\"",
            "more=2",
        ];
        assert_eq!(*events.0.lock().unwrap(), expected);
    }

    fn telemetry() -> Telemetry {
        Telemetry::new(&Config::builder().build().unwrap())
    }

    fn counted(telemetry: &Telemetry) -> Statistics {
        telemetry.statistics(Now::default())
    }

    #[test]
    fn a_batch_counts_with_the_calls_that_it_carried() {
        let telemetry = telemetry();
        telemetry.gathered(7);
        telemetry.sent();
        telemetry.gathered(2);
        telemetry.sent();
        let counted = counted(&telemetry);
        assert_eq!((counted.batches, counted.batched_calls, counted.round_trips), (2, 9, 2));
    }

    #[test]
    fn a_timeout_counts_and_another_failure_does_not() {
        let telemetry = telemetry();
        let now = Instant::now();
        telemetry.ended("GET", now, now, None);
        telemetry.ended("GET", now, now, Some(&Error::busy()));
        assert_eq!(counted(&telemetry), Statistics::default());
        telemetry.ended("GET", now, now, Some(&Error::timeout(None)));
        telemetry.waited("BLPOP", now, now, Some(&Error::timeout(None)));
        assert_eq!(counted(&telemetry).timeouts, 2);
    }

    #[test]
    fn slow_begins_at_the_threshold_and_waiting_as_told_is_not_slow() {
        let telemetry = telemetry();
        let began = Instant::now();
        let almost = began + Duration::from_nanos(999_999_999);
        let slow = began + Duration::from_secs(1);
        telemetry.ended("GET", began, almost, None);
        telemetry.waited("BLPOP", began, slow, None);
        assert_eq!(counted(&telemetry).slow_operations, 0);
        telemetry.ended("GET", began, slow, None);
        assert_eq!(counted(&telemetry).slow_operations, 1);
        // A clock that an operation's end was read from before its beginning.
        telemetry.ended("GET", slow, began, None);
        assert_eq!(counted(&telemetry).slow_operations, 1);
    }

    #[test]
    fn a_link_is_made_once_lost_when_it_was_up_and_made_anew_from_then_on() {
        let telemetry = telemetry();
        let mut presence = Presence::default();
        telemetry.down(&mut presence);
        telemetry.up(&mut presence);
        telemetry.down(&mut presence);
        telemetry.down(&mut presence);
        telemetry.up(&mut presence);
        telemetry.replaced(Replaced::Moved);
        let counted = counted(&telemetry);
        assert_eq!((counted.links_made, counted.links_lost), (1, 1));
        assert_eq!((counted.reconnects, counted.links_replaced), (1, 1));
    }
}
