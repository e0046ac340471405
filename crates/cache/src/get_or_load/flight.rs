//! One load per key in this process: callers wait, one of them loads.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use redbrick_core_conn::Key;
use tokio::{
    sync::{Mutex as Turn, Notify, OwnedMutexGuard},
    time::{Instant, timeout_at},
};

use crate::{Error, Origin};

/// The loads under way, by the key of their entry. A load is in here while somebody loads or waits.
#[derive(Default)]
pub(crate) struct Flights {
    under_way: Mutex<HashMap<Key, Weak<Flight>>>,
    /// Orders the beginnings of loads and of calls.
    moments: AtomicU64,
    /// When a tag was invalidated here last. Nobody knows which loads under way that concerns.
    tag_invalidated: AtomicU64,
}

/// One load, or several attempts at it one after the other.
#[derive(Default)]
struct Flight {
    turn: Arc<Turn<()>>,
    landing: OnceLock<Landing>,
    landed: Notify,
    /// Whether its value is being loaded, and not only looked for.
    has_begun: AtomicBool,
}

/// What came of a load.
#[derive(Clone)]
pub(crate) struct Landing {
    /// Before the value was read, here or by its loader.
    pub(crate) began: u64,
    pub(crate) outcome: Outcome,
}

#[derive(Clone)]
pub(crate) enum Outcome {
    /// The encoded value; where Redis had it, with the names of its tags.
    Value(Bytes, Origin, Option<Vec<Bytes>>),
    Failed(Error),
}

/// What a caller may do now.
pub(crate) enum Seat<'a> {
    /// Load, and [land](Lead::land); when it is dropped before, the next caller leads.
    Lead(Lead<'a>),
    /// Somebody else loaded.
    Landed(Landing),
}

/// The right to load. Leaves nothing behind when dropped.
pub(crate) struct Lead<'a> {
    place: Place<'a>,
    _turn: OwnedMutexGuard<()>,
}

/// How long a call waits for others in its process.
pub(crate) struct Patience {
    until: Instant,
    once_more: Duration,
}

impl Patience {
    /// So long for one load, and as long for another.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { until: Instant::now() + patience, once_more: patience }
    }
}

/// A caller's hold on a flight, the last of which takes it from the map.
struct Place<'a> {
    flights: &'a Flights,
    key: Key,
    flight: Option<Arc<Flight>>,
}

impl Flights {
    /// Returns a moment later than all before.
    pub(crate) fn moment(&self) -> u64 {
        self.moments.fetch_add(1, Ordering::SeqCst)
    }

    /// A tag was invalidated here.
    pub(crate) fn invalidated_tag(&self) {
        self.tag_invalidated.fetch_max(self.moment(), Ordering::SeqCst);
    }

    /// Whether no tag was invalidated here since that moment.
    pub(crate) fn no_tag_since(&self, moment: u64) -> bool {
        self.tag_invalidated.load(Ordering::SeqCst) <= moment
    }

