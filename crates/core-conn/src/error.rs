use std::{borrow::Cow, convert::Infallible, fmt};

use fred::error::{Error as FredError, ErrorKind as FredKind};

/// A boxed source of an error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a call on a [`Conn`](crate::Conn), or the making of one, failed.
///
/// [`kind`](Self::kind) is for code, `Display` for people: it says what happened and, where something
/// can be done about it, what. Neither holds a password, a value or a key.
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<BoxError>,
}

/// What kind of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server refused the user name or password, or wants one and got none.
    Auth,
    /// Too many calls wait for the server already. The command was not sent.
    Busy,
    /// The handle was closed, or the runtime it lived on has ended. The command was not sent.
    Closed,
    /// A value could not be encoded, or what the server holds could not be decoded.
    Codec,
    /// The configuration is wrong. Reported before any I/O.
    Config,
    /// The server could not be reached: refused, reset, unresolvable. The command was not sent.
    Connect,
    /// The user may not run this command or touch this key.
    Denied,
    /// The connection broke after the command may have been sent: it may or may not have run.
    Interrupted,
    /// An argument that no server would accept. Reported before any I/O.
    InvalidArgument,
    /// The server reads its data set from disk and answers nothing else yet.
    Loading,
    /// The server is at `maxmemory` and its policy evicts nothing.
    OutOfMemory,
    /// What answered does not speak the Redis protocol, or answered with an unexpected type of reply.
    Protocol,
    /// The server is a replica and takes no writes.
    ReadOnly,
    /// The server refused the command for a reason that has no kind of its own.
    Server,
    /// No answer within the time allowed. A command may or may not have run.
    Timeout,
    /// The TLS handshake failed, or TLS is wanted and not compiled in.
    Tls,
    /// Cluster or Sentinel cannot say who serves the key right now.
    Topology,
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
            Busy, Connect, Interrupted, Loading, OutOfMemory, ReadOnly, Timeout, Topology,
        };
        matches!(
            self.kind,
            Busy | Connect | Interrupted | Loading | OutOfMemory | ReadOnly | Timeout | Topology
        )
    }

    /// Returns whether time ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind == ErrorKind::Timeout
    }

    /// Returns whether the command may have run although the call failed.
    ///
    /// For every other kind the command surely had no effect.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self.kind, ErrorKind::Interrupted | ErrorKind::Protocol | ErrorKind::Timeout)
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn config(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    pub(crate) fn closed() -> Self {
        Self::new(
            ErrorKind::Closed,
            "the connection is closed; make a new one with `Conn::connect`",
        )
    }

    pub(crate) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Prefixes the message, keeping kind and source.
    pub(crate) fn context(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message).into();
        self
    }

    /// Makes a second error that says the same, for those who also need to know.
    pub(crate) fn duplicate(&self) -> Self {
        Self { kind: self.kind, message: self.message.clone(), source: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.kind).field("message", &self.message);
        if let Some(source) = &self.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Reads what fred reports while a link is up.
///
/// Servers word their errors differently, but the first word is the same everywhere, so that word
/// decides. A failure that came before anything could be written is told apart by fred's own texts.
pub(crate) fn from_call(err: FredError) -> Error {
    let details = err.details();
    let (kind, message): (_, Cow<'static, str>) = match server_prefix(details) {
        Some(kind) => (kind, server_message(kind, details)),
        None => match (err.kind(), details) {
            (FredKind::Timeout, _) => (
                ErrorKind::Timeout,
                "no answer within the command timeout; the command may or may not have run".into(),
            ),
            (FredKind::Backpressure, _) => (
                ErrorKind::Busy,
                "too many calls wait for the server; retry later or raise `max_waiting`".into(),
            ),
            (_, ROUTER_GONE | NOT_STARTED) => {
                (ErrorKind::Connect, "the link has ended; the command was not sent".into())
            }
            (FredKind::Parse | FredKind::NotFound, _) => {
                (ErrorKind::Protocol, "the server answered with an unexpected type".into())
            }
            (FredKind::Cluster | FredKind::Sentinel | FredKind::Routing, _) => {
                (ErrorKind::Topology, "no server could be found for the key".into())
            }
            _ if is_server_error(details) => {
                (ErrorKind::Server, "the server refused the command".into())
            }
            // Whatever else ends a call is what broke the connection under it.
            _ => (
                ErrorKind::Interrupted,
                "the connection broke; the command may or may not have run".into(),
            ),
        },
    };
    Error::new(kind, message).with_source(err)
}

/// Reads what fred reports while it dials `server`.
pub(crate) fn from_dial(err: FredError, server: &str) -> Error {
    let details = err.details();
    let has = |needle: &str| details.contains(needle);

    let (kind, message) = if let Some(kind) = server_prefix(details) {
        (kind, server_message(kind, details).into_owned())
    } else if has("InvalidCertificate") || has("CertNotValidForName") || has("UnknownIssuer") {
        let reason = if has("UnknownIssuer") || has("BadSignature") {
            "its certificate is not signed by an authority this client trusts; add the authority with `Tls::ca_pem`"
        } else if has("NotValidForName") {
            "its certificate is for another name; set `Tls::server_name`"
        } else {
            "its certificate was refused"
        };
        (ErrorKind::Tls, format!("TLS: {reason}"))
    } else if has("InvalidContentType") || has("InvalidMessage") {
        (ErrorKind::Tls, "TLS: what answered does not speak TLS; is this the TLS port?".to_owned())
    } else if has("AlertReceived") {
        (
            ErrorKind::Tls,
            "TLS: the server refused the handshake; does it want a client certificate (`Tls::client_pem`)?"
                .to_owned(),
        )
    } else if has("failed to lookup")
        || has("Failed to resolve")
        || has("Name or service not known")
    {
        (
            ErrorKind::Connect,
            "the host name does not resolve; check the spelling and the DNS".to_owned(),
        )
    } else if has("max number of clients") {
        (
            ErrorKind::Connect,
            "the server has no room for another client; raise its `maxclients`, or close connections".to_owned(),
        )
    } else if has("ConnectionRefused") {
        (ErrorKind::Connect, "connection refused; is the server running on this port?".to_owned())
    } else if has("NotFound") {
        (ErrorKind::Connect, "there is no socket at this path; is the server running?".to_owned())
    } else if has("PermissionDenied") {
        (
            ErrorKind::Connect,
            "this process may not open the socket; check its permissions".to_owned(),
        )
    } else if has("cluster support disabled")
        || has("cluster_state")
        || has("Invalid or missing cluster state")
    {
        (
            ErrorKind::Topology,
            "the server is not part of a working cluster; use a plain `redis://` URL, or wait until the cluster is up"
                .to_owned(),
        )
    } else {
        match err.kind() {
            FredKind::Timeout => {
                (ErrorKind::Timeout, "nothing answered in time; is this a Redis server?".to_owned())
            }
            FredKind::Auth => (ErrorKind::Auth, auth_message(details).into_owned()),
            FredKind::Sentinel => (
                ErrorKind::Topology,
                "no sentinel could name a reachable master; check the service name and the sentinels".to_owned(),
            ),
            FredKind::Cluster | FredKind::Routing => {
                (ErrorKind::Topology, "the cluster's layout could not be read".to_owned())
            }
            FredKind::Protocol | FredKind::Parse => (
                ErrorKind::Protocol,
                "what answered does not speak the Redis protocol; is this the right port?".to_owned(),
            ),
            FredKind::IO | FredKind::Canceled => {
                (ErrorKind::Connect, "the connection was closed while it was set up".to_owned())
            }
            _ => (ErrorKind::Server, "the server refused the connection".to_owned()),
        }
    };
    Error::new(kind, format!("{server}: {message}")).with_source(err)
}

/// fred's words for a command that it could not even queue.
const ROUTER_GONE: &str = "Failed to send command to router.";
const NOT_STARTED: &str = "Client is not initialized.";

/// Whether this is a server's text: it begins with a code in capitals, and fred's own texts do not.
fn is_server_error(details: &str) -> bool {
    let code = details.split(' ').next().unwrap_or_default();
    code.len() > 1 && code.chars().all(|c| c.is_ascii_uppercase())
}

/// Maps the first word of a server's error to a kind.
fn server_prefix(details: &str) -> Option<ErrorKind> {
    Some(match details.split_ascii_whitespace().next()? {
        "NOAUTH" | "WRONGPASS" => ErrorKind::Auth,
        "NOPERM" => ErrorKind::Denied,
        "LOADING" => ErrorKind::Loading,
        "READONLY" => ErrorKind::ReadOnly,
        "OOM" => ErrorKind::OutOfMemory,
        "WRONGTYPE" => ErrorKind::WrongType,
        "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "CROSSSLOT" => {
            ErrorKind::Topology
        }
        _ => return None,
    })
}

