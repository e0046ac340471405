use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tracing::Instrument;

use super::{reply::Reply, request::Request};
use crate::{
    Codec, Conn, Error, ErrorKind, Replay, Result,
    conn::{Link, Manner, Route},
};

/// A command that has not been sent yet; awaiting it sends it.
///
/// Await it as it is, say more first, or give it to a [`Pipeline`](crate::Pipeline) or a
/// [`Transaction`](crate::Transaction):
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
    Sent(Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>),
    Over,
}

/// What a call was told before it is sent.
struct Told<'a> {
    conn: &'a Conn,
    request: Result<Request>,
    timeout: Option<Duration>,
    replay: Option<Replay>,
    or_empty: bool,
    route: Option<Route>,
}

/// Makes a value of what the server answered.
pub(super) type Read<T> = fn(Codec, Reply) -> Result<T>;

impl<'a, T: Default> Call<'a, T> {
    /// A call whose empty outcome is the default of its type.
    pub(super) fn new(conn: &'a Conn, request: Result<Request>, read: Read<T>) -> Self {
        let told =
            Told { conn, request, timeout: None, replay: None, or_empty: false, route: None };
        Self { read, empty: T::default, stage: Stage::Told(told) }
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
    /// Default: [`Replay::Idempotent`] for what only reads and for what does the same when done twice, otherwise
    /// [`Replay::IfUnsent`]; each call's documentation says which.
    pub fn replay(self, replay: Replay) -> Self {
        self.tell(|told| told.replay = Some(replay))
    }

    /// Answers with the empty outcome when the server cannot be reached, does not answer in time, or is in no
    /// state to serve: nothing read, `false`, zero or an empty list. A write may have happened all the same.
    ///
    /// The failure is logged as a warning, at most once in [`WARNING_INTERVAL`](crate::WARNING_INTERVAL). What
    /// trying again cannot mend stays an error: a value of another type, a missing right, a closed connection.
    ///
    /// Default: every failure is an error.
    pub fn or_empty(self) -> Self {
        self.tell(|told| told.or_empty = true)
    }

    /// Sends it to a server of the caller's choice.
    pub(super) fn route(self, route: Route) -> Self {
        self.tell(|told| told.route = Some(route))
    }

    /// Takes the request out, to be sent in another way.
    pub(super) fn request(&mut self) -> Result<Request> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Told(told) => told.request,
            Stage::Sent(_) | Stage::Over => {
                let what = "a call that is being awaited already cannot be part of something else";
                Err(Error::new(ErrorKind::InvalidArgument, what))
            }
        }
    }

    fn tell(mut self, tell: impl FnOnce(&mut Told<'a>)) -> Self {
        if let Stage::Told(told) = &mut self.stage {
            tell(told);
        }
        self
    }
}

impl Told<'_> {
    async fn send<T>(self, read: Read<T>, empty: fn() -> T) -> Result<T> {
        let request = self.request?;
        if let Request::Known(answer) = request {
            return read(self.conn.codec(), Reply::Int(answer));
        }
        self.conn.check_slots(request.keys())?;
        let manner = Manner {
            route: self.route.unwrap_or_else(|| request.route()),
            replay: self.replay.unwrap_or_else(|| request.replay()),
            read_from: self.conn.reads_of(&request),
            timeout: self.timeout.unwrap_or_else(|| self.conn.command_timeout()),
        };
        if self.conn.does_without(&manner).await {
            return Ok(empty());
        }
        match self.conn.ask(&request, &manner).await {
            Ok(reply) => read(self.conn.codec(), reply),
            Err(err) if self.or_empty && err.is_retryable() => {
                self.conn.warn("a call failed and was answered with nothing", &err);
                Ok(empty())
            }
            Err(err) => Err(err),
        }
    }

    fn name(&self) -> &'static str {
        self.request.as_ref().map_or("none", Request::name)
    }
}

impl<'a, T: 'a> Future for Call<'a, T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let Self { read, empty, stage } = self.get_mut();
        if let Stage::Told(_) = stage
            && let Stage::Told(told) = std::mem::replace(stage, Stage::Over)
        {
            let span = tracing::debug_span!("core_conn.call", command = told.name());
            *stage = Stage::Sent(Box::pin(told.send(*read, *empty).instrument(span)));
        }
        let Stage::Sent(sent) = stage else { panic!("a call was polled after it had ended") };
        let outcome = sent.as_mut().poll(cx);
        if outcome.is_ready() {
            *stage = Stage::Over;
        }
        outcome
    }
}

impl<T> fmt::Debug for Call<'_, T> {
    /// Shows neither keys nor values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = match &self.stage {
            Stage::Told(told) => told.name(),
            Stage::Sent(_) => "sent",
            Stage::Over => "over",
        };
        f.debug_struct("Call").field("command", &command).finish_non_exhaustive()
    }
}

impl Conn {
    /// Sends a request until it is answered, and unwraps the answer.
    pub(super) async fn ask(&self, request: &Request, manner: &Manner) -> Result<Reply> {
        let value = self.call(manner, |link| async move { request.send(&link).await }).await?;
        request.unwrap_alone(Reply::from_fred(value)?)
    }

    /// Sends a request once on one link, and unwraps the answer.
    pub(super) async fn send_once(
        &self,
        link: &Link,
        request: &Request,
        deadline: Instant,
    ) -> Result<Reply> {
        let value = self.call_once(link, deadline, |link| async move { request.send(&link).await });
        request.unwrap_alone(Reply::from_fred(value.await?)?)
    }
}
