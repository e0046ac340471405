//! Loading together what is missing of many keys.

use std::{collections::HashMap, time::Duration};

use redbrick_core_conn::BoxError;
use tokio::time::Instant;

use crate::{
    Cache, Error, GetOrLoad, Loaded, Origin,
    at_once::{AT_ONCE, bounded},
    entry::age::Age,
    entry::read::{Seen, Value},
    get_or_load::flight::{Landing, Lead, Outcome},
    get_or_load::lease::{Lease, Tags},
    get_or_load::loader::Loader as One,
    get_or_load::many::Loader,
    get_or_load::turn::Answer,
    get_or_load::{Absent, Ask},
    local::{Got, Near},
    statistics::Counter,
    terms::Terms,
};

/// Keys that are asked for at once, each once.
pub(super) struct Together<'c, 'k, 'l, V, K> {
    cache: &'c Cache<V>,
    keys: &'k [K],
    terms: Terms,
    loader: &'k Loader<'l, K, V>,
    asked: Vec<Asked<V>>,
}

/// One of them.
struct Asked<V> {
    ask: Ask,
    state: State<V>,
}

/// How far a key has come.
enum State<V> {
    /// What is there, if anything, and how to overlook it; nothing where Redis cannot say.
    Missing(Option<Seen>, Option<Value<V>>),
    /// It has its value, or there is none.
    Done(Option<V>),
    /// Somebody else loads it.
    Elsewhere,
}

/// A key that this call loads.
struct Mine<'c, V> {
    at: usize,
    /// Keeps others of this process from loading it. Nothing where what is there is served meanwhile: then the lease has a note of it.
    lead: Option<Lead<'c>>,
    /// What is served where it cannot be loaded.
    old: Option<Value<V>>,
    lease: Option<(Lease, Tags)>,
}