    /// Waits for the load of `key` that is under way, or begins one.
    ///
    /// A leader can stop being polled without being dropped, which is why nobody waits for ever: at the end of its patience, a
    /// waiter begins a load beside it, or waits as long once more for another one that has begun so.
    pub(crate) async fn join<'a>(&'a self, key: &Key, patience: &mut Patience) -> Seat<'a> {
        loop {
            let place = self.enter(key);
            let Some(flight) = place.flight.clone() else { continue };
            let turn = {
                let mut landed = pin!(flight.landed.notified());
                // What lands from here on is heard of, by all at once.
                landed.as_mut().enable();
                if let Some(landing) = flight.landing.get() {
                    return Seat::Landed(landing.clone());
                }
                let turn = async {
                    tokio::select! {
                        biased;
                        () = landed => None,
                        turn = Arc::clone(&flight.turn).lock_owned() => Some(turn),
                    }
                };
                timeout_at(patience.until, turn).await
            };
            match (flight.landing.get(), turn) {
                (Some(landing), _) => return Seat::Landed(landing.clone()),
                (None, Ok(Some(turn))) => {
                    drop(flight);
                    return Seat::Lead(Lead { place, _turn: turn });
                }
                (None, Ok(None)) => {}
                (None, Err(_)) => {
                    patience.until += std::mem::take(&mut patience.once_more);
                    // Only this one: others who lost patience may have begun the next.
                    let mut map = self.map();
                    if is_it(&map, key, &flight) {
                        map.remove(key);
                    }
                }
            }
        }
    }

    /// Begins the load of `key`, if nobody loads it.
    pub(crate) fn lead<'a>(&'a self, key: &Key) -> Option<Lead<'a>> {
        let place = self.enter(key);
        let flight = place.flight.clone()?;
        let turn = Arc::clone(&flight.turn).try_lock_owned().ok()?;
        flight.landing.get().is_none().then(|| Lead { place, _turn: turn })
    }

    /// Lets nobody join the load of `key` any more that has begun: what it brings is not for those who ask from here on, and they need
    /// not wait for it.
    pub(crate) fn detach(&self, key: &Key) {
        let mut map = self.map();
        if map.get(key).is_some_and(has_begun) {
            map.remove(key);
        }
    }

    /// The same for the loads of all keys that match.
    pub(crate) fn detach_matching(&self, matches: impl Fn(&Key) -> bool) {
        self.map().retain(|key, flight| !(matches(key) && has_begun(flight)));
    }

    /// How many loads are under way.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.map().len()
    }

    fn enter<'a>(&'a self, key: &Key) -> Place<'a> {
        let mut map = self.map();
        let known = map.get(key).and_then(Weak::upgrade);
        let flight = known.unwrap_or_else(|| {
            let flight = Arc::new(Flight::default());
            map.insert(key.clone(), Arc::downgrade(&flight));
            flight
        });
        Place { flights: self, key: key.clone(), flight: Some(flight) }
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Weak<Flight>>> {
        // Nothing that can panic runs while it is held.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lead<'_> {
    /// From here on the value is loaded.
    pub(crate) fn begins(&self) {
        if let Some(flight) = &self.place.flight {
            flight.has_begun.store(true, Ordering::SeqCst);
        }
    }

    /// Ends the load: whoever waits is given `landing`, whoever comes now begins anew.
    pub(crate) fn land(self, landing: Landing) {
        let Some(flight) = &self.place.flight else { return };
        let mut map = self.place.flights.map();
        if is_it(&map, &self.place.key, flight) {
            map.remove(&self.place.key);
        }
        drop(map);
        // It is set once: by who has the turn, before the next one has it.
        let _ = flight.landing.set(landing);
        flight.landed.notify_waiters();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut map = self.flights.map();
        let Some(flight) = self.flight.take() else { return };
        // Others come to hold it within the lock alone.
        if Arc::strong_count(&flight) == 1 && is_it(&map, &self.key, &flight) {
            map.remove(&self.key);
        }
    }
}

fn has_begun(flight: &Weak<Flight>) -> bool {
    flight.upgrade().is_some_and(|flight| flight.has_begun.load(Ordering::SeqCst))
}

fn is_it(map: &HashMap<Key, Weak<Flight>>, key: &Key, flight: &Arc<Flight>) -> bool {
    map.get(key).is_some_and(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(flight)))
}

#[cfg(test)]
mod tests {
    use redbrick_core_conn::Prefix;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn key() -> Key {
        Prefix::new("cache").key("key")
    }

