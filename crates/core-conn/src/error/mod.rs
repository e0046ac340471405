pub(crate) mod fred;

use std::{
    borrow::Cow, convert::Infallible, error::Error as StdError, fmt, sync::Arc, time::Duration,
};

use crate::config::Node;

/// A boxed source of an error.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a call on a [`Conn`](crate::Conn), or the making of one, failed.
///
/// [`kind`](Self::kind) is for code, `Display` for people: it says what happened and, where something
/// can be done about it, what. Neither holds a password, a value or a key.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    answer: Option<Box<Answer>>,
}

/// What the server itself said.
#[derive(Clone, Debug)]
struct Answer {
    code: String,
    redirect: Option<Redirect>,
}

/// Where a node of a cluster sends a command that it did not run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Redirect {
    /// For this one command; otherwise the slot has moved for good.
    pub(crate) ask: bool,
    /// An empty host is that of the node that answered; see [`Error::answered_by`].
    pub(crate) to: Node,
}

/// What kind of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server refused the user name or password, or wants one and got none.
    Auth,
    /// Too many calls wait for an answer already. The command was not sent.
    Busy,
    /// The handle was closed, or the runtime it lived on has ended. The command was not sent.
    Closed,
    /// A value could not be encoded, or what the server holds could not be decoded.
    Codec,
    /// The configuration is wrong. Reported before any I/O; but for a cluster's node that was taken for a
    /// single server, which shows with the first key that it does not hold.
    Config,
    /// The server could not be reached: refused, reset, unresolvable. The command was not sent.
    Connect,
    /// The user may not run this command or touch this key.
    Denied,
    /// The connection broke after the command may have been sent: it may or may not have run.
    Interrupted,
    /// An argument that no server would accept, or keys that one command cannot reach together.
    InvalidArgument,
    /// The server reads its data set from disk and runs nothing else yet.
    Loading,
    /// Fewer replicas are in touch than the server wants for a write (`NOREPLICAS`). The command did not run.
    NoReplicas,
    /// The server is at `maxmemory` and its policy evicts nothing.
    OutOfMemory,
    /// The server could not save its data and takes no writes until it can (`MISCONF`).
    Persistence,
    /// What answered does not speak the Redis protocol, or answered with an unexpected type of reply.
    Protocol,
    /// The server is a replica and takes no writes.
    ReadOnly,
    /// The server refused the command for a reason that has no kind of its own; see [`Error::code`].
    Server,
    /// The server runs a script that takes too long, and nothing else until it has ended (`BUSY`).
    ServerBusy,
    /// No answer within the time allowed. A command may or may not have run.
    Timeout,
    /// The TLS handshake failed, or TLS could not be set up.
    Tls,
    /// Cluster or Sentinel cannot say who serves the key right now. The command did not run.
    Topology,
    /// The server, or a proxy before it, does not offer this. The command did not run, and will not on this server.
    Unsupported,
    /// The key holds another type of value than the command works on.
    WrongType,
}

