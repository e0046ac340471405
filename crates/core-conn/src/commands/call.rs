use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::{
    reply::{FromReply, Reply},
    request::Request,
};
use crate::{
    Codec, Conn, Error, ErrorKind, Replay, Result,
    conn::{Attempts, First, Manner, Route, Watch, Way},
    telemetry,
};

/// A command that has not been sent yet; awaiting it sends it.
///
/// Await it as it is, say more first, or give it to a [`Pipeline`](crate::Pipeline) or a
/// [`Transaction`](crate::Transaction). Polled again after it has ended, it panics, as futures do.
///
/// ```no_run
/// # use std::time::Duration;
/// # async fn f(conn: redbrick_core_conn::Conn) -> Result<(), redbrick_core_conn::Error> {
/// let name: Option<String> = conn.get("name").await?;
/// let name: Option<String> = conn.get("name").timeout(Duration::from_millis(50)).or_empty().await?;
/// # Ok(()) }
/// ```
#[must_use = "nothing is sent until it is awaited"]
pub struct Call<'a, T> {
    pub(super) read: Read<T>,
    pub(super) empty: fn() -> T,
    stage: Stage<'a, T>,
}

enum Stage<'a, T> {
    Told(Told<'a>),
    /// The first attempt is under way, on a link that was up.
    Sent(Sent<'a>),
    /// Anything else: it waits for a link, or another attempt is made.
    Rest(Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>),
    Over,
}

/// What a call was told before it is sent.
struct Told<'a> {
    conn: &'a Conn,
    request: Result<Request>,
    timeout: Option<Duration>,
    replay: Option<Replay>,
    or_empty: bool,
    alone: bool,
    waits: bool,
    route: Option<Route>,
}

struct Sent<'a> {
    attempts: Attempts<'a>,
    request: Request,
    /// Until it has ended.
    way: Option<Way>,
    watch: Option<Watch<'a>>,
    ending: Ending<'a>,
    span: Span,
}

/// What is made of the outcome.
#[derive(Clone, Copy)]
struct Ending<'a> {
    conn: &'a Conn,
    or_empty: bool,
    alone: bool,
}

/// Makes a value of what the server answered.
pub(super) type Read<T> = fn(Codec, Reply) -> Result<T>;

impl<'a, T: Default> Call<'a, T> {
    /// A call whose empty outcome is the default of its type.
    pub(super) fn new(conn: &'a Conn, request: Result<Request>, read: Read<T>) -> Self {
        let told = Told {
            conn,
            request,
            timeout: None,
            replay: None,
            or_empty: false,
            alone: false,
            waits: conn.waits(),
            route: None,
        };
        Self { read, empty: T::default, stage: Stage::Told(told) }
    }
}

impl<'a, T: FromReply + Default> Call<'a, T> {
    /// A call whose answer is read as its type says.
    pub(super) fn reading(conn: &'a Conn, request: Result<Request>) -> Self {
        Self::new(conn, request, |_, reply| T::from_reply(reply))
    }
}

