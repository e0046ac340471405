//! Those who read and load.

use std::{
    future::IntoFuture,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use redbrick_cache::{Error, Fetched, Loaded, Origin};
use tokio::time::timeout;

use super::{
    database::{Database, Place, SHARED, Value},
    member::{LEASE, LOAD_TIMEOUT, Member, millis},
};

/// How often a slow loader looks at what is to be seen by now.
const LOOK: Duration = Duration::from_millis(40);

/// What a loader does.
#[derive(Clone, Copy, Debug)]
struct Loading {
    takes: Duration,
    fails: bool,
}

/// How a caller polls its call.
#[derive(Clone, Copy, Debug)]
enum Polling {
    Always,
    /// Only for so long.
    Dropped(Duration),
    /// Only for so long, and then not for longer than a lease.
    Interrupted(Duration),
}

/// What is known of a load from within.
#[derive(Debug, Default)]
struct Trace {
    ran: AtomicBool,
    /// What was to be seen when it was about to fail, or a little before.
    floor: AtomicU64,
}

pub(super) async fn run(member: Arc<Member>, mut chance: fastrand::Rng) {
    while member.goes_on() {
        crate::rest(millis(&mut chance, 0..3)).await;
        let place = Place::random(&mut chance);
        match chance.u32(..20) {
            0..3 => get(&member, place).await,
            3..5 => get_many(&member, &mut chance).await,
            5..8 => load_in_background(&member, &mut chance, place).await,
            8 => load_many(&member, &mut chance, place).await,
            9 => load_with_tags_of_its_own(&member, &mut chance, place).await,
            way => load(&member, &mut chance, place, way >= 17).await,
        }
    }
}

async fn get(member: &Member, place: Place) {
    member.add("get");
    let floor = member.floor(place, &[]).await;
    match member.cache(place).get(place.id()).await {
        Ok(Some(read)) => member.check("get", place, floor, &read).await,
        Ok(None) => {}
        Err(error) => member.failed(&error),
    }
}

async fn get_many(member: &Member, chance: &mut fastrand::Rng) {
    member.add("get_many");
    let first = Place::random(chance);
    let others = (0..20).map(|_| Place::random(chance));
    let places: Vec<_> = others.filter(|place| place.cache() == first.cache()).collect();
    let floors = member.floors(&places).await;
    match member.cache(first).get_many(places.iter().map(|place| place.id())).await {
        Ok(all) => {
            for ((place, floor), read) in places.into_iter().zip(floors).zip(all) {
                if let Some(read) = read {
                    member.check("get_many", place, floor, &read).await;
                }
            }
        }
        Err(error) => member.failed(&error),
    }
}

async fn load(member: &Member, chance: &mut fastrand::Rng, place: Place, anew: bool) {
    let name = if anew { "refresh" } else { "get_or_load" };
    member.add(name);
    let (loading, polling) = (Loading::random(chance), Polling::random(chance));
    let trace = Trace::default();
    let loader = || loading.load(&member.database, place, &trace);
    let (cache, tags) = (member.cache(place), tags(chance, place));
    let floor = member.floor(place, &tags).await;
    let call = match anew {
        true => cache.refresh(place.id(), loader),
        false => cache.get_or_load(place.id(), loader),
    };
    let call = call.tags(tags).with_origin().into_future();
    if let Some(outcome) = polling.poll(member, call).await {
        fetched(member, name, place, floor, &trace, outcome).await;
    }
}

async fn load_in_background(member: &Member, chance: &mut fastrand::Rng, place: Place) {
    let name = "get_or_load in background";
    member.add(name);
    let (loading, polling) = (Loading::random(chance), Polling::random(chance));
    let trace = Arc::new(Trace::default());
    let (database, seen) = (member.database.clone(), Arc::clone(&trace));
    let loader = move || async move { loading.load(&database, place, &seen).await };
    let tags = tags(chance, place);
    let floor = member.floor(place, &tags).await;
    let call = member.cache(place).get_or_load(place.id(), loader).tags(tags);
    let call = call.refresh_in_background().with_origin().into_future();
    if let Some(outcome) = polling.poll(member, call).await {
        // The loader may run on, so that nothing is known of what it sees.
        let trace = Trace { ran: trace.ran.load(Ordering::SeqCst).into(), floor: 0.into() };
        fetched(member, name, place, floor, &trace, outcome).await;
    }
}

/// Some keys of a family, since they are loaded with its tag.
async fn load_many(member: &Member, chance: &mut fastrand::Rng, place: Place) {
    member.add("get_or_load_many");
    let places: Vec<_> = place.siblings().into_iter().filter(|_| chance.bool()).collect();
    let (loading, polling) = (Loading::random(chance), Polling::random(chance));
    let tags = tags(chance, place);
    let floors = member.floors_naming(&places, &tags).await;
    let traces: Vec<_> = places.iter().map(|_| Trace::default()).collect();
    let loader = async |missing: Vec<String>| {
        let mut loaded = Vec::new();
        let all = places.iter().zip(&traces);
        for (place, trace) in all.filter(|(place, _)| missing.contains(&place.id())) {
            loaded.push((place.id(), loading.load(&member.database, *place, trace).await?));
        }
        Ok::<_, std::io::Error>(loaded)
    };
    let bypassed = || member.cache(place).statistics().bypassed;
    let before = bypassed();
    let ids = places.iter().map(|place| place.id());
    let call = member.cache(place).get_or_load_many(ids, loader).tags(tags).into_future();
    match polling.poll(member, call).await {
        Some(Ok(all)) => {
            let bypasses = bypassed() > before;
            for (((place, trace), floor), read) in places.iter().zip(&traces).zip(floors).zip(all) {
                let read = read.expect("each is loaded");
                if bypasses && !trace.ran.load(Ordering::SeqCst) {
                    // It may be what another one loads where Redis could not be asked, see below.
                    member.add("perhaps bypassed by another");
                } else {
                    member.check("get_or_load_many", *place, floor, &read).await;
                }
            }
        }
        Some(Err(error)) => member.failed(&error),
        None => {}
    }
}

/// The loader names the tags, and its caller does not.
async fn load_with_tags_of_its_own(member: &Member, chance: &mut fastrand::Rng, place: Place) {
    let name = "get_or_load_with";
    member.add(name);
    let (loading, polling) = (Loading::random(chance), Polling::random(chance));
    let (trace, tags) = (Trace::default(), tags(chance, place));
    let loader = async |_previous| {
        let value = loading.load(&member.database, place, &trace).await?;
        Ok::<_, std::io::Error>(Loaded::new(value).tags(tags))
    };
    let floor = member.floor(place, &[]).await;
    let call = member.cache(place).get_or_load_with(place.id(), loader);
    if let Some(outcome) = polling.poll(member, call.with_origin().into_future()).await {
        fetched(member, name, place, floor, &trace, outcome).await;
    }
}

async fn fetched(
    member: &Member,
    name: &str,
    place: Place,
    floor: u64,
    trace: &Trace,
    outcome: Result<Fetched<Value>, Error>,
) {
    let Fetched { value, origin } = match outcome {
        Ok(fetched) => fetched,
        Err(error) => return member.failed(&error),
    };
    let ran = trace.ran.load(Ordering::SeqCst);
    let (how, floor) = match origin {
        // Where servers restart it may be given without a question: nobody here knows then what others invalidated since it was read.
        Origin::Cached | Origin::Stale if ran && member.keeps() => ("given after a failure", floor),
        // What was there is given although its load failed: nothing was invalidated before that.
        Origin::Cached | Origin::Stale if ran => {
            ("given after a failure", floor.max(trace.floor.load(Ordering::SeqCst)))
        }
        Origin::Cached => ("cached", floor),
        Origin::Local => ("local", floor),
        Origin::Stale => ("stale", floor),
        Origin::Loaded => ("loaded", floor),
        // Where Redis could not be asked, a load counts that began before.
        Origin::Bypassed if !ran => return member.add("bypassed by another"),
        _ => ("bypassed", floor),
    };
    member.add(how);
    member.check(&format!("{name} ({how})"), place, floor, &value).await;
}

/// All tags that an entry must have, and one more now and then.
fn tags(chance: &mut fastrand::Rng, place: Place) -> Vec<String> {
    let shared = (chance.u32(..4) == 0).then(|| SHARED.to_owned());
    place.tag().into_iter().chain(shared).collect()
}

impl Loading {
    fn random(chance: &mut fastrand::Rng) -> Self {
        let takes = match chance.u32(..60) {
            0..30 => Duration::ZERO,
            30..54 => millis(chance, 1..20),
            54..59 => millis(chance, 20..200),
            _ => millis(chance, 200..700),
        };
        Self { takes, fails: chance.u32(..5) == 0 }
    }

    async fn load(
        self,
        database: &Database,
        place: Place,
        trace: &Trace,
    ) -> Result<Value, std::io::Error> {
        trace.ran.store(true, Ordering::SeqCst);
        let value = database.load(place).await;
        let mut left = self.takes.min(LOAD_TIMEOUT * 2);
        while !left.is_zero() {
            let some = left.min(LOOK);
            crate::rest(some).await;
            left -= some;
            if left > Duration::ZERO || self.fails {
                trace.floor.store(database.floor(place).await, Ordering::SeqCst);
            }
        }
        if self.fails { Err(std::io::Error::other("as it was to")) } else { Ok(value) }
    }
}

impl Polling {
    fn random(chance: &mut fastrand::Rng) -> Self {
        match chance.u32(..30) {
            0..2 => Self::Dropped(millis(chance, 0..8)),
            2 => Self::Interrupted(millis(chance, 0..8)),
            _ => Self::Always,
        }
    }

    async fn poll<T>(self, member: &Member, call: impl Future<Output = T>) -> Option<T> {
        let mut call = pin!(call);
        match self {
            Self::Always => Some(call.await),
            Self::Dropped(most) => {
                let ended = timeout(most, call).await.ok();
                if ended.is_none() {
                    member.add("dropped");
                }
                ended
            }
            Self::Interrupted(most) => {
                if let Ok(ended) = timeout(most, &mut call).await {
                    return Some(ended);
                }
                member.add("not polled");
                crate::rest(LEASE * 3 / 2).await;
                Some(call.await)
            }
        }
    }
}
