//! What is had in this process, and the one task that renews it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use redbrick_core_conn::Conn;
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};

use crate::{hold::Hold, time::FAR};

/// Renews what is had, each at a third of its lease, as long as this is there. What is due at the same time leaves together.
pub(crate) struct Keeper {
    conn: Conn,
    shared: Arc<Shared>,
    task: Mutex<Option<AbortHandle>>,
}

struct Shared {
    holds: Mutex<Holds>,
    /// Something is due before the task would look.
    sooner: Notify,
}

#[derive(Default)]
struct Holds {
    by_id: HashMap<u64, Entry>,
    due: BTreeSet<(Instant, u64)>,
    last_id: u64,
    /// When the task looks next.
    looks: Option<Instant>,
}

struct Entry {
    hold: Weak<Hold>,
    /// Nothing while it is being renewed, and where it is not to be.
    due: Option<Instant>,
}

/// Something that is had, and perhaps renewed; no more when it is dropped.
pub(crate) struct Kept {
    id: u64,
    shared: Arc<Shared>,
}

impl Keeper {
    pub(crate) fn new(conn: Conn) -> Self {
        let shared = Shared { holds: Mutex::default(), sooner: Notify::new() };
        Self { conn, shared: Arc::new(shared), task: Mutex::default() }
    }

    /// Knows what is had, and renews it from `first` on, if at all.
    pub(crate) fn keep(&self, hold: &Arc<Hold>, first: Option<Instant>) -> Kept {
        let id = self.shared.insert(Arc::downgrade(hold), first);
        if first.is_some() {
            let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
            if task.as_ref().is_none_or(AbortHandle::is_finished) {
                // On a connection that is closed nothing is renewed.
                *task = self.conn.spawn(run(Arc::clone(&self.shared))).ok();
            }
        }
        Kept { id, shared: Arc::clone(&self.shared) }
    }

    /// What is had.
    pub(crate) fn holds(&self) -> Vec<Arc<Hold>> {
        self.shared.holds().by_id.values().filter_map(|entry| entry.hold.upgrade()).collect()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.shared.holds().remove(self.id);
    }
}

/// So many renewals are under way at the same time, so that there is room for what else is asked over the connection.
const AT_ONCE: usize = 1000;

/// Renews what is due. A renewal that takes long holds up no other.
async fn run(shared: Arc<Shared>) {
    let mut renewals = JoinSet::new();
    loop {
        let room = AT_ONCE.saturating_sub(renewals.len());
        let (due, looks) = shared.holds().due(Instant::now(), room);
        for (id, hold) in due {
            renewals.spawn(async move { (id, hold.renew().await) });
        }
        tokio::select! {
            () = shared.sooner.notified() => {}
            () = sleep_until(looks) => {}
            Some(renewed) = renewals.join_next() => {
                match renewed {
                    Ok((id, Some(again))) => shared.holds().again(id, again),
                    Ok((_, None)) => {}
                    Err(error) => tracing::warn!(%error, "a renewal ended; its lease ends the lock"),
                }
            }
        }
    }
}

impl Shared {
    fn insert(&self, hold: Weak<Hold>, due: Option<Instant>) -> u64 {
        let mut holds = self.holds();
        holds.last_id += 1;
        let id = holds.last_id;
        holds.by_id.insert(id, Entry { hold, due: None });
        if let Some(due) = due {
            holds.again(id, due);
            if holds.looks.is_none_or(|looks| due < looks) {
                self.sooner.notify_one();
            }
        }
        id
    }

    fn holds(&self) -> MutexGuard<'_, Holds> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holds {
    /// Takes what is due, as far as there is room, and says when the next is. Where there is none left, that is when a renewal has ended.
    fn due(&mut self, now: Instant, room: usize) -> (Vec<(u64, Arc<Hold>)>, Instant) {
        let mut all = Vec::new();
        while let Some((due, id)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            if all.len() == room {
                return (all, now + FAR);
            }
            self.due.remove(&(due, id));
            if let Some(entry) = self.by_id.get_mut(&id) {
                entry.due = None;
                all.extend(entry.hold.upgrade().map(|hold| (id, hold)));
            }
        }
        let looks = self.due.first().map_or(now + FAR, |(due, _)| *due);
        self.looks = Some(looks);
        (all, looks)
    }

    fn again(&mut self, id: u64, due: Instant) {
        if let Some(entry) = self.by_id.get_mut(&id) {
            entry.due = Some(due);
            self.due.insert((due, id));
        }
    }

    fn remove(&mut self, id: u64) {
        if let Some(due) = self.by_id.remove(&id).and_then(|entry| entry.due) {
            self.due.remove(&(due, id));
        }
    }
}
