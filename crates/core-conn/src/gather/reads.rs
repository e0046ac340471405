//! Reads of single values, which leave as one `MGET`.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use foldhash::fast::RandomState;

use super::{
    Callers, Courier, Served, apart::Apart, by_themselves, failed, group::Group, sizes::Sizes,
};
use crate::{
    ErrorKind, Replay, Reply, Result,
    commands::{Request, behind_never_set, values_behind},
    conn::{Manner, Route, SLOTS},
};

/// Who reads together: those who ask masters, and those who may ask replicas.
pub(super) struct Reads {
    masters: Groups,
    replicas: Groups,
    pub(super) sizes: Sizes,
    pub(super) apart: Arc<Apart>,
}

/// On a cluster one for each slot.
enum Groups {
    One(Callers),
    Slots(OnceLock<Box<[Slot]>>),
}

/// Most keys of a cluster lie in slots that nobody else asks for. So it is counted in few bytes who is there, and a group is
/// made and looked at only where there are several.
#[derive(Default)]
struct Slot {
    present: AtomicU32,
    callers: OnceLock<Callers>,
}

/// A caller who counts among those of a slot until this is dropped.
pub(crate) struct Present<'a>(&'a AtomicU32);

/// Who else may be there.
pub(super) struct Company<'a> {
    /// None where there is hardly anybody.
    pub(super) callers: Option<&'a Callers>,
    /// Where the caller itself is counted.
    pub(super) present: Option<Present<'a>>,
}

impl Reads {
    pub(super) fn new(is_cluster: bool) -> Self {
        let groups =
            || if is_cluster { Groups::Slots(OnceLock::new()) } else { Groups::One(Group::new()) };
        Self {
            masters: groups(),
            replicas: groups(),
            sizes: Sizes::default(),
            apart: Arc::default(),
        }
    }

    /// Who could read together with a caller, where a few do not count.
    pub(super) fn company(&self, manner: &Manner, few: usize) -> Option<Company<'_>> {
        if manner.replay != Replay::Idempotent || self.apart.next() {
            return None;
        }
        let groups = if manner.read_from.may_be_replica() { &self.replicas } else { &self.masters };
        groups.company(&manner.route, few)
    }
}

impl Groups {
    fn company(&self, route: &Route, few: usize) -> Option<Company<'_>> {
        match (self, route) {
            (Self::One(group), Route::Any) => Some(Company { callers: Some(group), present: None }),
            (Self::Slots(slots), Route::Slot(slot)) => {
                let slots = slots.get_or_init(|| (0..SLOTS).map(|_| Slot::default()).collect());
                let slot = slots.get(usize::from(*slot))?;
                let (present, others) = Present::count(&slot.present);
                let is_lonely = usize::try_from(others).is_ok_and(|others| others < few);
                let callers = (!is_lonely).then(|| slot.callers.get_or_init(Group::new));
                Some(Company { callers, present: Some(present) })
            }
            _ => None,
        }
    }
}

impl<'a> Present<'a> {
    /// Counts a caller; returns how many others there are.
    fn count(all: &'a AtomicU32) -> (Self, u32) {
        let others = all.fetch_add(1, Relaxed);
        (Self(all), others)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Courier {
    /// Reads several values at once. A key that is asked for twice is read once.
    pub(super) async fn read(&self, mut keys: Vec<Bytes>) -> Vec<Served> {
        let callers = keys.len();
        let places = repeated(&keys);
        if let Some(Places { first, .. }) = &places {
            keys = first.iter().map(|place| keys[*place].clone()).collect();
        }
        let read = match &*keys {
            [key] => self
                .send(Request::Get(key.clone()), callers)
                .await
                .map(|read| Ok(vec![value(read)?])),
            _ => self.send(self.together(&keys), callers).await.map(|read| match read? {
                Reply::List(replies) => values_behind(replies, keys.len()),
                other => Err(other.unexpected("a list")),
            }),
        };
        let reads = &self.core.gathering.reads;
        match read {
            None => by_themselves(callers),
            Some(Ok(values)) => {
                reads.sizes.note(values.len(), values.iter().map(size).sum());
                match places {
                    None => values.into_iter().map(Served::Answered).collect(),
                    Some(Places { of_each, .. }) => {
                        let value = |place: usize| Served::Answered(values[place].clone());
                        of_each.into_iter().map(value).collect()
                    }
                }
            }
            Some(Err(err)) => failed(&err, callers, &self.apart),
        }
    }

    /// Asks for keys of one slot behind one that nobody can have set, so that no answer begins with a stored value.
    fn together(&self, keys: &[Bytes]) -> Request {
        let slot = match self.route {
            Route::Slot(slot) => Some(slot),
            _ => None,
        };
        let prefix = &self.core.config.key_prefix;
        Request::GetTogether(behind_never_set(prefix, slot, keys.to_vec()))
    }
}

/// Where keys are, of which some are asked for more than once.
struct Places {
    /// Of each distinct key, who asks for it first.
    first: Vec<usize>,
    /// Of each caller, which of those it asks for.
    of_each: Vec<usize>,
}

/// Finds out who asks for the same; nothing, when nobody does.
fn repeated(keys: &[Bytes]) -> Option<Places> {
    // So few that nobody who chooses keys can make it slow.
    let mut known = HashMap::with_capacity_and_hasher(keys.len(), RandomState::default());
    let mut first = Vec::with_capacity(keys.len());
    let places = keys.iter().enumerate().map(|(caller, key)| {
        *known.entry(&**key).or_insert_with(|| {
            first.push(caller);
            first.len() - 1
        })
    });
    let of_each: Vec<_> = places.collect();
    (first.len() < keys.len()).then_some(Places { first, of_each })
}

/// A value that was read by itself. One of another type counts as none, as it does among several.
fn value(read: Result<Reply>) -> Result<Reply> {
    read.or_else(|err| if err.kind() == ErrorKind::WrongType { Ok(Reply::Nil) } else { Err(err) })
}

/// How many bytes a value has.
pub(super) fn size(value: &Reply) -> usize {
    match value {
        Reply::Bytes(bytes) => bytes.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_company_while_more_than_a_few_are_there() {
        let groups = Groups::Slots(OnceLock::new());
        let ask = |slot| groups.company(&Route::Slot(slot), 2).unwrap();
        let here = [ask(7), ask(7)];
        assert!(here.iter().all(|company| company.callers.is_none()));
        assert!(ask(7).callers.is_some(), "two others are there");
        assert!(ask(8).callers.is_none(), "nobody else asks for this slot");
        drop(here);
        assert!(ask(7).callers.is_none(), "they have gone");
    }
}