fn server_message(kind: ErrorKind, details: &str) -> Cow<'static, str> {
    match kind {
        ErrorKind::Auth => auth_message(details),
        // The server names the command and never the key's value, so its text is safe to show.
        ErrorKind::Denied => format!("the user lacks a right: {}", denied_right(details)).into(),
        ErrorKind::Loading => "the server is still reading its data set".into(),
        ErrorKind::ReadOnly => "the server is a read-only replica".into(),
        ErrorKind::OutOfMemory => "the server is out of memory".into(),
        ErrorKind::WrongType => "the key holds another type of value".into(),
        _ => "the cluster cannot serve this key right now".into(),
    }
}

fn auth_message(details: &str) -> Cow<'static, str> {
    if details.starts_with("NOAUTH") {
        "the server wants a password and none was given".into()
    } else {
        "the server refused the user name or password".into()
    }
}

fn denied_right(details: &str) -> &str {
    details.strip_prefix("NOPERM").unwrap_or(details).trim_start()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(kind: FredKind, details: &'static str) -> Error {
        from_call(FredError::new(kind, details))
    }

    #[test]
    fn the_first_word_decides_whatever_the_server_says_after_it() {
        for (details, kind) in [
            ("NOPERM this user has no permissions to run the 'get' command", ErrorKind::Denied),
            ("NOPERM User app has no permissions to run the 'get' command", ErrorKind::Denied),
            ("LOADING Valkey is loading the dataset in memory", ErrorKind::Loading),
            ("READONLY You can't write against a read only replica.", ErrorKind::ReadOnly),
            ("WRONGTYPE Operation against a key", ErrorKind::WrongType),
            ("CLUSTERDOWN The cluster is down", ErrorKind::Topology),
        ] {
            assert_eq!(call(FredKind::Unknown, details).kind(), kind, "{details}");
        }
    }

    #[test]
    fn a_code_without_a_kind_of_its_own_is_still_the_servers_answer() {
        for details in ["ERR syntax error", "MISCONF snapshots fail", "BUSY a script runs"] {
            assert_eq!(call(FredKind::Unknown, details).kind(), ErrorKind::Server, "{details}");
        }
    }

    #[test]
    fn only_what_may_have_been_sent_has_an_unknown_outcome() {
        assert!(call(FredKind::IO, "Connection closed.").is_outcome_unknown());
        assert!(call(FredKind::Timeout, "Request timed out.").is_outcome_unknown());
        assert!(call(FredKind::Unknown, "channel closed").is_outcome_unknown());
        assert!(!call(FredKind::Unknown, "Failed to send command to router.").is_outcome_unknown());
        assert!(
            !call(FredKind::Backpressure, "Max in-flight commands reached.").is_outcome_unknown()
        );
        assert!(!call(FredKind::Unknown, "ERR value is not an integer").is_outcome_unknown());
        assert!(!call(FredKind::Unknown, "MISCONF snapshots fail").is_outcome_unknown());
        assert!(call(FredKind::Protocol, "Invalid frame type prefix.").is_outcome_unknown());
    }
}
