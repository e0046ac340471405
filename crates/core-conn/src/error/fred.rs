//! Reads error texts: those of servers, and those of fred. Nothing else in redbrick looks at a text.

use std::borrow::Cow;

use fred::error::{Error as FredError, ErrorKind as FredKind};

use super::{Error, ErrorKind};

/// fred's words for a command that it could not even queue.
const ROUTER_GONE: &str = "Failed to send command to router.";
const NOT_STARTED: &str = "Client is not initialized.";
/// fred's word for a command that a Cluster node sent elsewhere, and that fred did not follow.
const REDIRECTED: &str = "Too many redirections.";

/// What a dial can run into, by a word in fred's text: the first row that fits decides.
const DIAL_FAILURES: &[(&str, ErrorKind, &str)] = &[
    (
        "UnknownIssuer",
        ErrorKind::Tls,
        "TLS: its certificate is not signed by an authority this client trusts; add the authority with `Tls::ca_pem`",
    ),
    (
        "BadSignature",
        ErrorKind::Tls,
        "TLS: its certificate is not signed by an authority this client trusts; add the authority with `Tls::ca_pem`",
    ),
    (
        "NotValidForName",
        ErrorKind::Tls,
        "TLS: its certificate is for another name; set `Tls::server_name`",
    ),
    ("InvalidCertificate", ErrorKind::Tls, "TLS: its certificate was refused"),
    (
        "InvalidMessage",
        ErrorKind::Tls,
        "TLS: what answered does not speak TLS; is this the TLS port?",
    ),
    (
        "AlertReceived",
        ErrorKind::Tls,
        "TLS: the server refused the handshake; does it want a client certificate (`Tls::client_pem`)?",
    ),
    (
        "failed to lookup",
        ErrorKind::Connect,
        "the host name does not resolve; check the spelling and the DNS",
    ),
    (
        "Failed to resolve",
        ErrorKind::Connect,
        "the host name does not resolve; check the spelling and the DNS",
    ),
    (
        "max number of clients",
        ErrorKind::Connect,
        "the server has no room for another client; raise its `maxclients`, or close connections",
    ),
    (
        "ConnectionRefused",
        ErrorKind::Connect,
        "connection refused; is the server running on this port?",
    ),
    ("NotFound", ErrorKind::Connect, "there is no socket at this path; is the server running?"),
    (
        "PermissionDenied",
        ErrorKind::Connect,
        "this process may not open the socket; check its permissions",
    ),
    (
        "cluster support disabled",
        ErrorKind::Topology,
        "the server is not part of a cluster; use a plain `redis://` URL",
    ),
    (
        "cluster state",
        ErrorKind::Topology,
        "the cluster is not up: some slots have no server; check `CLUSTER INFO`",
    ),
];

/// Servers' texts that are always the same, and so hold no key and no value.
const FIXED_TEXTS: &[(&str, &str)] = &[
    ("value is not an integer", "the stored value is no whole number within the range of `i64`"),
    ("would overflow", "the count would leave the range of `i64`"),
    ("DB index", "the server has no database of this number"),
];

