//! Calls of a batch script, of which one run serves many.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use super::{Callers, Courier, Served, apart::Apart, by_themselves, failed, group::Group};
use crate::{
    Error, ErrorKind, Replay, Reply,
    commands::{Each, Script},
    conn::{Manner, Route},
};

/// How many groups are kept at least, with callers or without, before those without are let go.
const KEPT: usize = 32;
/// What a key or an argument weighs besides its bytes.
const WEIGHT: usize = 16;
/// What is shared by the callers of a group is kept with it. Callers who share more than this ask by themselves.
const MOST_SHARED: usize = 4096;

/// Whose calls are one.
pub(super) struct Scripts {
    is_cluster: bool,
    groups: Mutex<Groups>,
    hashes: RandomState,
}

#[derive(Default)]
struct Groups {
    /// By a hash of what their callers share, so that a caller finds its own without a copy of that.
    by_hash: HashMap<u64, Vec<Sharing>>,
    /// How many there were when those without callers were let go. They are again when there are twice as many.
    at_last: usize,
}

/// Callers, and what they have in common.
struct Sharing {
    callers: Callers,
    apart: Arc<Apart>,
    script: &'static Script,
    slot: Option<u16>,
    replay: Replay,
    keys: usize,
    args: usize,
    shared: Vec<Bytes>,
}

impl Scripts {
    pub(super) fn new(is_cluster: bool) -> Self {
        Self { is_cluster, groups: Mutex::default(), hashes: RandomState::new() }
    }

    /// Who can be served by one run with a caller, what its part weighs, and what keeps them apart.
    pub(super) fn callers(
        &self,
        each: &Each,
        manner: &Manner,
    ) -> Option<(Callers, usize, Arc<Apart>)> {
        let weigh = |parts: &[Bytes]| parts.iter().map(|part| part.len() + WEIGHT).sum::<usize>();
        if manner.replay == Replay::Never || weigh(&each.shared) > MOST_SHARED {
            return None;
        }
        let slot = match manner.route {
            Route::Any if !self.is_cluster => None,
            Route::Slot(slot) => Some(slot),
            // Of several servers, one may be stuck.
            Route::Any | Route::Node(_) => return None,
        };
        let replay = manner.replay;
        let hash = self.hashes.hash_one((each.script.name(), slot, &each.shared));
        let weight = weigh(&each.keys) + weigh(&each.args);
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let known = groups.by_hash.get(&hash).into_iter().flatten();
        let mut known = known.filter(|sharing| sharing.is_with(each, slot, replay));
        if let Some(sharing) = known.next() {
            let found = (Arc::clone(&sharing.callers), weight, Arc::clone(&sharing.apart));
            return (!sharing.apart.next()).then_some(found);
        }
        groups.make_room();
        let (callers, apart) = (Group::new(), Arc::default());
        groups.by_hash.entry(hash).or_default().push(Sharing {
            callers: Arc::clone(&callers),
            apart: Arc::clone(&apart),
            script: each.script,
            slot,
            replay,
            keys: each.keys.len(),
            args: each.args.len(),
            shared: each.shared.clone(),
        });
        Some((callers, weight, apart))
    }
}

impl Groups {
    fn make_room(&mut self) {
        if self.by_hash.len() < self.at_last.saturating_mul(2).max(KEPT) {
            return;
        }
        self.by_hash.retain(|_, alike| {
            alike.retain(|sharing| !sharing.callers.is_idle());
            !alike.is_empty()
        });
        self.at_last = self.by_hash.len();
    }
}

impl Sharing {
    /// Whether one run serves these callers and another one.
    fn is_with(&self, each: &Each, slot: Option<u16>, replay: Replay) -> bool {
        std::ptr::eq(self.script, each.script)
            && (self.slot, self.replay) == (slot, replay)
            && (self.keys, self.args) == (each.keys.len(), each.args.len())
            && self.shared == each.shared
    }
}

impl Courier {
    /// Runs a script once for several callers.
    pub(super) async fn run(&self, parts: &[Arc<Each>]) -> Vec<Served> {
        let callers = parts.len();
        let Some(run) = Each::one_run(parts) else { return by_themselves(callers) };
        match self.send(run, callers).await {
            None => by_themselves(callers),
            Some(Ok(reply)) => self.results(reply, callers),
            Some(Err(err)) => failed(&err, callers, &self.apart),
        }
    }

    fn results(&self, reply: Reply, callers: usize) -> Vec<Served> {
        if callers == 1 && reply.is_raised() {
            // In this form it is that of a caller too.
            return vec![Served::Answered(reply)];
        }
        if reply.is_raised() {
            // What all share has failed, and it changes nothing: each finds out by itself why.
            self.apart.begin();
            return by_themselves(callers);
        }
        match reply {
            Reply::List(results) if results.len() == callers + 1 && results[0] == Reply::Int(0) => {
                results.into_iter().skip(1).map(Served::Answered).collect()
            }
            _ => {
                let what = "the batch script answered with another list than was asked for";
                failed(&Error::new(ErrorKind::Protocol, what), callers, &self.apart)
            }
        }
    }
}
