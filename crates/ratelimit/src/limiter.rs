use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use redbrick_core_conn::{Conn, Prefix};

use crate::{
    Algorithm, Decision, Error, Quota, RateLimiterBuilder, Subject, policy::Policy, rule::Rule,
};

/// How often each subject may do something, over all processes that share the Redis.
///
/// A subject is whoever is counted: a user's id, an address, a tenant; any bytes, of any length. What
/// [`subject`](Self::subject) returns says more, as an action or another quota; the verbs here are those without.
///
/// Clones are cheap and share everything.
#[derive(Clone)]
pub struct RateLimiter {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) conn: Conn,
    /// For recorders.
    pub(crate) name: String,
    pub(crate) prefix: Prefix,
    pub(crate) algorithm: Algorithm,
    pub(crate) quota: Quota,
    pub(crate) rule: Rule,
    pub(crate) redis_timeout: Duration,
    pub(crate) policy: Policy,
}

impl RateLimiter {
    /// Makes one with the defaults of its [builder](Self::builder); sends nothing.
    ///
    /// # Errors
    ///
    /// [`Error::QuotaTooFine`] and [`Error::QuotaTooLong`], as [`build`](RateLimiterBuilder::build).
    pub fn new(conn: Conn, name: impl AsRef<[u8]>, quota: Quota) -> Result<Self, Error> {
        Self::builder(conn, name, quota).build()
    }

    /// Begins one of which more is to be said.
    ///
    /// Limiters of one name count together: their keys begin with `ratelimit:name`.
    pub fn builder(conn: Conn, name: impl AsRef<[u8]>, quota: Quota) -> RateLimiterBuilder {
        RateLimiterBuilder::new(conn, name.as_ref(), quota)
    }

    pub(crate) fn from_inner(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Names a subject once, for calls with an [action](Subject::action) or another [quota](Subject::quota); sends nothing.
    pub fn subject(&self, id: impl AsRef<[u8]>) -> Subject<'_> {
        Subject::new(self, id.as_ref())
    }

    /// Consumes one, if it may pass; one round trip.
    ///
    /// Dropped before it ends, it may have consumed one.
    ///
    /// # Errors
    ///
    /// As [`Subject::consume_n`].
    pub async fn consume(&self, subject: impl AsRef<[u8]>) -> Result<Decision, Error> {
        self.subject(subject).consume().await
    }

    /// Consumes `n`, if all of them may pass, otherwise none; one round trip.
    ///
    /// # Errors
    ///
    /// As [`Subject::consume_n`].
    pub async fn consume_n(
        &self,
        subject: impl AsRef<[u8]>,
        n: NonZeroU32,
    ) -> Result<Decision, Error> {
        self.subject(subject).consume_n(n).await
    }

    /// Looks whether one would pass; writes nothing; one round trip.
    ///
    /// # Errors
    ///
    /// As [`Subject::check`].
    pub async fn check(&self, subject: impl AsRef<[u8]>) -> Result<Decision, Error> {
        self.subject(subject).check().await
    }

    /// Returns how many are counted now; writes nothing; one round trip.
    ///
    /// # Errors
    ///
    /// As [`Subject::count`].
    pub async fn count(&self, subject: impl AsRef<[u8]>) -> Result<u64, Error> {
        self.subject(subject).count().await
    }

    /// Forgets what was counted; returns whether anything was; one round trip.
    ///
    /// # Errors
    ///
    /// As [`Subject::reset`].
    pub async fn reset(&self, subject: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.subject(subject).reset().await
    }

    /// Returns the quota of each subject for which no call gives another.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.inner.quota
    }

    /// Returns the prefix of its keys, behind that of the connection.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.inner.prefix
    }
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter")
            .field("prefix", &self.inner.prefix)
            .field("algorithm", &self.inner.algorithm)
            .field("quota", &self.inner.quota)
            .finish_non_exhaustive()
    }
}
