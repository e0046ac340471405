//! How a failure is called where only so many names may be: in labels of metrics and in spans.

use crate::{Error, ErrorKind};

/// The words that servers begin their errors with. A script can make up others, and quote in them whatever it likes.
const CODES: &[&str] = &[
    "ASK",
    "BUSY",
    "BUSYGROUP",
    "BUSYKEY",
    "CLUSTERDOWN",
    "CROSSSLOT",
    "DENIED",
    "ERR",
    "EXECABORT",
    "FAILOVER",
    "INPROG",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOAUTH",
    "NOGROUP",
    "NOMASTERLINK",
    "NOPERM",
    "NOPROTO",
    "NOREPLICAS",
    "NOSCRIPT",
    "NOSUB",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "UNBLOCKED",
    "UNKILLABLE",
    "WRONGPASS",
    "WRONGTYPE",
];

/// The server's code, where it is one of its own; else the kind of failure.
pub(crate) fn error_type(err: &Error) -> &'static str {
    code(err).unwrap_or_else(|| kind(err.kind()))
}

/// The server's code, where it is one of its own.
pub(crate) fn code(err: &Error) -> Option<&'static str> {
    let code = err.code()?;
    CODES.iter().find(|known| **known == code).copied()
}

fn kind(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Auth => "auth",
        ErrorKind::Busy => "busy",
        ErrorKind::Closed => "closed",
        ErrorKind::Codec => "codec",
        ErrorKind::Config => "config",
        ErrorKind::Connect => "connect",
        ErrorKind::Denied => "denied",
        ErrorKind::Interrupted => "interrupted",
        ErrorKind::InvalidArgument => "invalid_argument",
        ErrorKind::Loading => "loading",
        ErrorKind::NoReplicas => "no_replicas",
        ErrorKind::OutOfMemory => "out_of_memory",
        ErrorKind::Persistence => "persistence",
        ErrorKind::Protocol => "protocol",
        ErrorKind::ReadOnly => "read_only",
        ErrorKind::Server => "server",
        ErrorKind::ServerBusy => "server_busy",
        ErrorKind::Timeout => "timeout",
        ErrorKind::Tls => "tls",
        ErrorKind::Topology => "topology",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::WrongType => "wrong_type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_called_as_the_server_calls_it_or_by_its_kind() {
        let wrong = Error::new(ErrorKind::WrongType, "x").with_code("WRONGTYPE", None);
        assert_eq!(error_type(&wrong), "WRONGTYPE");
        assert_eq!(error_type(&Error::timeout(None)), "timeout");
        assert_eq!(error_type(&Error::cross_slot()), "invalid_argument");
    }

    #[test]
    fn a_code_that_a_script_made_up_is_no_label() {
        let made_up = Error::new(ErrorKind::Server, "x").with_code("HUNTER2", None);
        assert_eq!(error_type(&made_up), "server");
        assert_eq!(code(&made_up), None);
    }

    #[test]
    fn codes_are_found_once_and_in_order() {
        assert!(CODES.is_sorted_by(|a, b| a < b));
    }
}