impl<'a, T> Call<'a, T> {
    /// Sets how long this call may take in all; less than a millisecond counts as one.
    ///
    /// Default: the connection's [`command_timeout`](crate::ConfigBuilder::command_timeout). In a pipeline or a
    /// transaction, theirs counts.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.tell(|told| told.timeout = Some(timeout))
    }

    /// Says when this call may be sent again after a failure.
    ///
    /// Default: [`Replay::Idempotent`] for what only reads and for what does the same when done twice; otherwise
    /// [`Replay::IfUnsent`], as for counters, conditional `set`, pushes, pops, `trim` and scripts.
    pub fn replay(self, replay: Replay) -> Self {
        self.tell(|told| told.replay = Some(replay))
    }

    /// Answers with the empty outcome when the server cannot be reached, does not answer in time, or is in no
    /// state to serve: nothing read, `false`, zero or an empty list. While no link is up it does so at once. A write may
    /// have happened all the same.
    ///
    /// The failure is logged as a warning, at most once in [`WARNING_INTERVAL`](crate::WARNING_INTERVAL). What
    /// trying again cannot mend stays an error: a value of another type, a missing right, a closed connection.
    ///
    /// Default: every failure is an error.
    pub fn or_empty(self) -> Self {
        self.tell(|told| told.or_empty = true)
    }

    /// Sends this call by itself, where otherwise reads of many tasks, and calls of a
    /// [`BatchScript`](crate::BatchScript), leave together. For [`get`](Conn::get) this tells a key that holds another type of value
    /// from one that is missing.
    ///
    /// Default: together, except in a pipeline or a transaction.
    pub fn alone(self) -> Self {
        self.tell(|told| told.alone = true)
    }

    /// Fails at once when no link to the server is up, instead of waiting for one until the timeout: for what has another
    /// way to go on. A connection that was never up is given its first attempt. An optional connection fails as well.
    ///
    /// In a pipeline or a transaction it does not count; that of their connection does.
    ///
    /// Default: that of the handle, which waits unless it is one [`with_fail_fast`](Conn::with_fail_fast).
    pub fn fail_fast(self) -> Self {
        self.tell(|told| told.waits = false)
    }

    /// Fails when there is no server, also on a connection that is [`optional`](crate::ConfigBuilder::optional), where it
    /// does so at once: for what nobody but a server can grant, so that an empty outcome would be a lie.
    ///
    /// In a pipeline or a transaction it does not count.
    ///
    /// Default: an optional connection answers with the empty outcome.
    pub fn needs_server(self) -> Self {
        self.tell(|told| told.waits &= !told.conn.config().optional)
    }

    /// Sends it to a server of the caller's choice.
    pub(super) fn route(self, route: Route) -> Self {
        self.tell(|told| told.route = Some(route))
    }

    /// Changes what is asked.
    pub(super) fn alter(self, alter: impl FnOnce(Request) -> Result<Request>) -> Self {
        self.tell(|told| {
            let request = std::mem::replace(&mut told.request, Ok(Request::Known(Reply::Nil)));
            told.request = request.and_then(alter);
        })
    }

    /// Reads the answer in another way.
    pub(super) fn read_as<U: Default>(self, read: Read<U>) -> Call<'a, U> {
        let stage = match self.stage {
            Stage::Told(told) => Stage::Told(told),
            Stage::Sent(sent) => Stage::Sent(sent),
            Stage::Rest(_) | Stage::Over => Stage::Over,
        };
        Call { read, empty: U::default, stage }
    }

    /// Takes the request out, to be sent on `conn` in another way, with the codec that its answer is read by.
    pub(super) fn request(&mut self, conn: &Conn) -> (Codec, Result<Request>) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Told(told) if told.conn.is_same(conn) => (told.conn.codec(), told.request),
            Stage::Told(told) => {
                let what = "the call is of another connection than what it was added to";
                (told.conn.codec(), Err(Error::new(ErrorKind::InvalidArgument, what)))
            }
            Stage::Sent(_) | Stage::Rest(_) | Stage::Over => {
                let what = "a call that is being awaited already cannot be part of something else";
                (conn.codec(), Err(Error::new(ErrorKind::InvalidArgument, what)))
            }
        }
    }

    pub(super) fn is_or_empty(&self) -> bool {
        matches!(&self.stage, Stage::Told(told) if told.or_empty)
    }

    fn tell(mut self, tell: impl FnOnce(&mut Told<'a>)) -> Self {
        if let Stage::Told(told) = &mut self.stage {
            tell(told);
        }
        self
    }
}

impl<'a> Told<'a> {
    fn name(&self) -> &'static str {
        self.request.as_ref().map_or("none", Request::name)
    }

    /// Makes the first attempt, together with other calls or over a link that is up, or leaves all of it to the rest.
    #[inline]
    fn send<T: 'a>(
        self,
        read: Read<T>,
        empty: fn() -> T,
        cx: &mut Context<'_>,
    ) -> Result<Stage<'a, T>> {
        let span = telemetry::span(self.name());
        let Self { conn, request, timeout, replay, or_empty, alone, waits, route } = self;
        let request = request?;
        conn.check_slots(request.keys())?;
        let said = conn.manner_of(&request);
        let manner = Manner {
            route: route.unwrap_or(said.route),
            replay: replay.unwrap_or(said.replay),
            read_from: said.read_from,
            timeout: timeout.unwrap_or(said.timeout),
            waits,
        };
        let ending = Ending { conn, or_empty, alone };
        let attempts = match conn.attempts(manner) {
            Ok(attempts) => attempts,
            Err(err) => {
                let now = Instant::now();
                let over = async move {
                    ending.conclude(&request, (now, now), &span, Err(err), read, empty)
                };
                return Ok(Stage::Rest(Box::pin(over)));
            }
        };
        Ok(match attempts.first(&request, alone, cx) {
            Some(way) => {
                // Who has joined others is woken when there is something to see, also by whoever watches its time.
                let watch = match &way {
                    Way::Together(waiting) if !waiting.is_watched() => Some(attempts.watch(cx)),
                    _ => None,
                };
                let way = Some(way);
                Stage::Sent(Sent { attempts, request, way, watch, ending, span })
            }
            None => {
                let rest = ending.rest(attempts, request, span.clone(), None, read, empty);
                Stage::Rest(Box::pin(rest.instrument(span)))
            }
        })
    }
}

