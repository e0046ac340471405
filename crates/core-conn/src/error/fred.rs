//! Reads error texts: those of servers, and those of fred. Nothing else in redbrick looks at a text.

pub(crate) use fred::error::{Error as FredError, ErrorKind as FredKind};

use super::{Error, ErrorKind, Redirect};
use crate::config::Node;

/// fred's words for a command that it did not write: it could not even queue it, or had no connection left.
const UNSENT: [&str; 3] =
    ["Failed to send command to router.", "Client is not initialized.", "Failed to route command."];
/// fred's words for a command that it dropped with its queue, written or not.
const DROPPED: &str = "channel closed";

/// Longer words are no codes, and have no place in a message.
const LONGEST_CODE: usize = 32;

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
];

/// Servers' texts that are always the same, and so hold no key and no value.
const FIXED_TEXTS: &[(&str, &str)] = &[
    (
        "value is not an integer",
        "the stored value is no whole number within the range of `i64`; counters are kept by `increment`, not by `set`",
    ),
    ("would overflow", "the count would leave the range of `i64`"),
    ("DB index", "the server has no database of this number"),
];

/// Reads what ended a command on a link.
///
/// Servers word their errors differently, but the first word is the same everywhere, so that word
/// decides. Whatever is not surely the server's answer to this very command has an unknown outcome.
pub(crate) fn from_call(err: FredError) -> Error {
    let details = err.details();
    let error = match (err.kind(), code(details)) {
        // fred closes the connection when it reads this, and hands the same text to every command in
        // flight on it, whether that ran or not.
        (_, Some(code)) if code.starts_with("CLUSTERDOWN") => {
            let what = "the cluster is down, and the connection with it; the command may or may not have run";
            Error::new(ErrorKind::Interrupted, what)
        }
        (_, Some(code)) => meaning(code, details).with_code(code, redirect(details)),
        (FredKind::Timeout, _) => Error::timeout(None),
        (FredKind::Backpressure, _) => Error::busy(),
        _ if UNSENT.contains(&details) => Error::unsent(),
        (FredKind::Parse | FredKind::NotFound, _) => {
            Error::new(ErrorKind::Protocol, "the server answered with an unexpected type")
        }
        // What else ends a call is what broke the connection under it.
        _ => {
            let what = "the connection broke; the command may or may not have run";
            Error::new(ErrorKind::Interrupted, what)
        }
    };
    error.with_source(err)
}

/// Reads what became of a transaction that did not run. When it is `EXEC` itself that the server refuses, the reason
/// stands behind other words: `EXECABORT Transaction discarded because of: NOPERM …`.
pub(crate) fn from_exec(err: FredError) -> Error {
    match err.details().strip_prefix("EXECABORT").and_then(|rest| rest.split_once("because of: ")) {
        Some((_, reason)) => from_call(FredError::new(FredKind::Unknown, reason.to_owned())),
        None => from_call(err),
    }
}

/// Reads the error that a script ended with, which is never a node's word about where a key is.
pub(crate) fn from_script(text: &str) -> Error {
    raised("the script ended with an error", text)
}

/// Reads the error that a script raised as a text. What a command inside met has no place before it, or, before 7.0, a dash
/// behind that; what the script's own `error` says has a place, can hold anything that is stored, and has no code.
pub(crate) fn from_raised(text: &str) -> Error {
    match without_place(text) {
        rest if rest.len() == text.len() || rest.starts_with('-') => from_script(rest),
        _ => {
            let source = FredError::new(FredKind::Unknown, text.to_owned());
            let what = "the script ended with an error without a code; its source has the text";
            Error::new(ErrorKind::Server, what).with_source(source)
        }
    }
}

/// Reads an error inside a script's list.
pub(crate) fn from_item(text: &str) -> Error {
    raised("an item of the script's list is an error", text)
}

