//! Calls of a batch script, of which one run serves many.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use super::{Callers, Flights, Served, apart::Apart, failed, group::Group, refused};
use crate::{
    Error, ErrorKind, Replay, Reply,
    commands::{Each, Script},
    conn::{Manner, Route},
};

/// How many groups without callers are kept for the next ones.
const MOST_IDLE: usize = 32;
/// What is shared by the callers of a group is kept with it. Callers who share more than this ask by themselves.
const MOST_SHARED: usize = 4096;

/// Whose calls are one.
#[derive(Default)]
pub(super) struct Scripts {
    /// By a hash of what their callers share, so that a caller finds its own without a copy of that.
    groups: Mutex<HashMap<u64, Vec<Sharing>>>,
    hashes: RandomState,
    apart: Apart,
}

/// Callers, and what they have in common.
struct Sharing {
    callers: Callers,
    script: &'static Script,
    slot: Option<u16>,
    replay: Replay,
    keys: usize,
    args: usize,
    shared: Vec<Bytes>,
}

impl Scripts {
    /// Who can be served by one run with a caller, and what its part weighs.
    pub(super) fn callers(&self, each: &Each, manner: &Manner) -> Option<(Callers, usize)> {
        let weigh = |parts: &[Bytes]| parts.iter().map(Bytes::len).sum::<usize>();
        if manner.replay == Replay::Never || self.apart.next() || weigh(&each.shared) > MOST_SHARED
        {
            return None;
        }
        let slot = match manner.route {
            Route::Any => None,
            Route::Slot(slot) => Some(slot),
            Route::Node(_) => return None,
        };
        let replay = manner.replay;
        let hash = self.hashes.hash_one((each.script.name(), slot, &each.shared));
        let weight = weigh(&each.keys) + weigh(&each.args);
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let known = groups.get(&hash).into_iter().flatten();
        let mut known = known.filter(|sharing| sharing.is_with(each, slot, replay));
        if let Some(sharing) = known.next() {
            return Some((Arc::clone(&sharing.callers), weight));
        }
        if groups.len() >= MOST_IDLE {
            groups.retain(|_, alike| {
                alike.retain(|sharing| !sharing.callers.is_idle());
                !alike.is_empty()
            });
        }
        let callers = Group::new();
        groups.entry(hash).or_default().push(Sharing {
            callers: Arc::clone(&callers),
            script: each.script,
            slot,
            replay,
            keys: each.keys.len(),
            args: each.args.len(),
            shared: each.shared.clone(),
        });
        Some((callers, weight))
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

impl Flights {
    /// Runs a script once for several callers.
    pub(super) async fn run(&self, parts: Vec<Each>) -> Vec<Served> {
        let callers = parts.len();
        let Some(run) = Each::one_run(parts) else { return refused(callers) };
        match self.send(run).await {
            None => refused(callers),
            Some(Ok(reply)) => self.results(reply, callers),
            Some(Err(err)) => {
                if err.kind() == ErrorKind::Denied && callers > 1 {
                    self.core.gathering.scripts.apart.begin();
                }
                failed(&err, callers)
            }
        }
    }

    fn results(&self, reply: Reply, callers: usize) -> Vec<Served> {
        match reply.unwrapped() {
            Ok(Reply::List(results)) if results.len() == callers => {
                results.into_iter().map(Served::Answered).collect()
            }
            // What all share has failed, and it changes nothing: each finds out by itself why.
            Err(_) => {
                self.core.gathering.scripts.apart.begin();
                refused(callers)
            }
            Ok(_) => {
                let what = "the batch script answered with another list than was asked for";
                failed(&Error::new(ErrorKind::Protocol, what), callers)
            }
        }
    }
}