    async fn join<'a>(flights: &'a Flights, key: &Key, patience: Duration) -> Seat<'a> {
        flights.join(key, &mut Patience::new(patience)).await
    }

    fn landing() -> Landing {
        Landing { began: 0, outcome: Outcome::Value(Bytes::new(), Origin::Loaded, None) }
    }

    #[tokio::test]
    async fn the_next_leads_when_a_leader_is_dropped_and_nothing_stays() {
        let flights = Flights::default();
        let key = key();
        let Seat::Lead(first) = join(&flights, &key, PATIENCE).await else {
            panic!("nobody leads")
        };
        let mut second = Box::pin(join(&flights, &key, PATIENCE));
        let waits = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(second.as_mut().poll(cx).is_pending())
        });
        assert!(waits.await);
        drop(first);
        let Seat::Lead(second) = second.await else { panic!("the leader is gone") };
        assert_eq!(flights.len(), 1);
        second.land(landing());
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn who_waits_is_given_what_landed_and_who_comes_later_is_not() {
        let flights = Flights::default();
        let key = key();
        let Seat::Lead(first) = join(&flights, &key, PATIENCE).await else {
            panic!("nobody leads")
        };
        let (landed, ()) = tokio::join!(join(&flights, &key, PATIENCE), async {
            first.land(landing());
        });
        assert!(matches!(landed, Seat::Landed(_)));
        assert!(matches!(join(&flights, &key, PATIENCE).await, Seat::Lead(_)));
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn what_has_begun_is_joined_no_more_after_an_invalidation_and_what_has_not_is() {
        let flights = Flights::default();
        let key = key();
        let Seat::Lead(first) = join(&flights, &key, PATIENCE).await else {
            panic!("nobody leads")
        };
        flights.detach(&key);
        flights.detach_matching(|_| true);
        assert!(flights.lead(&key).is_none(), "it has not begun");
        first.begins();
        flights.detach(&key);
        let second = flights.lead(&key).expect("it has begun before the invalidation");
        second.begins();
        flights.detach_matching(|_| true);
        assert!(flights.lead(&key).is_some());
        drop((first, second));
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn a_leader_that_is_never_polled_is_not_waited_for_for_ever() {
        let flights = Flights::default();
        let key = key();
        let first = join(&flights, &key, PATIENCE).await;
        assert!(matches!(first, Seat::Lead(_)));
        assert!(matches!(join(&flights, &key, Duration::from_millis(20)).await, Seat::Lead(_)));
        drop(first);
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_loses_patience_later_joins_the_load_that_another_began() {
        let flights = Flights::default();
        let key = key();
        let _stuck = join(&flights, &key, PATIENCE).await;
        let (mut sooner, mut later) =
            (Patience::new(PATIENCE), Patience::new(PATIENCE + Duration::from_secs(1)));
        let (mut one, mut two) =
            (Box::pin(flights.join(&key, &mut sooner)), Box::pin(flights.join(&key, &mut later)));
        let second = tokio::select! {
            seat = &mut one => seat,
            _ = &mut two => panic!("it has more patience"),
        };
        let Seat::Lead(second) = second else { panic!("nobody leads") };
        let (landed, ()) = tokio::join!(two, async {
            tokio::time::advance(PATIENCE).await;
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            second.land(landing());
        });
        assert!(matches!(landed, Seat::Landed(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_behind_one_that_is_never_polled_is_given_what_landed() {
        let flights = Flights::default();
        let key = key();
        let Seat::Lead(first) = join(&flights, &key, PATIENCE).await else {
            panic!("nobody leads")
        };
        let began = Instant::now();
        let mut parked = Box::pin(join(&flights, &key, PATIENCE));
        let polled = tokio::time::timeout(Duration::from_millis(1), &mut parked).await;
        assert!(polled.is_err(), "it waits");
        let (landed, ()) = tokio::join!(join(&flights, &key, PATIENCE), async {
            first.land(landing());
        });
        assert!(matches!(landed, Seat::Landed(_)) && began.elapsed() < PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn behind_many_that_are_never_polled_nobody_waits_for_more_than_two() {
        let flights = Flights::default();
        let key = key();
        let began = Instant::now();
        let mut waiting = Box::pin(join(&flights, &key, PATIENCE));
        let mut stuck = Vec::new();
        for _ in 0..5 {
            stuck.push(join(&flights, &key, Duration::ZERO).await);
            let polled = tokio::time::timeout(PATIENCE / 4, &mut waiting).await;
            assert!(polled.is_err(), "it waits");
        }
        assert!(matches!(waiting.await, Seat::Lead(_)));
        assert_eq!(began.elapsed(), PATIENCE * 2);
    }
}
