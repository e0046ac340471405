/// Why a call of this crate failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Redis could not be asked.
    #[error("pubsub could not ask Redis")]
    Conn(#[from] redbrick_core_conn::Error),
    /// A payload, or the information about a member, cannot be encoded. Nothing was sent.
    #[error("the payload cannot be encoded; see what its `Serialize` says")]
    Unencodable(#[source] redbrick_core_conn::Error),
    /// What arrived or was stored is no message, or its payload is of another type than the one that was asked for.
    #[error("not a message of this type; compare the types of both sides")]
    Undecodable(#[source] redbrick_core_conn::Error),
    /// The service was [closed](crate::PubSub::close) and takes no more handlers. Nothing was sent.
    #[error("pubsub was closed; make another one for new handlers")]
    Closed,
}

impl Error {
    /// Returns whether the same call can succeed later without anybody changing anything.
    ///
    /// It does not say whether repeating it is safe: see [`is_outcome_unknown`](Self::is_outcome_unknown).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Conn(error) => error.is_retryable(),
            Self::Unencodable(_) | Self::Undecodable(_) | Self::Closed => false,
        }
    }

    /// Returns whether time ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Conn(error) => error.is_timeout(),
            Self::Unencodable(_) | Self::Undecodable(_) | Self::Closed => false,
        }
    }

    /// Returns whether Redis may have done what was asked although the call failed: a message may have been published.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Conn(error) => error.is_outcome_unknown(),
            Self::Unencodable(_) | Self::Undecodable(_) | Self::Closed => false,
        }
    }
}
