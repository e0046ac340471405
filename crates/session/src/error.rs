use redbrick_core_conn::{self as core_conn, ErrorKind};

/// Why a call on [`Sessions`](crate::Sessions), or the reading of an id, failed.
///
/// That there is no session, or none any more, is no error but what the call returns.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Redis could not be asked. Whoever asked whether somebody is logged in must take that for a no.
    #[error("the sessions could not ask Redis")]
    Conn(#[from] core_conn::Error),
    /// Another program has changed a key of this session, or the index that its user shares with others, so that it
    /// cannot be read. The session can be [deleted](crate::Sessions::delete).
    #[error("what is stored is not as sessions are written; delete the key or the session")]
    Damaged(#[source] core_conn::Error),
    /// The data of the application could not be encoded, in which case nothing was sent; or what is stored has not the
    /// shape of the type. Such a session lists, lives on and can be deleted.
    #[error("the data of the session could not be encoded, or has not the shape of its type")]
    Data(#[source] core_conn::Error),
    /// A new id was in use already, which happens only where the random source of the operating system repeats itself, as in a
    /// copy of a virtual machine. The session that has the id is untouched.
    #[error("a new session id was in use already; check the random source of the system")]
    IdTaken,
    /// The text is no session id. Nothing was sent.
    #[error("the text is no session id")]
    InvalidId,
    /// The text is no session key. Nothing was sent.
    #[error("the text is no session key")]
    InvalidKey,
}

impl Error {
    /// Returns whether the same call can succeed later without anybody changing anything.
    ///
    /// It does not say whether repeating it is safe: a repeated [`create`](crate::Sessions::create) makes a second session.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Conn(error) if error.is_retryable())
    }

    /// Returns whether time ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Conn(error) if error.is_timeout())
    }

    /// Returns whether Redis may have done what was asked although the call failed.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Conn(error) if error.is_outcome_unknown())
    }

    /// What a call on the connection failed with; a key that is not as it was written is told apart.
    pub(crate) fn of(error: core_conn::Error) -> Self {
        let is_damage = matches!(error.kind(), ErrorKind::WrongType | ErrorKind::Codec)
            || error.code() == Some("DAMAGED");
        if is_damage { Self::Damaged(error) } else { Self::Conn(error) }
    }
}
