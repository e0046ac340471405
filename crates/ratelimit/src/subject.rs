use std::{fmt, num::NonZeroU32};

use redbrick_core_conn::{Counter, Key};

use crate::{
    Decision, Error, Quota, RateLimiter, Source,
    rule::{Ask, Counted, Rule},
};

static ALLOWED: Counter = Counter::new("redbrick.ratelimit.allowed", "Requests that passed");
static DENIED: Counter = Counter::new("redbrick.ratelimit.denied", "Requests that did not pass");

/// A subject of a [`RateLimiter`], of which more can be said before it is asked about.
///
/// ```no_run
/// # use std::num::NonZeroU32;
/// # use redbrick_ratelimit::{Error, Quota, RateLimiter};
/// # async fn f(limiter: RateLimiter) -> Result<(), Error> {
/// const THREE: NonZeroU32 = NonZeroU32::new(3).unwrap();
/// let mails = limiter.subject("user:7").action("mail").quota(Quota::per_hour(THREE));
/// if mails.consume().await?.is_allowed() { /* send it */ }
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "nothing is asked until one of its verbs is awaited"]
pub struct Subject<'a> {
    limiter: &'a RateLimiter,
    /// `ratelimit:name:{subject}`.
    tagged: Key,
    /// The same, or with the action behind it.
    stem: Key,
    quota: Option<Quota>,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(limiter: &'a RateLimiter, id: &[u8]) -> Self {
        let tagged = limiter.prefix().tagged(id);
        Self { limiter, stem: tagged.clone(), tagged, quota: None }
    }

    /// Counts what the subject does under this name, apart from what it does under others and under none; any bytes.
    ///
    /// Default: none.
    pub fn action(mut self, action: impl AsRef<[u8]>) -> Self {
        self.stem = self.tagged.join(action);
        self
    }

    /// Sets the quota of the calls on this value.
    ///
    /// All quotas of one subject and action share what is counted, and a call reads it as if it had been counted under its
    /// own quota. So give quotas that are to hold at the same time each an [action](Self::action).
    ///
    /// Default: the limiter's.
    pub fn quota(mut self, quota: Quota) -> Self {
        self.quota = Some(quota);
        self
    }

    /// Consumes one, if it may pass; one round trip.
    ///
    /// # Errors
    ///
    /// As [`consume_n`](Self::consume_n).
    #[tracing::instrument(level = "debug", name = "ratelimit.consume", skip_all)]
    pub async fn consume(&self) -> Result<Decision, Error> {
        self.decide(Ask { cost: NonZeroU32::MIN, consumes: true }).await
    }

    /// Consumes `n`, if all of them may pass, otherwise none; one round trip.
    ///
    /// While Redis is away, [`OnError`](crate::OnError) decides, and [`Decision::source`] says so. Dropped before it ends, it
    /// may have consumed.
    ///
    /// # Errors
    ///
    /// [`Error::ExceedsQuota`] when so many can never pass, and what is wrong with a [quota](Self::quota) of this value;
    /// nothing was sent then. [`Error::ForeignValue`] when another program wrote to the key; nothing was consumed.
    /// [`Error::Conn`] when Redis could not be asked and the policy is to fail, or nothing but a change of the
    /// configuration would mend it (a wrong password, a missing right, a closed connection);
    /// [`is_outcome_unknown`](Error::is_outcome_unknown) says whether it may have consumed.
    #[tracing::instrument(level = "debug", name = "ratelimit.consume", skip_all)]
    pub async fn consume_n(&self, n: NonZeroU32) -> Result<Decision, Error> {
        self.decide(Ask { cost: n, consumes: true }).await
    }

    /// Looks whether one would pass; writes nothing; one round trip.
    ///
    /// # Errors
    ///
    /// As [`consume_n`](Self::consume_n); nothing has changed.
    #[tracing::instrument(level = "debug", name = "ratelimit.check", skip_all)]
    pub async fn check(&self) -> Result<Decision, Error> {
        self.decide(Ask::CHECK).await
    }

    /// Returns how many are counted now, from zero to the limit; more, where the quota was greater before. Writes nothing;
    /// one round trip.
    ///
    /// It may take as long as a command of the connection, and no policy answers it. An optional connection without a server
    /// answers zero.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked, [`Error::ForeignValue`] when another program wrote to the key, and what is
    /// wrong with a [quota](Self::quota) of this value.
    #[tracing::instrument(level = "debug", name = "ratelimit.count", skip_all)]
    pub async fn count(&self) -> Result<u64, Error> {
        let (_, used, ..) = self
            .rule()?
            .ask(&self.limiter.inner().conn, &self.stem, Ask::CHECK)
            .await
            .map_err(Error::of)?;
        Ok(used)
    }

    /// Forgets what was counted, of this action alone; returns whether anything was. One round trip.
    ///
    /// It may take as long as a command of the connection, and no policy answers it. An optional connection without a server
    /// answers `false`. It also removes what another program wrote there.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked; it may be forgotten or not. What is wrong with a
    /// [quota](Self::quota) of this value.
    #[tracing::instrument(level = "debug", name = "ratelimit.reset", skip_all)]
    pub async fn reset(&self) -> Result<bool, Error> {
        let key = self.rule()?.key(&self.stem);
        self.limiter.inner().conn.delete(key).await.map_err(Error::of)
    }

    fn rule(&self) -> Result<Rule, Error> {
        let inner = self.limiter.inner();
        self.quota.map_or(Ok(inner.rule), |quota| Rule::new(inner.algorithm, quota))
    }

    async fn decide(&self, ask: Ask) -> Result<Decision, Error> {
        let rule = self.rule()?;
        rule.check(ask.cost)?;
        let inner = self.limiter.inner();
        let call = rule.ask(&inner.conn, &self.stem, ask);
        let decision = match call.timeout(inner.redis_timeout).fail_fast().await.map_err(Error::of)
        {
            Ok(answer) => Decision::new(rule.limit().get(), Counted::from(answer), Source::Redis),
            Err(err) if err.is_outage() => inner.policy.decide(&rule, &self.stem, ask, err)?,
            Err(err) => return Err(err),
        };
        if ask.consumes {
            let outcome = if decision.is_allowed() { &ALLOWED } else { &DENIED };
            outcome.add(1, &inner.name);
        }
        Ok(decision)
    }
}

impl fmt::Debug for Subject<'_> {
    /// Does not show who it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("quota", &self.quota).finish_non_exhaustive()
    }
}
