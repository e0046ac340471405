//! The span of a call, with the names that an OpenTelemetry layer looks for.

use tracing::{Span, field::Empty};

use super::outcome::{code, error_type};
use crate::Error;

/// The span of a call of `name`. While nobody listens it costs what any span does.
pub(crate) fn span(name: &'static str) -> Span {
    tracing::debug_span!(
        "core_conn.call",
        command = name,
        otel.name = name,
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = "redis",
        db.operation.name = name,
        db.response.status_code = Empty,
        error.r#type = Empty,
    )
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
