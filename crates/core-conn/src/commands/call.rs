use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::{
    ending::{Ending, Read},
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
    pub(super) ending: Ending<'a, T>,
    /// Stays where it is while the first attempt is made, as nearly every call needs no other: little is moved about.
    request: Result<Request>,
    told: Told,
    stage: Stage<'a, T>,
}

enum Stage<'a, T> {
    New,
    /// The first attempt is under way, on a link that was up.
    Sent(Sent<'a>),
    /// Anything else: it waits for a link, or another attempt is made.
    Rest(Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>),
    Over,
}

/// How a call was told to be sent.
struct Told {
    timeout: Option<Duration>,
    replay: Option<Replay>,
    waits: bool,
    route: Option<Route>,
}

struct Sent<'a> {
    attempts: Attempts<'a>,
    /// Until it has ended.
    way: Option<Way<'a>>,
    watch: Option<Watch<'a>>,
    span: Span,
}

impl<'a, T: Default> Call<'a, T> {
    /// A call whose empty outcome is the default of its type.
    pub(super) fn new(conn: &'a Conn, request: Result<Request>, read: Read<T>) -> Self {
        let ending = Ending { conn, or_empty: false, alone: false, read, empty: T::default };
        let told = Told { timeout: None, replay: None, waits: conn.waits(), route: None };
        Self { ending, request, told, stage: Stage::New }
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
        self.tell(|call| call.told.timeout = Some(timeout))
    }

    /// Says when this call may be sent again after a failure.
    ///
    /// Default: [`Replay::Idempotent`] for what only reads and for what does the same when done twice; otherwise
    /// [`Replay::IfUnsent`], as for counters, conditional `set`, pushes, pops, `trim` and scripts.
    pub fn replay(self, replay: Replay) -> Self {
        self.tell(|call| call.told.replay = Some(replay))
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
        self.tell(|call| call.ending.or_empty = true)
    }

    /// Sends this call by itself, where otherwise reads of many tasks, and calls of a
    /// [`BatchScript`](crate::BatchScript), leave together. For [`get`](Conn::get) this tells a key that holds another type of value
    /// from one that is missing.
    ///
    /// Default: together, except in a pipeline or a transaction.
    pub fn alone(self) -> Self {
        self.tell(|call| call.ending.alone = true)
    }

    /// Fails at once when no link to the server is up, instead of waiting for one until the timeout: for what has another
    /// way to go on. A connection that was never up is given its first attempt. An optional connection fails as well.
    ///
    /// In a pipeline or a transaction it does not count; that of their connection does.
    ///
    /// Default: that of the handle, which waits unless it is one [`with_fail_fast`](Conn::with_fail_fast).
    pub fn fail_fast(self) -> Self {
        self.tell(|call| call.told.waits = false)
    }

    /// Fails when there is no server, also on a connection that is [`optional`](crate::ConfigBuilder::optional), where it
    /// does so at once: for what nobody but a server can grant, so that an empty outcome would be a lie.
    ///
    /// In a pipeline or a transaction it does not count.
    ///
    /// Default: an optional connection answers with the empty outcome.
    pub fn needs_server(self) -> Self {
        self.tell(|call| call.told.waits &= !call.ending.conn.config().optional)
    }

    /// Sends this call once, over a link that nobody else waits for, and then has the server wait (`WAIT`) until `replicas` of its
    /// replicas have what it wrote, and everything that the server had written before, at most for `within`. Returns the answer, and how
    /// many replicas have that: fewer than were asked for is no error.
    ///
    /// It must be a call that writes: since Redis 7.2 a server waits for what this very link wrote last, so that for one that changes
    /// nothing it counts every replica at once. The link is one of the [blocking](crate::ConfigBuilder::blocking_links) ones. Two round
    /// trips, and that to the replicas.
    ///
    /// # Errors
    ///
    /// Those of the call and of [every call](Conn#errors-of-every-call), without another attempt, and within the command timeout and
    /// `within`; [`Denied`](ErrorKind::Denied) without the right to `WAIT`. Of a call that changes something, the change may have been made.
    pub async fn replicated(mut self, replicas: u32, within: Duration) -> Result<(T, u64)> {
        let conn = self.ending.conn;
        let request = self.take_request()?;
        conn.check_slots(request.keys())?;
        let (span, began) = (telemetry::span(request.name()), Instant::now());
        let replicated = conn.replicated(&request, replicas, within).instrument(span.clone());
        // Boxed, since it is a deep future, and the compiler follows a caller's futures only so far.
        let replicated: Pin<Box<dyn Future<Output = _> + Send + '_>> = Box::pin(replicated);
        let outcome = replicated.await;
        let (outcome, count) = match outcome {
            Ok((reply, count)) => (Ok(reply), count),
            Err(err) => (Err(err), 0),
        };
        // `conclude` opens the answer of a script.
        let value = self.ending.conclude(&request, (began, Instant::now()), &span, outcome)?;
        Ok((value, count))
    }

    /// Sends it to a server of the caller's choice.
    pub(super) fn route(self, route: Route) -> Self {
        self.tell(|call| call.told.route = Some(route))
    }

    /// Changes what is asked.
    pub(super) fn alter(self, alter: impl FnOnce(Request) -> Result<Request>) -> Self {
        self.tell(|call| call.request = call.take_request().and_then(alter))
    }

