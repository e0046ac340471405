//! Loading, in one process of the fleet.

use std::collections::HashMap;

use bytes::Bytes;
use redbrick_core_conn::ErrorKind;
use tokio::time::Instant;

use crate::{
    Cache, Error, Fetched, OnError, OnWaitTimeout, Origin,
    cache::Inner,
    fetch::Refreshing,
    fill::Written,
    flight::{Landing, Outcome},
    fresh::Age,
    lease::{Lease, Leased, Tags},
    load::Ask,
    loader::Loader,
    read::{Found, Seen, Value},
    remembered::Note,
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
        let Refreshing { ask, lease, tags, note, previous, loader } = refreshing;
        match self.load_under(&ask, lease, tags, previous, loader).await {
            Ok((written, origin)) => {
                if origin != Origin::Loaded {
                    note.keep(self.inner.lease_life);
                }
                Ok(Fetched { value: written.value, origin })
            }
            Err(error) => {
                note.keep(self.inner.lease_life);
                tracing::debug!(%error, "what is there could not be loaded anew");
                Err(error)
            }
        }
    }

    /// Finds out whether this process loads for the fleet. While another one does, it waits for that.
    pub(crate) async fn turn(
        &self,
        ask: &Ask,
        mut seen: Seen,
        has_spare: bool,
    ) -> Result<Turn<V>, Error> {
        let inner = &*self.inner;
        let (mut unfit, mut watch) = (0, None);
        let deadline = Instant::now() + inner.wait_timeout;
        loop {
            let began = inner.flights.moment();
            let doubt = inner.owed.doubt(&ask.entry);
            let leased = inner.lease(ask, &seen, has_spare).await;
            let stored = match leased {
                Ok(Leased::Entry(stored)) => stored,
                Ok(Leased::Taken(lease, tags)) => return Ok(Turn::Load(Some((lease, tags)))),
                Ok(Leased::Nobody) => return Ok(Turn::Load(None)),
                Ok(Leased::Failed) => return Ok(Turn::Rest),
                Ok(Leased::Elsewhere(left, there)) => {
                    if seen.is_anything() {
                        // What the other one stores is not to be overlooked.
                        seen = there;
                    }
                    let patience = deadline.saturating_duration_since(Instant::now());
                    if patience.is_zero() {
                        return match inner.on_wait_timeout {
                            OnWaitTimeout::Load => Ok(Turn::Load(None)),
                            OnWaitTimeout::Fail => Err(Error::WaitTimeout(inner.wait_timeout)),
                        };
                    }
                    match &mut watch {
                        None => {
                            watch = Some(inner.watch(&ask.lease).await);
                            inner.counters.add(Counter::Waits);
                        }
                        Some(watch) => watch.ended(left.min(patience)).await,
                    }
                    continue;
                }
                Err(error) => return inner.does_without(error).map(|()| Turn::Load(None)),
            };
            let found = match inner.parsed(Some(stored)) {
                Ok(entry) => {
                    let versions = HashMap::new();
                    inner.judge(&inner.quick, entry, &doubt, &ask.tags, versions).await
                }
                Err(foreign) => Ok(Found::Miss(foreign)),
            };
            let found = match found {
                Ok(found) => self.value(found),
                Err(error) => return inner.does_without(error).map(|()| Turn::Load(None)),
            };
            match found {
                Ok(found) if found.age.is_fresh() => return Ok(Turn::Found(found, began)),
                Ok(found) if found.age != Age::Over => return Ok(Turn::Look),
                Ok(over) => seen = Seen::Beginning(over.entry.mark()),
                Err(stale) => seen = stale,
            }
            unfit += 1;
            if unfit == MOST_UNFIT {
                // Whatever is stored there again and again, it is of no use.
                seen = Seen::Beginning(Bytes::new());
            }
        }
    }
}

impl Inner {
    /// Takes the lease to load anew what is there, if nobody else has it or has just failed. What is noted of it stays noted for a
    /// while where somebody else has it.
    pub(crate) async fn lease_to_refresh(
        &self,
        ask: &Ask,
        seen: &Seen,
        note: Note,
    ) -> Option<(Lease, Tags, Note)> {
        match self.lease(ask, seen, true).await {
            Ok(Leased::Taken(lease, tags)) => return Some((lease, tags, note)),
            // Somebody was faster.
            Ok(Leased::Entry(_)) => return None,
            Ok(Leased::Elsewhere(..) | Leased::Failed | Leased::Nobody) => {}
            Err(error) => {
                tracing::debug!(%error, "what is there is served on, since Redis could not be asked for its lease");
            }
        }
        note.keep(self.lease_life);
        None
    }

    /// Whether a failure to ask Redis is one that the loader makes up for.
    pub(crate) fn does_without(&self, error: redbrick_core_conn::Error) -> Result<(), Error> {
        let is_away = error.is_retryable()
            || matches!(error.kind(), ErrorKind::Auth | ErrorKind::Protocol | ErrorKind::Tls);
        if error.is_timeout() {
            self.breaker.timed_out();
        }
        match self.on_error {
            OnError::Load if is_away => {
                tracing::debug!(error = %error, "the cache goes to its loader without Redis");
                Ok(())
            }
            _ => Err(error.into()),
        }
    }
}
