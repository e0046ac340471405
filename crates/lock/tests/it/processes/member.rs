//! One of the processes.

#![expect(clippy::unwrap_used, reason = "a part of the test")]

use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Config, Conn};
use redbrick_lock::{Acquire, Error, LockGuard, Locks, Wait};
use tokio::{task::JoinSet, time::timeout};

use super::{
    Kind, LEASE, NAME, PERMITS, TASKS,
    fleet::Part,
    resource::{Resource, Written},
};
use crate::{PATIENCE, permits, rest};

/// No wait takes as long while others only do what they do here.
const FOR_EVER: Duration = Duration::from_secs(60);
/// For how long somebody waits at most who is to give up.
const BRIEFLY: Duration = Duration::from_millis(30);
/// Within which a process is told something.
const LONGEST: Duration = Duration::from_secs(900);

struct Member {
    id: u64,
    locks: Locks,
    resource: Resource,
}

/// How somebody is to use what it has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Use {
    AsItComes,
    /// It is held up between its look at what it has and the write.
    HeldUp,
}

pub(super) async fn run(part: Part) {
    // A process that is stopped would stay when its parent is gone.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let resource = Resource::connect(&part.resource).await;
    let locks = connect(&part.locks).await;
    let member = Arc::new(Member { id: part.id, locks, resource });
    let mut chance = fastrand::Rng::with_seed(part.seed);
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (member, mut chance) = (Arc::clone(&member), chance.fork());
        tasks.spawn(async move {
            while member.turn(Kind::random(&mut chance), Use::AsItComes, &mut chance).await {}
        });
    }
    tasks.spawn({
        let member = Arc::clone(&member);
        async move { member.orders(chance).await }
    });
    member.resource.tell("ready", &part.id).await;
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

/// Locks of a process that gives up soon.
pub(super) async fn connect(url: &str) -> Locks {
    let config = Config::builder().url(url).command_timeout(Duration::from_secs(1));
    Locks::new(Conn::connect(config).await.unwrap())
}

/// Begins to ask for it.
pub(super) fn acquire(locks: &Locks, kind: Kind) -> Acquire {
    let acquire = match kind {
        Kind::Lock => locks.lock(NAME),
        Kind::Read => locks.rw_lock(NAME).read(),
        Kind::Write => locks.rw_lock(NAME).write(),
        Kind::Permits(weight) => {
            locks.semaphore(NAME, permits(PERMITS)).acquire_many(permits(weight))
        }
    };
    acquire.lease(LEASE).wait(Wait::Forever)
}

impl Member {
    /// Does what it is told to do, until it is told to end.
    async fn orders(&self, mut chance: fastrand::Rng) {
        loop {
            let order = self.resource.told::<String>(format!("orders:{}", self.id), LONGEST).await;
            match &*order.expect("it is told to end") {
                "end" => return,
                "refused" => {
                    self.turn(Kind::Lock, Use::HeldUp, &mut chance).await;
                }
                "give up" => self.give_up().await,
                event => {
                    let kind = Kind::of(event).expect("an order");
                    self.turn(kind, Use::AsItComes, &mut chance).await;
                }
            }
        }
    }

    /// Asks, and uses what it has; returns whether to go on.
    async fn turn(&self, kind: Kind, how: Use, chance: &mut fastrand::Rng) -> bool {
        let (began, stop) = self.resource.now().await;
        if stop {
            return false;
        }
        let held_up = how == Use::HeldUp;
        let acquire = acquire(&self.locks, kind).renew(!held_up && chance.u32(..3) > 0);
        let asks = match chance.u32(..12) {
            _ if held_up => self.forever(acquire).await,
            0..3 => self.asks(acquire.wait(Wait::For(millis(chance, 300)))).await,
            3 => self.dropped(acquire, millis(chance, 60)).await,
            4 => self.aborted(acquire, millis(chance, 60)).await,
            _ => self.forever(acquire).await,
        };
        if let Some(guard) = asks {
            self.section(kind, guard, began, how, chance).await;
        }
        true
    }