    /// Reads the answer in another way.
    pub(super) fn read_as<U: Default>(self, read: Read<U>) -> Call<'a, U> {
        let Ending { conn, or_empty, alone, .. } = self.ending;
        let stage = match self.stage {
            Stage::New => Stage::New,
            Stage::Sent(sent) => Stage::Sent(sent),
            Stage::Rest(_) | Stage::Over => Stage::Over,
        };
        let ending = Ending { conn, or_empty, alone, read, empty: U::default };
        Call { ending, request: self.request, told: self.told, stage }
    }

    /// Takes the request out, to be sent on `conn` in another way, with the codec that its answer is read by.
    pub(super) fn request(&mut self, conn: &Conn) -> (Codec, Result<Request>) {
        let own = self.ending.conn;
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::New if own.is_same(conn) => (own.codec(), self.take_request()),
            Stage::New => {
                let what = "the call is of another connection than what it was added to";
                (own.codec(), Err(Error::new(ErrorKind::InvalidArgument, what)))
            }
            Stage::Sent(_) | Stage::Rest(_) | Stage::Over => {
                let what = "a call that is being awaited already cannot be part of something else";
                (conn.codec(), Err(Error::new(ErrorKind::InvalidArgument, what)))
            }
        }
    }

    fn tell(mut self, tell: impl FnOnce(&mut Self)) -> Self {
        if matches!(self.stage, Stage::New) {
            tell(&mut self);
        }
        self
    }

    fn take_request(&mut self) -> Result<Request> {
        std::mem::replace(&mut self.request, Ok(Request::Known(Reply::Nil)))
    }
}

impl Told {
    /// How `request` is sent, where nothing else was said.
    fn manner_of(&mut self, request: &Request, conn: &Conn) -> Manner {
        let said = conn.manner_of(request);
        Manner {
            route: self.route.take().unwrap_or(said.route),
            replay: self.replay.unwrap_or(said.replay),
            read_from: said.read_from,
            timeout: self.timeout.unwrap_or(said.timeout),
            waits: self.waits,
        }
    }
}

impl<'a, T: 'a> Call<'a, T> {
    /// Makes the first attempt, together with other calls or over a link that is up, or leaves all of it to the rest.
    /// Returns how the call has ended, if it has.
    fn send(&mut self, cx: &mut Context<'_>) -> Option<Result<T>> {
        let ending = self.ending;
        let conn = ending.conn;
        let request = match &self.request {
            Ok(Request::Known(reply)) => return Some((ending.read)(conn.codec(), reply.clone())),
            Ok(request) => request,
            Err(_) => return self.take_request().err().map(Err),
        };
        if let Err(err) = conn.check_slots(request.keys()) {
            return Some(Err(err));
        }
        let span = telemetry::span(request.name());
        let attempts = match conn.attempts(self.told.manner_of(request, conn)) {
            Ok(attempts) => attempts,
            Err(err) => {
                let now = Instant::now();
                return Some(ending.conclude(request, (now, now), &span, Err(err)));
            }
        };
        match attempts.first(request, ending.alone, cx) {
            Some(way) => {
                // Who has joined others is woken when there is something to see, also by whoever watches its time.
                let watches = way.is_together() && !way.is_watched();
                let watch = watches.then(|| attempts.watch(cx));
                self.stage = Stage::Sent(Sent { attempts, way: Some(way), watch, span });
            }
            None => self.go_on(attempts, span, None),
        }
        None
    }

    /// Leaves the call to what comes after the first attempt, which has failed, or was none.
    fn go_on(&mut self, attempts: Attempts<'a>, span: Span, failed: Option<Error>) {
        // It was looked at when the call was sent.
        if let Ok(request) = self.take_request() {
            let rest = self.ending.rest(attempts, request, span.clone(), failed);
            self.stage = Stage::Rest(Box::pin(rest.instrument(span)));
        }
    }
}

impl<'a, T: 'a> Future for Call<'a, T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let this = self.get_mut();
        loop {
            match (&mut this.stage, &this.request) {
                (Stage::Sent(sent), Ok(request)) => {
                    let (outcome, at) = ready!(sent.poll(request, cx));
                    let failed = match outcome {
                        Ok(reply) => {
                            let times = (sent.attempts.began(), at);
                            let answer =
                                this.ending.conclude(request, times, &sent.span, Ok(reply));
                            this.stage = Stage::Over;
                            return Poll::Ready(answer);
                        }
                        Err(First::Failed(err)) => Some(err),
                        Err(First::NotTried) => None,
                    };
                    let Stage::Sent(sent) = std::mem::replace(&mut this.stage, Stage::Over) else {
                        continue;
                    };
                    this.go_on(sent.attempts, sent.span, failed);
                }
                (Stage::Rest(rest), _) => {
                    let outcome = ready!(rest.as_mut().poll(cx));
                    this.stage = Stage::Over;
                    return Poll::Ready(outcome);
                }
                (Stage::New, _) => {
                    this.stage = Stage::Over;
                    if let Some(ended) = this.send(cx) {
                        return Poll::Ready(ended);
                    }
                    if matches!(&this.stage, Stage::Sent(sent) if sent.is_together()) {
                        return Poll::Pending;
                    }
                }
                _ => panic!("a call was polled after it had ended"),
            }
        }
    }
}

impl Sent<'_> {
    fn is_together(&self) -> bool {
        self.way.as_ref().is_some_and(Way::is_together)
    }

    fn poll(
        &mut self,
        request: &Request,
        cx: &mut Context<'_>,
    ) -> Poll<(Result<Reply, First>, Instant)> {
        let _entered = self.span.enter();
        if let Poll::Ready(ended) = self.attempts.poll_first(&mut self.way, request, cx) {
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

impl<T> fmt::Debug for Call<'_, T> {
    /// Shows neither keys nor values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = match (&self.stage, &self.request) {
            (Stage::New | Stage::Sent(_), request) => {
                request.as_ref().map_or("none", Request::name)
            }
            (Stage::Rest(_), _) => "waiting",
            (Stage::Over, _) => "over",
        };
        f.debug_struct("Call").field("command", &command).finish_non_exhaustive()
    }
}
