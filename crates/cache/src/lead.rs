//! Loading, in one process of the fleet.

use std::collections::HashMap;

use bytes::Bytes;
use redbrick_core_conn::ErrorKind;
use tokio::time::Instant;

use crate::{
    Cache, Error, Fetched, OnError, OnWaitTimeout, Origin,
    cache::{Inner, bytes},
    fetch::Refreshing,
    fill::Written,
    flight::{Landing, Outcome},
    lease::{Lease, Leased, Tags},
    load::Ask,
    loader::Loader,
    read::{Seen, Value},
    statistics::Counter,
};

/// How often an entry comes that does not count, before whatever is there is overlooked.
const MOST_UNFIT: u32 = 2;

/// What a caller who leads for its process does.
enum Turn<V> {
    /// Redis has the value by now: it was read after this moment, and so it was written.
    Found(Value<V>, u64),
    /// It loads: under a lease with these versions of its tags, or without storing what it loads.
    Load(Option<(Lease, Tags)>),
    /// It has something to go on with, and a load of another process has just failed.
    Rest,
}

/// A load that has failed.
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// Whether what was there may be served: nothing is known of its having been invalidated meanwhile.
    pub(crate) serves: bool,
}

impl<V: Send + 'static> Cache<V> {
    /// Loads, unless there is an entry by now. Returns what others are given, if anything, and what the caller is. Who
    /// `has_spare` has something to go on with when it cannot be loaded.
    pub(crate) async fn lead(
        &self,
        ask: &Ask,
        seen: Option<Seen>,
        has_spare: bool,
        previous: Option<V>,
        loader: Loader<'_, V>,
    ) -> (Option<Landing>, Result<Fetched<V>, Failed>) {
        let inner = &*self.inner;
        let failed = |began, error: Error, serves| {
            let outcome = Outcome::Failed(error.clone(), serves);
            (Some(Landing { began, outcome }), Err(Failed { error, serves }))
        };
        let turn = match seen {
            None => Ok(Turn::Load(None)),
            Some(seen) => self.turn(ask, seen, has_spare).await,
        };
        let began = inner.flights.moment();
        let lease = match turn {
            Ok(Turn::Load(lease)) => lease,
            Ok(Turn::Found(found, began)) => {
                let tags = found.entry.tags.iter().map(|(name, _)| name.clone()).collect();
                let encoded = found.entry.into_encoded();
                let outcome = Outcome::Value(encoded, Origin::Cached, Some(tags));
                let fetched = Fetched { value: found.value, origin: Origin::Cached };
                return (Some(Landing { began, outcome }), Ok(fetched));
            }
            Ok(Turn::Rest) => {
                // Who has nothing to go on with is not to be told that, and loads.
                let error = Error::load("a load of another process has just failed");
                return (None, Err(Failed { error, serves: true }));
            }
            Err(error) => return failed(began, error, true),
        };
        let loaded = match lease {
            Some((lease, tags)) => self.load_under(ask, lease, tags, previous, loader).await,
            None => {
                let written = self.load(loader.begin(previous)).await;
                if written.is_ok() {
                    inner.counters.add(Counter::Bypassed);
                }
                let loaded = written.map(|written| (written, Origin::Bypassed));
                loaded.map_err(|error| Failed { error, serves: true })
            }
        };
        match loaded {
            Ok((Written { value, encoded, .. }, origin)) => {
                let outcome = Outcome::Value(encoded, origin, None);
                (Some(Landing { began, outcome }), Ok(Fetched { value, origin }))
            }
            Err(Failed { error, serves }) => failed(began, error, serves),
        }
    }

    /// Loads anew what is still served.
    pub(crate) async fn refresh_under(
        &self,
        refreshing: Refreshing<'_, V>,
    ) -> Result<Fetched<V>, Failed> {
        let Refreshing { ask, lease, tags, previous, loader } = refreshing;
        let inner = &*self.inner;
        let key = bytes(&ask.entry);
        let loaded = self.load_under(&ask, lease, tags, previous, loader).await;
        inner.refreshed(&key, matches!(loaded, Ok((_, Origin::Loaded))));
        match loaded {
            Ok((written, origin)) => Ok(Fetched { value: written.value, origin }),
            Err(failed) => {
                tracing::debug!(error = %failed.error, "what is there could not be loaded anew");
                Err(failed)
            }
        }
    }

    /// Finds out whether this process loads for the fleet. While another one does, it waits for that.
    async fn turn(&self, ask: &Ask, mut seen: Seen, has_spare: bool) -> Result<Turn<V>, Error> {
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
            let found = match inner
                .judge(&inner.quick, Some(stored), &doubt, &ask.tags, HashMap::new())
                .await
            {
                Ok(found) => found,
                Err(error) => return inner.does_without(error).map(|()| Turn::Load(None)),
            };
            match self.value(found) {
                Ok(found) if found.age.is_fresh() => return Ok(Turn::Found(found, began)),
                Ok(found) => seen = Seen::Beginning(found.entry.mark()),
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
    /// A load of what is served meanwhile has ended; where it is not stored, it is left alone for a while.
    pub(crate) fn refreshed(&self, key: &Bytes, is_stored: bool) {
        self.refreshes.take(key);
        if !is_stored {
            self.refreshes.add(key, self.lease_life);
        }
    }

    /// Takes the lease to load anew what is there, if nobody else has it or has just failed.
    pub(crate) async fn lease_to_refresh(&self, ask: &Ask, seen: &Seen) -> Option<(Lease, Tags)> {
        match self.lease(ask, seen, true).await {
            Ok(Leased::Taken(lease, tags)) => Some((lease, tags)),
            Ok(Leased::Entry(_)) => {
                // Somebody was faster.
                self.refreshes.take(&bytes(&ask.entry));
                None
            }
            Ok(Leased::Elsewhere(..) | Leased::Failed | Leased::Nobody) => None,
            Err(error) => {
                tracing::debug!(%error, "what is there is served on, since Redis could not be asked for its lease");
                None
            }
        }
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