impl Ending<'_> {
    /// Goes on after the first attempt, which has failed, or was none.
    async fn rest<T>(
        self,
        mut attempts: Attempts<'_>,
        request: Request,
        span: Span,
        failed: Option<Error>,
        read: Read<T>,
        empty: fn() -> T,
    ) -> Result<T> {
        let (manner, deadline) = (attempts.manner(), attempts.deadline());
        if failed.is_none()
            && manner.waits
            && self.conn.does_without(manner, deadline, self.or_empty).await
        {
            return Ok(empty());
        }
        let outcome = attempts.run(&request, failed).await;
        let times = (attempts.began(), Instant::now());
        self.conclude(&request, times, &span, outcome, read, empty)
    }

    /// Makes a value of what the server answered between two moments.
    fn conclude<T>(
        self,
        request: &Request,
        (began, ended): (Instant, Instant),
        span: &Span,
        outcome: Result<Reply>,
        read: Read<T>,
        empty: fn() -> T,
    ) -> Result<T> {
        let conn = self.conn;
        let located = |err| Label::of(request).on(&conn.config().key_prefix, err);
        let reply = match outcome.and_then(|answer| conn.reply_of(request, answer)) {
            Err(err) if self.counts_as_missing(request, &err) => Ok(Reply::Nil),
            reply => reply.map_err(located),
        };
        let is_answered = reply.is_ok();
        let value = reply.and_then(|reply| read(conn.codec(), reply).map_err(located));
        conn.telemetry().ended(request.name(), began, ended, value.as_ref().err());
        let err = match value {
            Ok(value) => return Ok(value),
            Err(err) => err,
        };
        telemetry::failed(span, &err);
        if !is_answered && conn.makes_do(self.or_empty, &err) { Ok(empty()) } else { Err(err) }
    }

    /// Whether a key holds another type of value than is read. Among others that would be the same as missing, so it is by
    /// itself, unless the caller wants to be told.
    fn counts_as_missing(self, request: &Request, err: &Error) -> bool {
        matches!(request, Request::Get(_)) && err.kind() == ErrorKind::WrongType && !self.alone
    }
}

impl<'a, T: 'a> Future for Call<'a, T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let Self { read, empty, stage } = self.get_mut();
        let (read, empty) = (*read, *empty);
        loop {
            match stage {
                Stage::Sent(sent) => {
                    let (outcome, at) = ready!(sent.poll(cx));
                    let failed = match outcome {
                        Ok(reply) => {
                            let times = (sent.attempts.began(), at);
                            let (ending, span) = (sent.ending, &sent.span);
                            let answer =
                                ending.conclude(&sent.request, times, span, Ok(reply), read, empty);
                            *stage = Stage::Over;
                            return Poll::Ready(answer);
                        }
                        Err(First::Failed(err)) => Some(err),
                        Err(First::NotTried) => None,
                    };
                    let Stage::Sent(sent) = std::mem::replace(stage, Stage::Over) else { continue };
                    let Sent { attempts, request, ending, span, .. } = sent;
                    let rest = ending.rest(attempts, request, span.clone(), failed, read, empty);
                    *stage = Stage::Rest(Box::pin(rest.instrument(span)));
                }
                Stage::Rest(rest) => {
                    let outcome = ready!(rest.as_mut().poll(cx));
                    *stage = Stage::Over;
                    return Poll::Ready(outcome);
                }
                Stage::Told(_) => {
                    let Stage::Told(told) = std::mem::replace(stage, Stage::Over) else { continue };
                    if let Ok(Request::Known(reply)) = told.request {
                        return Poll::Ready(read(told.conn.codec(), reply));
                    }
                    *stage = told.send(read, empty, cx)?;
                    if matches!(stage, Stage::Sent(Sent { way: Some(Way::Together(_)), .. })) {
                        return Poll::Pending;
                    }
                }
                Stage::Over => panic!("a call was polled after it had ended"),
            }
        }
    }
}

impl Sent<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Result<Reply, First>, Instant)> {
        let _entered = self.span.enter();
        if let Poll::Ready(ended) = self.attempts.poll_first(&mut self.way, &self.request, cx) {
            return Poll::Ready(ended);
        }
        let mut over = self.watch.as_mut().and_then(|watch| watch.is_over(cx));
        if over.is_none() {
            // Its time may have been watched by somebody else until now.
            let is_late = self.way.as_ref().is_some_and(Way::is_watched)
                && Instant::now() >= self.attempts.deadline();
            over = is_late.then_some(true);
            self.watch = Some(self.attempts.watch(cx));
        }
        if over == Some(true) {
            self.way = None;
            let timeout = self.attempts.manner().timeout;
            let late = Error::timeout(Some(timeout));
            Poll::Ready((Err(First::Failed(late)), Instant::now()))
        } else {
            Poll::Pending
        }
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

impl<T> fmt::Debug for Call<'_, T> {
    /// Shows neither keys nor values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = match &self.stage {
            Stage::Told(told) => told.name(),
            Stage::Sent(sent) => sent.request.name(),
            Stage::Rest(_) => "waiting",
            Stage::Over => "over",
        };
        f.debug_struct("Call").field("command", &command).finish_non_exhaustive()
    }
}