/// A [`std::result::Result`] whose error defaults to [`struct@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns what kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns whether the same call can succeed later without anybody changing anything.
    ///
    /// It does not say whether repeating it is *safe*: after an outcome that
    /// [is unknown](Self::is_outcome_unknown), a repeated increment may count twice.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use ErrorKind::{
            Busy, Connect, Interrupted, Loading, NoReplicas, OutOfMemory, Persistence, ReadOnly,
            ServerBusy, Timeout, Topology,
        };
        matches!(
            self.kind,
            Busy | Connect
                | Interrupted
                | Loading
                | NoReplicas
                | OutOfMemory
                | Persistence
                | ReadOnly
                | ServerBusy
                | Timeout
                | Topology
        )
    }

    /// Returns the word that the server's error began with, as `WRONGTYPE`, when the server answered with one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.answer.as_ref().map(|answer| &*answer.code)
    }

    /// Returns whether time ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind == ErrorKind::Timeout
    }

    /// Returns whether it is unknown whether the command ran.
    ///
    /// True for [`Interrupted`](ErrorKind::Interrupted), [`Timeout`](ErrorKind::Timeout) and
    /// [`Protocol`](ErrorKind::Protocol). If not, the server did not run it, with three exceptions that the calls name
    /// themselves: a script that ends with an error has run up to there; a call that takes something which it then
    /// cannot decode has taken it ([`Codec`](ErrorKind::Codec)); and one that goes to several servers or slots may have
    /// run on some.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self.kind, ErrorKind::Interrupted | ErrorKind::Protocol | ErrorKind::Timeout)
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), source: None, answer: None }
    }

    pub(crate) fn config(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    pub(crate) fn timeout(allowed: Option<Duration>) -> Self {
        let allowed = allowed.map_or("time".to_owned(), |allowed| format!("{allowed:?}"));
        let what = format!("no answer within {allowed}; the command may or may not have run");
        Self::new(ErrorKind::Timeout, what)
    }

    pub(crate) fn busy() -> Self {
        let what = "too many calls wait for an answer; retry later or raise `max_waiting`";
        Self::new(ErrorKind::Busy, what)
    }

    pub(crate) fn unsent() -> Self {
        Self::new(ErrorKind::Connect, "the link has ended; the command was not sent")
    }

    pub(crate) fn sender_gone() -> Self {
        let what = "the task that had sent it has ended; the command may or may not have run";
        Self::new(ErrorKind::Interrupted, what)
    }

    pub(crate) fn cross_slot() -> Self {
        let what = "the keys lie in several slots of the cluster; give them a common hash tag, as in `{user:1}:a`";
        Self::new(ErrorKind::InvalidArgument, what)
    }

    pub(crate) fn closed() -> Self {
        Self::new(
            ErrorKind::Closed,
            "the connection is closed; make a new one with `Conn::connect`",
        )
    }

    pub(crate) fn runtime_gone() -> Self {
        Self::new(
            ErrorKind::Closed,
            "the runtime that this connection was made on has ended; make one per runtime (in tests: per test)",
        )
    }

    pub(crate) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into().into());
        self
    }

    /// Prefixes the message, keeping kind and source.
    pub(crate) fn context(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message).into();
        self
    }

    /// This failure, of which the outcome is unknown, with what happened when the call was repeated.
    pub(crate) fn followed_by(mut self, later: &Self) -> Self {
        self.message = format!("{}; repeated, and then: {}", self.message, later.message).into();
        self
    }

    /// Notes that this is what the server said.
    pub(crate) fn with_code(mut self, code: &str, redirect: Option<Redirect>) -> Self {
        self.answer = Some(Box::new(Answer { code: code.to_owned(), redirect }));
        self
    }

    /// Whether the server itself said so: it is there, and the command did not run.
    pub(crate) fn is_answer(&self) -> bool {
        self.answer.is_some() && !self.is_outcome_unknown()
    }

    /// Fills in the host of a node that does not know its own: it is where the answer came from.
    pub(crate) fn answered_by(mut self, host: &str) -> Self {
        if let Some(Answer { redirect: Some(redirect), .. }) = self.answer.as_deref_mut()
            && redirect.to.host.is_empty()
        {
            host.clone_into(&mut redirect.to.host);
        }
        self
    }

    pub(crate) fn redirect(&self) -> Option<&Redirect> {
        self.answer.as_ref()?.redirect.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    /// Shows the source too where that cannot quote a key or a value, as the server's words and a decoder's can.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.kind).field("message", &self.message);
        let is_safe = matches!(
            self.kind,
            ErrorKind::Auth
                | ErrorKind::Config
                | ErrorKind::Connect
                | ErrorKind::Tls
                | ErrorKind::Topology
        );
        if let Some(source) = self.source.as_ref().filter(|_| is_safe) {
            out.field("source", source);
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
