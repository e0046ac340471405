use std::num::NonZeroU32;

use redbrick_core_conn::ErrorKind;

/// Why a [`RateLimiter`](crate::RateLimiter) could not be made, or decided nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A [burst](crate::Quota::burst) with an algorithm that knows none.
    #[error("only the algorithm GCRA knows a burst; leave it out or choose that")]
    BurstWithoutGcra,
    /// Redis could not be asked, and what there is to do then is to fail, or trying again would not mend it.
    #[error("the rate limiter could not ask Redis")]
    Conn(#[from] redbrick_core_conn::Error),
    /// More were asked for at once than can ever pass; nothing was consumed, nor sent.
    #[error(
        "{asked} at once can never pass a limit of {limit}; ask for fewer or allow a greater burst"
    )]
    ExceedsQuota {
        /// How many.
        asked: NonZeroU32,
        /// How many pass at most.
        limit: NonZeroU32,
    },
    /// Another program wrote something else to the key of this subject; nothing was consumed.
    /// [`reset`](crate::RateLimiter::reset) removes it.
    #[error(
        "the subject's key holds what no rate limiter wrote; reset it, or keep the other program from it"
    )]
    ForeignValue(#[source] redbrick_core_conn::Error),
    /// A quota of more than one per microsecond, or whose period is zero.
    #[error("a quota allows one per microsecond at most; take a smaller amount or a longer period")]
    QuotaTooFine,
    /// A quota whose period is longer than a hundred years, or whose burst takes as long to come back.
    #[error(
        "a quota reaches over a hundred years at most; take a shorter period or a smaller burst"
    )]
    QuotaTooLong,
}

/// What a script says of a value that is not its own.
const NOT_OURS: &str = "NOTOURS";

impl Error {
    /// Returns whether the same call can succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.conn().is_some_and(redbrick_core_conn::Error::is_retryable)
    }

    /// Returns whether time ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.conn().is_some_and(redbrick_core_conn::Error::is_timeout)
    }

    /// Returns whether Redis may have counted the request although the call failed.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        self.conn().is_some_and(redbrick_core_conn::Error::is_outcome_unknown)
    }

    /// What a call of a script failed with.
    pub(crate) fn of(err: redbrick_core_conn::Error) -> Self {
        let is_foreign = err.kind() == ErrorKind::WrongType || err.code() == Some(NOT_OURS);
        if is_foreign { Self::ForeignValue(err) } else { Self::Conn(err) }
    }

    /// Whether Redis is away, or in no state to answer: what the policy is for. What only a change of the configuration mends
    /// is none of it, and nor is a mistake.
    pub(crate) fn is_outage(&self) -> bool {
        self.is_retryable() || self.is_outcome_unknown()
    }

    fn conn(&self) -> Option<&redbrick_core_conn::Error> {
        match self {
            Self::Conn(err) => Some(err),
            _ => None,
        }
    }
}