    async fn forever(&self, acquire: Acquire) -> Option<LockGuard> {
        timeout(FOR_EVER, self.asks(acquire)).await.expect("somebody waits for ever")
    }

    async fn asks(&self, acquire: Acquire) -> Option<LockGuard> {
        self.had(acquire.await).await
    }

    /// It is not polled any more after a while.
    async fn dropped(&self, acquire: Acquire, patience: Duration) -> Option<LockGuard> {
        match timeout(patience, acquire.into_future()).await {
            Ok(had) => self.had(had).await,
            Err(_) => {
                self.resource.note("dropped", &[]).await;
                None
            }
        }
    }

    /// Its task ends after a while.
    async fn aborted(&self, acquire: Acquire, patience: Duration) -> Option<LockGuard> {
        let task = tokio::spawn(acquire.into_future());
        rest(patience).await;
        task.abort();
        match task.await {
            Ok(had) => self.had(had).await,
            Err(_) => {
                self.resource.note("aborted", &[]).await;
                None
            }
        }
    }

    async fn had(&self, had: Result<Option<LockGuard>, Error>) -> Option<LockGuard> {
        match had {
            Ok(Some(guard)) => return Some(guard),
            Ok(None) => self.resource.note("given up", &[]).await,
            Err(Error::Late) => self.resource.note("late", &[]).await,
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                self.resource.note("failed", &[]).await;
            }
        }
        None
    }

    /// What is done with something that is had.
    async fn section(
        &self,
        kind: Kind,
        mut guard: LockGuard,
        began: u64,
        how: Use,
        chance: &mut fastrand::Rng,
    ) {
        let (fence, (what, weight, _)) = (guard.fence(), kind.share());
        if !guard.is_valid() {
            return self.resource.note("over before it was used", &[]).await;
        }
        if how == Use::HeldUp {
            self.resource.tell("held up", &(self.id, fence)).await;
            let go = self.resource.told::<u64>(format!("go:{}", self.id), PATIENCE).await;
            go.expect("it is to go on");
        }
        let first = self.resource.write(kind, fence).await;
        let grant = ("grants", format!("{began} {} {fence}", first.moment));
        self.resource.note(&kind.event(), &[grant]).await;
        self.written(&guard, first).await;
        match chance.u32(..60) {
            0 => rest(LEASE * 2).await,
            1..9 => drop(guard.extend(LEASE).await),
            _ => rest(Duration::from_micros(chance.u64(..3000))).await,
        }
        let last = self.resource.write(kind, fence).await;
        if guard.is_valid() {
            let section = format!("{} {} {weight} {fence} {}", first.moment, last.moment, self.id);
            self.resource.note("sections", &[(&format!("sections:{what}"), section)]).await;
        }
        self.written(&guard, last).await;
        match chance.u32(..60) {
            0 => drop(guard.into_token()),
            1..9 => drop(guard),
            _ => drop(guard.release().await),
        }
    }

    /// Who still relies on what it has was not refused.
    async fn written(&self, guard: &LockGuard, written: Written) {
        if written.refused {
            let Written { moment, highest, .. } = written;
            let (valid, fence) = (u64::from(guard.is_valid()), guard.fence());
            let refused = format!("{moment} {fence} {highest} {valid} {}", self.id);
            self.resource.note("refused", &[("refused", refused)]).await;
        }
    }

    /// Has some wait in vain, in each way in which one gives up.
    async fn give_up(&self) {
        let Some(guard) = self.forever(acquire(&self.locks, Kind::Lock)).await else { return };
        let others = || acquire(&self.locks, Kind::Lock);
        tokio::join!(
            self.asks(others().wait(Wait::For(BRIEFLY))),
            self.dropped(others(), BRIEFLY),
            self.aborted(others(), BRIEFLY),
        );
        drop(guard.release().await);
    }
}

fn millis(chance: &mut fastrand::Rng, most: u64) -> Duration {
    Duration::from_micros(chance.u64(..most * 1000))
}
