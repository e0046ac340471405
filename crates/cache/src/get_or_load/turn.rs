//! Loading, in one process of the fleet.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use redbrick_core_conn::ErrorKind;
use tokio::time::Instant;

use crate::{
    Cache, Error, Fetched, OnError, OnWaitTimeout, Origin,
    cache::Inner,
    entry::read::{Found, Seen, Value},
    get_or_load::Ask,
    get_or_load::fetch::Refreshing,
    get_or_load::fill::Written,
    get_or_load::flight::{Landing, Outcome},
    get_or_load::lease::{Lease, Leased, Tags},
    get_or_load::loader::Loader,
    get_or_load::remembered::Note,
    statistics::Counter,
};

/// How often an entry comes that does not count, before whatever is there is overlooked.
const MOST_UNFIT: u32 = 2;

/// What a caller who leads for its process does.
pub(crate) enum Turn<V> {
    /// Redis has the value by now: it was read after this moment, and so it was written.
    Found(Value<V>, u64),
    /// It loads: under a lease with these versions of its tags, or without storing what it loads.
    Load(Option<(Lease, Tags)>),
    /// It has something to go on with, and a load of another process has just failed.
    Rest,
    /// It looks once more: what is there by now is past its time, and may be served.
    Look,
}

impl<V: Send + 'static> Cache<V> {
    /// Loads, under a lease if there is one. Returns what others are given, and what the caller is.
    pub(crate) async fn lead(
        &self,
        ask: &Ask,
        lease: Option<(Lease, Tags)>,
        previous: Option<V>,
        loader: Loader<'_, V>,
    ) -> (Landing, Result<Fetched<V>, Error>) {
        let inner = &*self.inner;
        let began = inner.flights.moment();
        let loaded = match lease {
            Some((lease, tags)) => self.load_under(ask, lease, tags, previous, loader).await,
            None => {
                let written = self.load(loader.begin(previous)).await;
                if written.is_ok() {
                    inner.counters.add(Counter::Bypassed);
                }
                written.map(|written| (written, Origin::Bypassed))
            }
        };
        match loaded {
            Ok((Written { value, encoded, .. }, origin)) => {
                let outcome = Outcome::Value(encoded, origin, None);
                (Landing { began, outcome }, Ok(Fetched { value, origin }))
            }
            Err(error) => {
                let outcome = Outcome::Failed(error.clone());
                (Landing { began, outcome }, Err(error))
            }
        }
    }

    /// Loads anew what is still served.
    pub(crate) async fn refresh_under(
        &self,
        refreshing: Refreshing<'_, V>,
    ) -> Result<Fetched<V>, Error> {
        let Refreshing { ask, lease, tags, previous, loader } = refreshing;
        let (written, origin) = self.load_under(&ask, lease, tags, previous, loader).await?;
        Ok(Fetched { value: written.value, origin })
    }

    /// Finds out whether this process loads for the fleet. While another one does, it waits for that.
    pub(crate) async fn turn(
        &self,
        ask: &Ask,
        mut seen: Seen,
        has_fallback: bool,
    ) -> Result<Turn<V>, Error> {
        let inner = &*self.inner;
        let (mut unfit, mut watch) = (0, None);
        let deadline = Instant::now() + inner.settings.wait_timeout();
        loop {
            let answer = self.ask_for_lease(ask, &seen, has_fallback, None).await;
            match inner.or_without(answer)? {
                Some(Answer::Load(lease)) => return Ok(Turn::Load(lease)),
                Some(Answer::Failed) => return Ok(Turn::Rest),
                None => return Ok(Turn::Load(None)),
                Some(Answer::There(Ok(found), began)) if found.age.is_fresh() => {
                    return Ok(Turn::Found(found, began));
                }
                Some(Answer::There(Ok(found), _)) if found.age.is_fallback() => {
                    return Ok(Turn::Look);
                }
                Some(Answer::There(unfit_one, _)) => {
                    unfit += 1;
                    seen = match unfit_one {
                        // Whatever is stored there again and again, it is of no use.
                        _ if unfit == MOST_UNFIT => Seen::Anything,
                        Ok(over) => Seen::Beginning(over.entry.beginning()),
                        Err(stale) => stale,
                    };
                }
                Some(Answer::Elsewhere(left, there)) => {
                    if matches!(seen, Seen::Anything) {
                        // What the other one stores is not to be overlooked.
                        seen = there;
                    }
                    let patience = deadline.saturating_duration_since(Instant::now());
                    if patience.is_zero() {
                        return match inner.settings.on_wait_timeout {
                            OnWaitTimeout::Load => Ok(Turn::Load(None)),
                            OnWaitTimeout::Fail => {
                                Err(Error::WaitTimeout(inner.settings.wait_timeout()))
                            }
                        };
                    }
                    match &mut watch {
                        None => {
                            watch = Some(inner.watch(&ask.lease).await);
                            inner.counters.add(Counter::Waits);
                        }
                        Some(watch) => watch.ended(left.min(patience)).await,
                    }
                }
            }
        }
    }

    /// Asks once for the lease, and reads what is there by now.
    pub(crate) async fn ask_for_lease(
        &self,
        ask: &Ask,
        seen: &Seen,
        has_fallback: bool,
        note: Option<Note<Bytes>>,
    ) -> redbrick_core_conn::Result<Answer<V>> {
        let inner = &*self.inner;
        let (began, doubt) = (inner.flights.moment(), inner.owed.doubt(&ask.entry));
        let ticket = inner.ticket(&ask.id);
        let stored = match inner.lease(ask, seen, has_fallback, note).await? {
            Leased::Taken(lease, tags) => return Ok(Answer::Load(Some((*lease, tags)))),
            Leased::Nobody => return Ok(Answer::Load(None)),
            Leased::Failed => return Ok(Answer::Failed),
            Leased::Elsewhere(left, there) => return Ok(Answer::Elsewhere(left, there)),
            Leased::Entry(stored) => stored,
        };
        let found = match inner.parsed(Some(stored)) {
            Ok(entry) => {
                inner.judge(&inner.quick, entry, &doubt, ask.terms.wanted(), HashMap::new()).await?
            }
            Err(foreign) => Found::Miss(foreign),
        };
        Ok(Answer::There(self.keep(&ask.id, ticket, self.value(found)), began))
    }
}

