//! The span of a call, with the names that an OpenTelemetry layer looks for.

use tracing::{Instrument, Span, field::Empty};

use super::outcome::{code, error_type};
use crate::{Error, Result};

/// A span of something that is asked of the server. While nobody listens it costs what any span does.
macro_rules! span {
    ($span:literal, $name:expr $(, $field:ident = $value:expr)?) => {
        tracing::debug_span!(
            $span,
            $($field = $value,)?
            otel.name = $name,
            otel.kind = "client",
            otel.status_code = Empty,
            db.system.name = "redis",
            db.operation.name = $name,
            db.response.status_code = Empty,
            error.r#type = Empty,
        )
    };
}

/// The span of a call of `name`.
pub(crate) fn span(name: &'static str) -> Span {
    span!("core_conn.call", name, command = name)
}

/// The span of so many calls that go out at once.
pub(crate) fn pipeline(calls: usize) -> Span {
    span!("core_conn.pipeline", "PIPELINE", calls = calls)
}

/// The span of so many calls that run as one.
pub(crate) fn transaction(calls: usize) -> Span {
    span!("core_conn.transaction", "MULTI", calls = calls)
}

/// The span of a call that waits at the server.
pub(crate) fn waiting(name: &'static str) -> Span {
    span!("core_conn.pop_within", name)
}

/// Runs an operation within its span, and notes there how it failed, if it did.
pub(crate) async fn within<T>(span: Span, operation: impl Future<Output = Result<T>>) -> Result<T> {
    let outcome = operation.instrument(span.clone()).await;
    if let Err(err) = &outcome {
        failed(&span, err);
    }
    outcome
}

/// Notes on a span that its operation failed, and how.
pub(crate) fn failed(span: &Span, err: &Error) {
    if span.is_disabled() {
        return;
    }
    span.record("otel.status_code", "ERROR");
    span.record("error.type", error_type(err));
    if let Some(code) = code(err) {
        span.record("db.response.status_code", code);
    }
}