/// What a command inside a script met, or what the script says itself: the latter can quote anything, so only a code is
/// shown.
fn raised(what: &str, text: &str) -> Error {
    let source = FredError::new(FredKind::Unknown, text.to_owned());
    let text = without_place(text);
    let text = text.strip_prefix('-').unwrap_or(text);
    let error = match code(text) {
        // All other codes are the script's own, whatever they mean when a server says them: that nothing has run, for
        // instance, or that a link is of no use.
        Some(code @ ("MISCONF" | "NOPERM" | "NOREPLICAS" | "OOM" | "READONLY" | "WRONGTYPE")) => {
            meaning(code, code)
        }
        Some(code) => {
            Error::new(ErrorKind::Server, format!("{what}: {code}; its source has the text"))
        }
        None => {
            Error::new(ErrorKind::Server, format!("{what} without a code; its source has the text"))
        }
    };
    match code(text) {
        Some(code) => error.with_code(code, None).with_source(source),
        None => error.with_source(source),
    }
}

/// The text of an error without the place that Lua puts before it, where the script raised a text of its own, and before
/// 7.0 always: `@user_script: 1: -READONLY You can't …`, `user_script:2: MINE is no code of theirs`.
fn without_place(text: &str) -> &str {
    let mut rest = text;
    while let Some((_, after)) = rest
        .trim_start_matches('@')
        .strip_prefix("user_script:")
        .and_then(|at| at.split_once(':'))
        .filter(|(line, _)| line.trim().chars().all(|c| c.is_ascii_digit()))
    {
        rest = after.trim_start();
    }
    rest
}

/// Whether fred gave the command back with its queue, without saying whether it was written.
pub(crate) fn is_dropped(err: &FredError) -> bool {
    err.details() == DROPPED
}

/// Whether the server does not know a script by this digest, and ran nothing.
pub(crate) fn is_no_script(err: &FredError) -> bool {
    code(err.details()) == Some("NOSCRIPT")
}

/// Whether the server does not know the client that it was to redirect to.
pub(crate) fn is_unknown_client(err: &Error) -> bool {
    let text = std::error::Error::source(err).map(ToString::to_string).unwrap_or_default();
    text.contains("client ID you want redirect")
}

/// Whether the server does not know the command.
pub(crate) fn is_unknown_command(err: &FredError) -> bool {
    err.details().to_ascii_lowercase().contains("unknown command")
}

/// Whether `EXEC` ran nothing because a command before it was refused.
pub(crate) fn is_exec_abort(err: &FredError) -> bool {
    code(err.details()) == Some("EXECABORT")
}

/// Whether `EXEC` found no transaction to run.
pub(crate) fn is_not_in_transaction(err: &FredError) -> bool {
    err.details().contains("EXEC without MULTI")
}

/// The error of a command that surely was not sent.
pub(crate) fn unsent(err: FredError) -> Error {
    Error::unsent().with_source(err)
}

