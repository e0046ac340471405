/// Why a call on [`Locks`](crate::Locks), or on what they gave, failed.
///
/// That somebody else has a lock, or that it was lost before it was released, is no failure but a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The locks are [closed](crate::Locks::close). Where one was waited for, it is not waited for any more.
    #[error("these locks are closed; make others to acquire more")]
    Closed,
    /// Redis could not be asked.
    #[error("lock could not ask Redis")]
    Conn(#[from] redbrick_core_conn::Error),
    /// The memory of fences is longer than [`LONGEST_LEASE`](crate::LONGEST_LEASE). Nothing was sent.
    #[error("the memory of fences is longer than 366 days; give a shorter `fence_memory`")]
    FenceMemory,
    /// What was granted may be lost already: the answer took longer than the lease, or than a quorum waits for it, or, of several locks, one
    /// was lost while others were waited for. What is held still is given back in the background.
    #[error(
        "what was granted may be lost already; give a longer lease, or look why answers take so long"
    )]
    Late,
    /// A lease is not from [`SHORTEST_LEASE`](crate::SHORTEST_LEASE) to [`LONGEST_LEASE`](crate::LONGEST_LEASE). Nothing
    /// was sent.
    #[error("a lease is from 10 milliseconds to 366 days")]
    Lease,
    /// The lock was lost while work was done under it: by force, by a failover, or because it could not be renewed in
    /// time. The work was dropped where it waited, so part of it may be done.
    #[error("the lock was lost before the work was done; the work was stopped where it waited")]
    Lost,
    /// A [`Quorum`](crate::Quorum) of fewer than three masters, which would survive the loss of none. Nothing was sent.
    #[error("a quorum needs locks on at least three independent masters")]
    Masters,
    /// Fewer replicas know of the lock than [`Durability`](crate::Durability) wants. It is released, in the background where that fails at
    /// first.
    #[error("only {known} replicas know of the lock; check them, or ask for fewer")]
    #[non_exhaustive]
    NotReplicated {
        /// How many know of it.
        known: u64,
    },
    /// More permits are asked for at a time than there are. Nothing was sent.
    #[error("more permits are asked for than the semaphore has; give it more, or ask for fewer")]
    Permits,
}

impl Error {
    /// Returns whether the same call can succeed later without anybody changing anything.
    ///
    /// It does not say whether repeating it is safe: after [`Lost`](Self::Lost), part of the work may be done.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Conn(error) => error.is_retryable(),
            Self::Late | Self::Lost | Self::NotReplicated { .. } => true,
            Self::Closed | Self::FenceMemory | Self::Lease | Self::Masters | Self::Permits => false,
        }
    }

    /// Returns whether time ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Conn(error) => error.is_timeout(),
            Self::Late | Self::NotReplicated { .. } => true,
            Self::Closed
            | Self::FenceMemory
            | Self::Lease
            | Self::Lost
            | Self::Masters
            | Self::Permits => false,
        }
    }

    /// Returns whether what was asked may have happened although the call failed: at Redis, or, after
    /// [`Lost`](Self::Lost), in the work.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Conn(error) => error.is_outcome_unknown(),
            Self::Lost => true,
            Self::Closed
            | Self::FenceMemory
            | Self::Late
            | Self::Lease
            | Self::Masters
            | Self::NotReplicated { .. }
            | Self::Permits => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_says_what_may_be_done_about_it() {
        for (error, retryable, timeout, unknown) in [
            (Error::Closed, false, false, false),
            (Error::FenceMemory, false, false, false),
            (Error::Late, true, true, false),
            (Error::Lease, false, false, false),
            (Error::Lost, true, false, true),
            (Error::Masters, false, false, false),
            (Error::NotReplicated { known: 0 }, true, true, false),
            (Error::Permits, false, false, false),
        ] {
            let found = (error.is_retryable(), error.is_timeout(), error.is_outcome_unknown());
            assert_eq!(found, (retryable, timeout, unknown), "{error:?}");
        }
    }
}
