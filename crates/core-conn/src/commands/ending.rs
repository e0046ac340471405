//! What is made of the outcome of a call.

use tokio::time::Instant;
use tracing::Span;

use super::{reply::Reply, request::Request};
use crate::{Codec, Conn, Error, ErrorKind, Result, conn::Attempts, telemetry};

/// Makes a value of what the server answered.
pub(super) type Read<T> = fn(Codec, Reply) -> Result<T>;

/// What is made of the outcome of a call.
pub(super) struct Ending<'a, T> {
    pub(super) conn: &'a Conn,
    pub(super) or_empty: bool,
    pub(super) alone: bool,
    pub(super) read: Read<T>,
    pub(super) empty: fn() -> T,
}

impl<T> Clone for Ending<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Ending<'_, T> {}

impl<T> Ending<'_, T> {
    /// Goes on after the first attempt, which has failed, or was none.
    pub(super) async fn rest(
        self,
        mut attempts: Attempts<'_>,
        request: Request,
        span: Span,
        failed: Option<Error>,
    ) -> Result<T> {
        let (manner, deadline) = (attempts.manner(), attempts.deadline());
        if failed.is_none()
            && manner.waits
            && self.conn.does_without(manner, deadline, self.or_empty).await
        {
            return Ok((self.empty)());
        }
        let outcome = attempts.run(&request, failed).await;
        self.conclude(&request, (attempts.began(), Instant::now()), &span, outcome)
    }

    /// Makes a value of what the server answered between two moments.
    pub(super) fn conclude(
        self,
        request: &Request,
        (began, ended): (Instant, Instant),
        span: &Span,
        outcome: Result<Reply>,
    ) -> Result<T> {
        let conn = self.conn;
        let located = |err| Label::of(request).on(&conn.config().key_prefix, err);
        let reply = match outcome.and_then(|answer| conn.reply_of(request, answer)) {
            Err(err) if self.counts_as_missing(request, &err) => Ok(Reply::Nil),
            reply => reply.map_err(located),
        };
        let is_answered = reply.is_ok();
        let value = reply.and_then(|reply| (self.read)(conn.codec(), reply).map_err(located));
        conn.telemetry().ended(request.name(), began, ended, value.as_ref().err());
        let err = match value {
            Ok(value) => return Ok(value),
            Err(err) => err,
        };
        telemetry::failed(span, &err);
        if !is_answered && conn.makes_do(self.or_empty, &err) {
            Ok((self.empty)())
        } else {
            Err(err)
        }
    }

    /// Whether a key holds another type of value than is read. Among others that would be the same as missing, so it is by
    /// itself, unless the caller wants to be told.
    fn counts_as_missing(self, request: &Request, err: &Error) -> bool {
        matches!(request, Request::Get(_)) && err.kind() == ErrorKind::WrongType && !self.alone
    }
}

impl Conn {
    /// An error that says of which command it is, and below which prefix.
    pub(crate) fn located(&self, name: &'static str, err: Error) -> Error {
        Label::new(name, true).on(&self.config().key_prefix, err)
    }

    /// Sends a request until it is answered, and unwraps the answer.
    ///
    /// Not as a call, which an optional connection answers with nothing: what asks about the server fails at once there.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Reply> {
        if self.config().optional
            && let Some(outage) = self.outage()
        {
            return Err(outage);
        }
        let mut attempts = self.attempts(self.manner_of(request))?;
        let outcome = attempts.run(request, None).await;
        let outcome = outcome.and_then(|value| self.reply_of(request, value));
        let failed = outcome.as_ref().err();
        self.telemetry().ended(request.name(), attempts.began(), Instant::now(), failed);
        outcome
    }
}

/// What an error says of the call that failed: the command, or the script, and below which prefix. A key itself may be
/// a secret.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label {
    name: &'static str,
    has_keys: bool,
}

impl Label {
    pub(super) fn new(name: &'static str, has_keys: bool) -> Self {
        Self { name, has_keys }
    }

    pub(super) fn of(request: &Request) -> Self {
        Self::new(request.name(), !request.keys().is_empty())
    }

    pub(super) fn on(self, prefix: &str, err: Error) -> Error {
        if prefix.is_empty() || !self.has_keys {
            err.context(self.name)
        } else {
            err.context(&format!("{} of `{prefix}*`", self.name))
        }
    }
}
