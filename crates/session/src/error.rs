/// Why a [`Session`](crate::Session) call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Redis could not be asked.
    #[error("session could not ask Redis")]
    Conn(#[from] redbrick_core_conn::Error),
}

impl Error {
    /// Returns whether the same call can succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Conn(error) => error.is_retryable(),
        }
    }

    /// Returns whether time ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Conn(error) => error.is_timeout(),
        }
    }

    /// Returns whether Redis may have done what was asked although the call failed.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Conn(error) => error.is_outcome_unknown(),
        }
    }
}