/// Reads what fred reports while it dials `server`.
pub(crate) fn from_dial(err: FredError, server: &str) -> Error {
    let details = err.details();
    let known = DIAL_FAILURES.iter().find(|(word, ..)| details.contains(word));
    let error = match (known, code(details)) {
        (Some((_, kind, message)), _) => Error::new(*kind, *message),
        (None, Some("CLUSTERDOWN")) => Error::new(ErrorKind::Topology, "the cluster is down"),
        (None, Some(code)) => meaning(code, details),
        (None, None) => {
            let (kind, message) = match err.kind() {
                FredKind::Timeout => {
                    (ErrorKind::Timeout, "nothing answered in time; is this a Redis server?")
                }
                FredKind::Auth => (ErrorKind::Auth, WRONG_CREDENTIALS),
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
            Error::new(kind, message)
        }
    };
    error.context(server).with_source(err)
}

/// Reads what `server` refused on a link that is read here.
pub(crate) fn from_refusal(text: String, server: &str) -> Error {
    let is_unknown = text.to_ascii_lowercase().contains("unknown command");
    let code = code(&text).map(str::to_owned);
    let err = FredError::new(FredKind::Unknown, text);
    let err = if is_unknown {
        unknown_command().context(server).with_source(err)
    } else {
        from_dial(err, server)
    };
    match code {
        Some(code) => err.with_code(&code, None),
        None => err,
    }
}

fn unknown_command() -> Error {
    Error::new(ErrorKind::Unsupported, "this server does not know the command")
}

const WRONG_CREDENTIALS: &str = "the server refused the user name or password";

/// The code that a server's error begins with; fred's own texts have none.
fn code(details: &str) -> Option<&str> {
    let code = details.split([' ', '\r', '\n']).next()?;
    let is_code = (2..=LONGEST_CODE).contains(&code.len());
    (is_code && code.chars().all(|c| c.is_ascii_uppercase())).then_some(code)
}

/// Where a node of a cluster sends the command: `MOVED 3999 127.0.0.1:6381`.
fn redirect(details: &str) -> Option<Redirect> {
    let mut words = details.split(' ');
    let ask = match words.next()? {
        "MOVED" => false,
        "ASK" => true,
        _ => return None,
    };
    let (host, port) = words.nth(1)?.rsplit_once(':')?;
    Some(Redirect { ask, to: Node::new(host, port.parse().ok()?) })
}

/// What a server's answer means. Its text is shown only where it can hold no key and no value.
fn meaning(code: &str, details: &str) -> Error {
    let (kind, message) = match code {
        "NOAUTH" => (ErrorKind::Auth, "the server wants a password and none was given"),
        "WRONGPASS" => (ErrorKind::Auth, WRONG_CREDENTIALS),
        "NOPERM" => {
            // The server's own words name the command.
            let right = details.strip_prefix("NOPERM ").filter(|right| !right.is_empty());
            let right = right.unwrap_or("to a command or a key");
            return Error::new(ErrorKind::Denied, format!("the user lacks a right: {right}"));
        }
        "LOADING" => (ErrorKind::Loading, "the server is still reading its data set"),
        "READONLY" => (ErrorKind::ReadOnly, "the server is a read-only replica"),
        "MISCONF" => (
            ErrorKind::Persistence,
            "the server could not save its data and takes no writes; look for its disk space and its log",
        ),
        "NOREPLICAS" => (
            ErrorKind::NoReplicas,
            "fewer replicas are in touch than the server wants for a write (`min-replicas-to-write`)",
        ),
        "BUSY" => (
            ErrorKind::ServerBusy,
            "the server is busy with a script that takes too long; `SCRIPT KILL` ends one that has not written",
        ),
        "OOM" => (ErrorKind::OutOfMemory, "the server is out of memory"),
        "WRONGTYPE" => (ErrorKind::WrongType, "the key holds another type of value"),
        "CROSSSLOT" => return Error::cross_slot(),
        "MOVED" | "ASK" => (
            ErrorKind::Topology,
            "another node of the cluster holds this key; it was not reached in time",
        ),
        "TRYAGAIN" => (
            ErrorKind::Topology,
            "the keys are being moved to another node of the cluster, and not all of them are there yet",
        ),
        "MASTERDOWN" => (
            ErrorKind::Topology,
            "the replica has lost its master and serves nothing until it is back",
        ),
        _ => match FIXED_TEXTS.iter().find(|(text, _)| details.contains(text)) {
            Some((_, message)) => (ErrorKind::Server, *message),
            // It quotes the script, and nothing that users stored.
            None if details.starts_with("ERR Error compiling script") => {
                return Error::new(ErrorKind::Server, details.to_owned());
            }
            None => {
                let what = format!("the server refused the command: {code}");
                return Error::new(ErrorKind::Server, what);
            }
        },
    };
    Error::new(kind, message)
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
            ("MASTERDOWN Link with MASTER is down", ErrorKind::Topology),
            ("MOVED 3999 127.0.0.1:6381", ErrorKind::Topology),
            ("BUSY Redis is busy running a script.", ErrorKind::ServerBusy),
            ("BUSY Valkey is busy running a script.", ErrorKind::ServerBusy),
            ("MISCONF Errors writing to the AOF file", ErrorKind::Persistence),
            ("NOREPLICAS Not enough good replicas to write.", ErrorKind::NoReplicas),
            ("OOM command not allowed when used memory > 'maxmemory'.", ErrorKind::OutOfMemory),
            ("NOAUTH Authentication required.", ErrorKind::Auth),
        ] {
            assert_eq!(call(FredKind::Unknown, details).kind(), kind, "{details}");
        }
    }

    #[test]
    fn a_code_without_a_kind_of_its_own_is_still_the_servers_answer() {
        for details in ["ERR syntax error", "UNKILLABLE the script has written"] {
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
            (FredKind::Unknown, "Failed to route command."),
            (FredKind::Cluster, "ASK 12 127.0.0.1:6381"),
        ] {
            assert!(!call(kind, details).is_outcome_unknown(), "{details}");
        }
    }

    #[test]
    fn what_a_script_raises_is_read_up_to_its_code_and_no_further() {
        for (text, kind, code) in [
            ("WRONGTYPE Operation against a key", ErrorKind::WrongType, Some("WRONGTYPE")),
            (
                "NOREPLICAS Not enough good replicas to write.",
                ErrorKind::NoReplicas,
                Some("NOREPLICAS"),
            ),
            ("MISCONF Errors writing to the AOF", ErrorKind::Persistence, Some("MISCONF")),
            ("@user_script: 1: -READONLY You can't", ErrorKind::ReadOnly, Some("READONLY")),
            ("@user_script:1: @user_script: 1: -OOM command", ErrorKind::OutOfMemory, Some("OOM")),
            ("user_script:2: MINE is no code", ErrorKind::Server, Some("MINE")),
            ("-MINE what happened", ErrorKind::Server, Some("MINE")),
            ("user_script:1: unknown state: READONLY", ErrorKind::Server, None),
            ("user_script:1: unknown state: NOPERM hunter2", ErrorKind::Server, None),
            ("state: OOM", ErrorKind::Server, None),
            ("user_script:x: OOM", ErrorKind::Server, None),
            ("oh no", ErrorKind::Server, None),
            ("", ErrorKind::Server, None),
        ] {
            let err = from_script(text);
            assert_eq!((err.kind(), err.code()), (kind, code), "{text}");
        }
        for text in ["user_script:1: READONLY x", "user_script:1: OOM", "@user_script: 2: MINE"] {
            let err = from_raised(text);
            assert_eq!((err.kind(), err.code()), (ErrorKind::Server, None), "{text}");
        }
        for text in ["@user_script: 1: -READONLY You can't", "READONLY You can't"] {
            let err = from_raised(text);
            assert_eq!((err.kind(), err.code()), (ErrorKind::ReadOnly, Some("READONLY")), "{text}");
        }
        let err = from_script("user_script:1: NOPERM hunter2");
        assert!(!err.to_string().contains("hunter2"), "{err}");
    }

    #[test]
    fn a_redirection_names_its_node() {
        for (details, ask, host, port) in [
            ("MOVED 3999 127.0.0.1:6381", false, "127.0.0.1", 6381),
            ("ASK 3999 cache.internal:7000", true, "cache.internal", 7000),
            ("MOVED 3999 :7001", false, "", 7001),
            ("MOVED 3999 ::1:7001", false, "::1", 7001),
        ] {
            let err = call(FredKind::Cluster, details);
            let to = Node { host: host.to_owned(), port };
            assert_eq!(err.redirect(), Some(&Redirect { ask, to }), "{details}");
        }
        for details in ["MOVED", "MOVED 1", "MOVED 1 nowhere", "MOVED 1 host:99999", "ERR no"] {
            assert_eq!(call(FredKind::Cluster, details).redirect(), None, "{details}");
        }
    }
}
