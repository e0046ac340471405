//! What is cached, on a server of its own, and what of its changes must be seen.

#![expect(clippy::unwrap_used, reason = "the database is there all the time")]

use std::{collections::BTreeMap, fmt, sync::Mutex, time::Duration};

use redbrick_core_conn::{Config, Conn};

use crate::PATIENCE;

/// Keys come in families, which have one writer each, and some of which have a tag.
pub(super) const FAMILIES: u64 = 40;
const KEYS: u64 = 5;
/// A share of the calls is about few families, so that they meet.
const BUSY: u64 = 6;

/// A key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) family: u64,
    at: u64,
}

/// What a key has: its name, so that no other one's is taken for it, and how often it was changed.
pub(super) type Value = (String, u64);

/// A tag that some entries carry besides, of whichever family.
pub(super) const SHARED: &str = "shared";

/// Who must see a change.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who {
    All,
    /// The shared tag was invalidated, and entries may lack it. Those who name it are not given these.
    NamesShared,
}

/// The values of keys, and the changes that must be seen.
#[derive(Clone, Debug)]
pub(super) struct Database {
    pub(super) conn: Conn,
}

/// How often things happened, by name.
#[derive(Debug, Default)]
pub(super) struct Figures(Mutex<BTreeMap<String, u64>>);

impl Place {
    pub(super) fn random(chance: &mut fastrand::Rng) -> Self {
        let family = if chance.bool() { chance.u64(..BUSY) } else { chance.u64(..FAMILIES) };
        Self::of(family, chance)
    }

    /// One of this family.
    pub(super) fn of(family: u64, chance: &mut fastrand::Rng) -> Self {
        Self { family, at: chance.u64(..KEYS) }
    }

    pub(super) fn id(self) -> String {
        format!("{}:{}", self.family, self.at)
    }

    /// Which of two caches it lies in.
    pub(super) fn cache(self) -> usize {
        usize::from(self.family % 2 == 1)
    }

    /// The tag by which its family is invalidated, which all of its entries carry.
    pub(super) fn tag(self) -> Option<String> {
        (self.family / 2 % 2 == 1).then(|| format!("family {}", self.family))
    }

    /// The keys of its family.
    pub(super) fn siblings(self) -> Vec<Self> {
        (0..KEYS).map(|at| Self { at, ..self }).collect()
    }
}

impl Database {
    pub(super) async fn connect(url: &str) -> Self {
        Self { conn: connect(url, "database").await }
    }

    /// Changes keys.
    pub(super) async fn change(&self, places: &[Place]) -> Vec<Value> {
        let mut changed = Vec::new();
        for place in places {
            let id = place.id();
            let count = self.conn.increment(format!("value:{id}"), 1).await.unwrap();
            changed.push((id, count.try_into().unwrap()));
        }
        changed
    }

    /// Whom this is about must see these changes from here on: they are invalidated in the cache.
    pub(super) async fn changed(&self, who: Who, values: &[Value]) {
        for (id, count) in values {
            self.conn.set(format!("{who:?}:{id}"), count).await.unwrap();
        }
    }

    /// Which change of a key must be seen by all who look from here on.
    pub(super) async fn floor(&self, place: Place) -> u64 {
        self.floor_of(Who::All, place).await
    }

    /// The same for those who name the tags, the shared one among them or not.
    pub(super) async fn floor_naming(&self, place: Place, tags: &[String]) -> u64 {
        let floor = self.floor(place).await;
        match names_shared(tags) {
            true => floor.max(self.floor_of(Who::NamesShared, place).await),
            false => floor,
        }
    }

    async fn floor_of(&self, who: Who, place: Place) -> u64 {
        let floor = self.conn.get(format!("{who:?}:{}", place.id())).await;
        floor.unwrap().unwrap_or_default()
    }

    pub(super) async fn floors(&self, places: &[Place]) -> Vec<u64> {
        let keys = places.iter().map(|place| format!("{:?}:{}", Who::All, place.id()));
        let floors = self.conn.get_many::<u64, _>(keys.collect::<Vec<_>>()).await.unwrap();
        floors.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// What a loader returns.
    pub(super) async fn load(&self, place: Place) -> Value {
        let id = place.id();
        let count = self.conn.count(format!("value:{id}")).await.unwrap();
        (id, count.unwrap_or_default().try_into().unwrap())
    }

    /// Reports what was read, unless it is the key's and as new as it must be.
    pub(super) async fn check(&self, how: &str, place: Place, floor: u64, read: &Value) {
        let id = place.id();
        if read.0 != id || read.1 < floor {
            let violation = format!("{how} of {id} gave {read:?}, and {floor} was to be seen");
            self.conn.list("violations").push_back(&violation).await.unwrap();
        }
    }

    /// What was reported, within so long.
    pub(super) async fn violation(&self, within: Duration) -> Option<String> {
        self.conn.list("violations").pop_front_within(within).await.unwrap()
    }
}

/// Whether the shared tag is among these.
pub(super) fn names_shared(tags: &[String]) -> bool {
    tags.iter().any(|tag| tag == SHARED)
}

impl Figures {
    pub(super) fn add(&self, what: &str, count: u64) {
        *self.0.lock().unwrap().entry(what.to_owned()).or_default() += count;
    }

    pub(super) fn of(&self, what: &str) -> u64 {
        self.0.lock().unwrap().get(what).copied().unwrap_or_default()
    }

    pub(super) fn all(&self) -> Vec<(String, u64)> {
        self.0.lock().unwrap().clone().into_iter().collect()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.all();
        f.write_str(
            &all.iter()
                .map(|(what, count)| format!("{what} {count}"))
                .collect::<Vec<_>>()
                .join(", "),
        )
    }
}

/// A connection that a busy machine does not make give up.
pub(super) async fn connect(url: &str, name: &str) -> Conn {
    let config = Config::builder().url(url).client_name(name).command_timeout(PATIENCE);
    Conn::connect(config).await.unwrap()
}
