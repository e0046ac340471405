use std::{io, time::Duration};

use crate::{Version, provision::NoServer};

/// Why a server, a proxy or a command for one could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No rung of the ladder in [`provision`](crate::provision) gave a server.
    #[error("{0}")]
    NoServer(NoServer),
    /// `REDIS_SERVER` names something that is no server of this family.
    #[error(
        "REDIS_SERVER={path}: {reason}; set it to a redis-server or valkey-server, or unset it"
    )]
    BadServerVariable {
        /// The value of the variable.
        path: String,
        /// What was wrong with it.
        reason: String,
    },
    /// The server ended while it started; nothing of it is left.
    #[error("{version} ended while it started; its last words: {output}")]
    Start {
        /// Which server it was.
        version: Version,
        /// The end of what it wrote, where it names a setting that it refused.
        output: String,
    },
    /// Something did not happen in time.
    #[error("{what} took longer than {within:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        within: Duration,
    },
    /// The server refused a command, or an answer had an unexpected shape.
    #[error("{command}: {message}")]
    Reply {
        /// The command's name.
        command: String,
        /// The server's words, as `WRONGTYPE Operation against a key …`.
        message: String,
    },
    /// A setting cannot be used.
    #[error("{what}: {reason}")]
    Config {
        /// The setting.
        what: String,
        /// What is wrong with it and what to write instead.
        reason: String,
    },
    /// TLS was asked of a server that was built without it.
    #[error(
        "{version} was built without TLS; set REDIS_SERVER to one that has it, or ask for another version"
    )]
    NoTls {
        /// Which server it was.
        version: Version,
    },
    /// The server is down: it was killed, or it ended by itself.
    #[error("the server on port {port} is down; restart() starts it again")]
    Down {
        /// The port on which it was.
        port: u16,
    },
    /// The operating system refused something.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's words.
        source: io::Error,
    },
}

impl Error {
    /// The server's own words when it refused a command, as `WRONGTYPE Operation against a key …`.
    #[must_use]
    pub fn reply(&self) -> Option<&str> {
        match self {
            Self::Reply { message, .. } => Some(message),
            _ => None,
        }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn timeout(what: impl Into<String>, within: Duration) -> Self {
        Self::Timeout { what: what.into(), within }
    }
}