/// What came of asking once for the lease of a key.
pub(crate) enum Answer<V> {
    Load(Option<(Lease, Tags)>),
    /// Something is there by now, read after this moment; it counts, or is to be overlooked.
    There(Result<Value<V>, Seen>, u64),
    /// Somebody else loads, and has the lease for so long at least; and what is there meanwhile.
    Elsewhere(Duration, Seen),
    /// Somebody else has just failed.
    Failed,
}

impl Inner {
    /// Takes the lease to load anew what is there, if nobody else has it or has just failed.
    pub(crate) async fn lease_to_refresh(
        &self,
        ask: &Ask,
        seen: &Seen,
        note: Note<Bytes>,
    ) -> Option<(Lease, Tags)> {
        match self.lease(ask, seen, true, Some(note)).await {
            Ok(Leased::Taken(lease, tags)) => Some((*lease, tags)),
            Ok(_) => None,
            Err(error) => {
                self.tell_unasked(&error);
                None
            }
        }
    }

    /// What Redis answered to a call that the loader makes up for; nothing where it did not answer.
    pub(crate) fn or_without<T>(
        &self,
        answer: redbrick_core_conn::Result<T>,
    ) -> Result<Option<T>, Error> {
        let error = match answer {
            Ok(answer) => {
                self.breaker.answered();
                return Ok(Some(answer));
            }
            Err(error) => error,
        };
        if error.is_timeout() {
            self.breaker.timed_out();
        }
        let is_away = error.is_retryable()
            || matches!(error.kind(), ErrorKind::Auth | ErrorKind::Protocol | ErrorKind::Tls);
        match self.settings.on_error {
            OnError::Load if is_away => {
                tracing::debug!(error = %error, "the cache goes to its loader without Redis");
                Ok(None)
            }
            _ => Err(error.into()),
        }
    }
}