/// Reads what ended a command on a link.
///
/// Servers word their errors differently, but the first word is the same everywhere, so that word
/// decides. Whatever is not surely the server's answer to this very command has an unknown outcome.
pub(crate) fn from_call(err: FredError) -> Error {
    let details = err.details();
    if details == REDIRECTED {
        let what = "the cluster is moving this key; it is out of reach until the move has ended";
        return Error::new(ErrorKind::Topology, what).with_source(err).redirected();
    }
    let (kind, message): (_, Cow<'static, str>) = match (err.kind(), details) {
        (FredKind::Timeout, _) => (
            ErrorKind::Timeout,
            "no answer within the command timeout; the command may or may not have run".into(),
        ),
        (FredKind::Backpressure, _) => (
            ErrorKind::Busy,
            "too many calls wait for an answer; retry later or raise `max_waiting`".into(),
        ),
        (_, ROUTER_GONE | NOT_STARTED) => {
            (ErrorKind::Connect, "the link has ended; the command was not sent".into())
        }
        (FredKind::Parse | FredKind::NotFound, _) => {
            (ErrorKind::Protocol, "the server answered with an unexpected type".into())
        }
        // fred closes the connection when it reads this, and hands the same text to every command in
        // flight on it, whether that ran or not.
        _ if code(details) == Some("CLUSTERDOWN") => (
            ErrorKind::Interrupted,
            "the cluster is down, and the connection with it; the command may or may not have run"
                .into(),
        ),
        _ => match code(details) {
            Some(code) => answered(code, details),
            // What else ends a call is what broke the connection under it.
            None => (
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
    let known = DIAL_FAILURES.iter().find(|(word, ..)| details.contains(word));
    let (kind, message): (_, Cow<'static, str>) = match (known, code(details)) {
        (Some((_, kind, message)), _) => (*kind, (*message).into()),
        (None, Some("CLUSTERDOWN")) => (ErrorKind::Topology, "the cluster is down".into()),
        (None, Some(code)) => answered(code, details),
        (None, None) => {
            let (kind, message) = match err.kind() {
                FredKind::Timeout => {
                    (ErrorKind::Timeout, "nothing answered in time; is this a Redis server?")
                }
                FredKind::Auth => (ErrorKind::Auth, WRONG_CREDENTIALS),
                FredKind::Sentinel => (
                    ErrorKind::Topology,
                    "no sentinel could name a reachable master; check the service name and the sentinels",
                ),
                FredKind::Cluster | FredKind::Routing => {
                    (ErrorKind::Topology, "the cluster's layout could not be read")
                }
                FredKind::Protocol | FredKind::Parse => (
                    ErrorKind::Protocol,
                    "what answered does not speak the Redis protocol; is this the right port?",
                ),
                FredKind::IO | FredKind::Canceled => (
                    ErrorKind::Connect,
                    "the connection was closed while it was set up; if this port speaks TLS, use `rediss://`",
                ),
                _ => (ErrorKind::Server, "the server refused the connection"),
            };
            (kind, message.into())
        }
    };
    Error::new(kind, format!("{server}: {message}")).with_source(err)
}

const WRONG_CREDENTIALS: &str = "the server refused the user name or password";

/// The code that a server's error begins with; fred's own texts have none.
fn code(details: &str) -> Option<&str> {
    let code = details.split([' ', '\r', '\n']).next()?;
    (code.len() > 1 && code.chars().all(|c| c.is_ascii_uppercase())).then_some(code)
}

/// What a server's answer means. Its text is shown only where it can hold no key and no value.
fn answered(code: &str, details: &str) -> (ErrorKind, Cow<'static, str>) {
    let (kind, message) = match code {
        "NOAUTH" => (ErrorKind::Auth, "the server wants a password and none was given"),
        "WRONGPASS" => (ErrorKind::Auth, WRONG_CREDENTIALS),
        "NOPERM" => {
            let right = details.strip_prefix("NOPERM").unwrap_or(details).trim_start();
            return (ErrorKind::Denied, format!("the user lacks a right: {right}").into());
        }
        "LOADING" => (ErrorKind::Loading, "the server is still reading its data set"),
        "READONLY" => (ErrorKind::ReadOnly, "the server is a read-only replica"),
        "OOM" => (ErrorKind::OutOfMemory, "the server is out of memory"),
        "WRONGTYPE" => (ErrorKind::WrongType, "the key holds another type of value"),
        "CROSSSLOT" => (
            ErrorKind::InvalidArgument,
            "the keys lie in several slots of the cluster; give them a common hash tag, as in `{user:1}:a`",
        ),
        // On a cluster fred reports these in its own words, so here the connection is to a single server.
        "MOVED" | "ASK" => (
            ErrorKind::Config,
            "this server is a node of a cluster and holds only some of the keys; use a `redis-cluster://` URL",
        ),
        "TRYAGAIN" | "MASTERDOWN" => {
            (ErrorKind::Topology, "the cluster cannot serve this key right now")
        }
        _ => match FIXED_TEXTS.iter().find(|(text, _)| details.contains(text)) {
            Some((_, message)) => (ErrorKind::Server, *message),
            None => {
                return (
                    ErrorKind::Server,
                    format!("the server refused the command: {code}").into(),
                );
            }
        },
    };
    (kind, message.into())
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
            ("TRYAGAIN Multiple keys request during rehashing of slot", ErrorKind::Topology),
            ("CROSSSLOT Keys in request don't hash to the same slot", ErrorKind::InvalidArgument),
        ] {
            assert_eq!(call(FredKind::Unknown, details).kind(), kind, "{details}");
        }
    }

    #[test]
    fn a_code_without_a_kind_of_its_own_is_still_the_servers_answer() {
        for details in ["ERR syntax error", "MISCONF snapshots fail", "BUSY a script runs"] {
            let err = call(FredKind::Unknown, details);
            assert_eq!(err.kind(), ErrorKind::Server, "{details}");
            assert!(!err.is_outcome_unknown(), "{details}");
        }
    }

    #[test]
    fn a_servers_text_is_not_shown() {
        let err =
            call(FredKind::Unknown, "ERR unknown command 'X', with args beginning with: 'secret'");
        assert_eq!(err.to_string(), "the server refused the command: ERR");
    }

    #[test]
    fn only_what_surely_did_not_run_has_a_known_outcome() {
        for (kind, details) in [
            (FredKind::IO, "Connection closed."),
            (FredKind::Timeout, "Request timed out."),
            (FredKind::Unknown, "channel closed"),
            (FredKind::Protocol, "Invalid frame type prefix."),
            (FredKind::Canceled, "Canceled."),
            (FredKind::Cluster, "CLUSTERDOWN Hash slot not served"),
        ] {
            assert!(call(kind, details).is_outcome_unknown(), "{details}");
        }
        for (kind, details) in [
            (FredKind::Unknown, "Failed to send command to router."),
            (FredKind::Backpressure, "Max in-flight commands reached."),
            (FredKind::Unknown, "ERR value is not an integer"),
            (FredKind::Routing, "Too many redirections."),
        ] {
            assert!(!call(kind, details).is_outcome_unknown(), "{details}");
        }
    }
}
