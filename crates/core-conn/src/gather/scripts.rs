//! Calls of a batch script, of which one run serves many.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use super::{Callers, Flights, Served, apart::Apart, failed, group::Group, refused};
use crate::{
    Error, ErrorKind, Replay, Reply,
    commands::Each,
    conn::{Manner, Route},
};

/// How many groups without callers are kept for the next ones.
const MOST_IDLE: usize = 32;
/// What is shared by the callers of a group is kept with it. Callers who share more than this ask by themselves.
const MOST_SHARED: usize = 4096;

/// Whose calls are one.
#[derive(Default)]
pub(super) struct Scripts {
    groups: Mutex<HashMap<Shared, Callers>>,
    apart: Apart,
}

/// What callers have in common when one run serves them.
#[derive(Eq, Hash, PartialEq)]
struct Shared {
    /// The address of the script.
    script: usize,
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
        let shared = Shared {
            script: std::ptr::from_ref(each.script).addr(),
            slot,
            replay: manner.replay,
            keys: each.keys.len(),
            args: each.args.len(),
            shared: each.shared.clone(),
        };
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if groups.len() >= MOST_IDLE && !groups.contains_key(&shared) {
            groups.retain(|_, group| !group.is_idle());
        }
        let group = groups.entry(shared).or_insert_with(Group::new);
        Some((Arc::clone(group), weigh(&each.keys) + weigh(&each.args)))
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