impl<'c, 'k, 'l, V, K> Together<'c, 'k, 'l, V, K>
where
    V: Send + 'static,
    K: AsRef<[u8]> + Clone + Send + Sync,
{
    pub(super) fn new(
        cache: &'c Cache<V>,
        keys: &'k [K],
        terms: Terms,
        loader: &'k Loader<'l, K, V>,
    ) -> Self {
        let asked = keys.iter().map(|key| {
            let ask = Ask { terms: terms.clone(), ..Ask::new(&cache.inner, key.as_ref()) };
            Asked { ask, state: State::Missing(None, None) }
        });
        let asked = asked.collect();
        Self { cache, keys, terms, loader, asked }
    }

    /// Reads what is there.
    pub(super) async fn look(&mut self) -> Result<(), Error> {
        let (cache, inner) = (self.cache, &*self.cache.inner);
        let wanted = self.terms.wanted();
        let (mut rest, mut at_rest) = (Vec::new(), Vec::new());
        for asked in &mut self.asked {
            match cache.near(&asked.ask.id, wanted) {
                Near::Value(value) => {
                    inner.counters.add(Counter::LocalHits);
                    asked.state = State::Done(Some(value));
                }
                near => {
                    rest.push((asked.ask.id.clone(), asked.ask.entry.clone(), near));
                    at_rest.push(asked);
                }
            }
        }
        if rest.is_empty() || !inner.may_ask() {
            return Ok(());
        }
        let found = cache.find_many(&inner.quick, rest, wanted).await;
        let Some(found) = inner.or_without(found)? else { return Ok(()) };
        for (asked, found) in at_rest.into_iter().zip(found) {
            let found = match found {
                Got::Here(value) => {
                    inner.counters.add(Counter::LocalHits);
                    asked.state = State::Done(Some(value));
                    continue;
                }
                Got::There(found) => found,
            };
            asked.state = match found {
                Ok(found) if found.age == Age::Fresh => {
                    inner.counters.add(Counter::Hits);
                    State::Done(Some(found.value))
                }
                Ok(found) => {
                    let is_served = found.age.is_served_meanwhile();
                    inner.counters.add(if is_served { Counter::Hits } else { Counter::Misses });
                    State::Missing(
                        Some(Seen::Beginning(found.entry.beginning())),
                        Some(found.kept()),
                    )
                }
                Err(seen) => {
                    inner.counters.add(Counter::Misses);
                    State::Missing(Some(seen), None)
                }
            };
        }
        Ok(())
    }

    /// Loads what nobody else loads, all at once.
    pub(super) async fn load(&mut self) -> Result<(), Error> {
        let (cache, inner) = (self.cache, &*self.cache.inner);
        let mine = self.lead().await?;
        if mine.is_empty() {
            return Ok(());
        }
        let (began, since) = (inner.flights.moment(), Instant::now());
        mine.iter().filter_map(|mine| mine.lead.as_ref()).for_each(Lead::begins);
        let loading = (self.loader)(mine.iter().map(|mine| self.keys[mine.at].clone()).collect());
        let leases = mine.iter().filter_map(|mine| mine.lease.as_ref().map(|(lease, _)| lease));
        let leases: Vec<&Lease> = leases.collect();
        let loaded = Lease::during_all(leases, inner.in_time(loading)).await;
        let took = since.elapsed();
        let mut loaded = loaded.map(|loaded| {
            let loaded = loaded.into_iter().map(|(key, loaded)| (key.as_ref().to_vec(), loaded));
            loaded.collect::<HashMap<_, _>>()
        });
        let ends = mine.into_iter().map(|mine| {
            let (at, ask) = (mine.at, &self.asked[mine.at].ask);
            let loaded = match &mut loaded {
                Ok(loaded) => Ok(loaded.remove(self.keys[at].as_ref())),
                Err(error) => Err(error.clone()),
            };
            async move { (at, mine.end(cache, ask, loaded, took, began).await) }
        });
        let ends: Vec<_> = ends.collect();
        let mut outcome = Ok(());
        for (at, end) in bounded(AT_ONCE, ends).await {
            match end {
                Ok(value) => self.asked[at].state = State::Done(value),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Takes the leases of the keys that nobody loads, and says what has become of the others.
    async fn lead(&mut self) -> Result<Vec<Mine<'c, V>>, Error> {
        let (cache, inner) = (self.cache, &*self.cache.inner);
        let mut candidates = Vec::new();
        for (at, asked) in self.asked.iter_mut().enumerate() {
            let state = std::mem::replace(&mut asked.state, State::Elsewhere);
            let State::Missing(seen, old) = state else {
                asked.state = state;
                continue;
            };
            let served = old.as_ref().filter(|old| old.age.is_served_meanwhile());
            let seat = match served.map(|old| old.entry.beginning()) {
                Some(mark) => {
                    let note = inner.refreshes.note(mark, inner.settings.lease);
                    note.map(|note| (None, Some(note)))
                }
                None => inner.flights.lead(&asked.ask.entry).map(|lead| (Some(lead), None)),
            };
            match (seat, old) {
                (Some((lead, note)), old) => {
                    candidates.push((seen, note, Mine { at, lead, old, lease: None }));
                }
                (None, Some(old)) if old.age.is_served_meanwhile() => {
                    asked.state = State::Done(Some(inner.serve(old).value));
                }
                (None, _) => {}
            }
        }
        let turns = candidates.into_iter().map(|(seen, note, mine)| {
            let ask = &self.asked[mine.at].ask;
            let has_fallback = mine.old.as_ref().is_some_and(|old| old.age.is_fallback());
            async move {
                let turn = match seen {
                    None => Ok(Answer::Load(None)),
                    Some(seen) => cache.ask_for_lease(ask, &seen, has_fallback, note).await,
                };
                (mine, turn)
            }
        });
        let turns: Vec<_> = turns.collect();
        let mut mine = Vec::new();
        for (it, turn) in bounded(AT_ONCE, turns).await {
            match (turn, it) {
                (Ok(Answer::Load(Some(lease))), it) => mine.push(Mine { lease: Some(lease), ..it }),
                (Ok(Answer::There(Ok(found), _)), Mine { at, .. }) if found.age.is_fresh() => {
                    self.asked[at].state = State::Done(Some(found.value));
                }
                // Who has something to serve does so.
                (turn, Mine { at, lead: None, old: Some(old), .. }) => {
                    if let Err(error) = turn {
                        inner.tell_unasked(&error);
                    }
                    self.asked[at].state = State::Done(Some(inner.serve(old).value));
                }
                (Ok(Answer::Failed), Mine { at, old: Some(old), .. }) => {
                    self.asked[at].state = State::Done(Some(inner.serve(old).value));
                }
                // Looked at once more by who waits for one key.
                (Ok(Answer::Failed | Answer::Elsewhere(..) | Answer::There(..)), _) => {}
                (Ok(Answer::Load(None)), it) => mine.push(it),
                (Err(error), it) => {
                    inner.or_without::<()>(Err(error))?;
                    mine.push(it);
                }
            }
        }
        Ok(mine)
    }

    /// Waits for what others load, one key by the other, and loads where they fail.
    pub(super) async fn wait(&mut self) -> Result<(), Error> {
        let (cache, loader) = (self.cache, self.loader);
        let elsewhere = self.asked.iter().enumerate();
        let elsewhere = elsewhere.filter(|(_, asked)| matches!(asked.state, State::Elsewhere));
        let waits = elsewhere.map(|(at, asked)| {
            let ask = Ask { is_counted: true, ..asked.ask.clone() };
            let key = &self.keys[at];
            let load = move |_previous| async move {
                let loaded = loader(vec![key.clone()]).await?;
                let mut loaded = loaded.into_iter();
                let value = loaded.find(|(it, _)| it.as_ref() == key.as_ref());
                value.map(|(_, loaded)| loaded).ok_or_else(|| BoxError::from(Absent))
            };
            let loader = One::revalidating(load);
            let load = GetOrLoad { cache, ask, loader, background: None };
            async move { (at, load.await) }
        });
        let waits: Vec<_> = waits.collect();
        for (at, value) in bounded(AT_ONCE, waits).await {
            self.asked[at].state = match value {
                Ok(value) => State::Done(Some(value)),
                Err(error) if error.is_absent() => State::Done(None),
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// The value of each key.
    pub(super) fn values(self) -> Vec<Option<V>> {
        let values = self.asked.into_iter().map(|asked| match asked.state {
            State::Done(value) => value,
            State::Missing(..) | State::Elsewhere => None,
        });
        values.collect()
    }
}

impl<V: Send + 'static> Mine<'_, V> {
    /// Ends its load, which has brought this: it is stored; and where it failed, what is there may be given.
    async fn end(
        self,
        cache: &Cache<V>,
        ask: &Ask,
        loaded: Result<Option<Loaded<V>>, Error>,
        took: Duration,
        began: u64,
    ) -> Result<Option<V>, Error> {
        let Self { lead, lease, old, .. } = self;
        let land = |outcome| {
            if let Some(lead) = lead {
                lead.land(Landing { began, outcome });
            }
        };
        match loaded.and_then(|it| it.map(|loaded| cache.write(loaded, took)).transpose()) {
            Ok(None) => {
                if let Some((lease, _)) = lease {
                    lease.give_up().await;
                }
                Ok(None)
            }
            Ok(Some(written)) => {
                let origin = match lease {
                    Some((lease, tags)) => {
                        let fill = written.fill(&ask.terms, tags, began);
                        cache.fill(lease, fill).await
                    }
                    None => {
                        cache.inner.counters.add(Counter::Bypassed);
                        Origin::Bypassed
                    }
                };
                land(Outcome::Value(written.encoded, origin, None));
                Ok(Some(written.value))
            }
            Err(error) => {
                if let Some((lease, _)) = lease {
                    lease.fail().await;
                }
                land(Outcome::Failed(error.clone()));
                let old = old.filter(|old| old.age.is_fallback());
                let served = cache.or_fallback(ask, old, Err(error)).await?;
                Ok(Some(served.value))
            }
        }
    }
}
