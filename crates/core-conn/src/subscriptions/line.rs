//! The task that keeps one line: makes its link, has it subscribed to what is wanted, and makes it anew when it is
//! lost.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{hub::Hub, session::Session, topic::Topic};
use crate::{
    Error, Result,
    conn::{Address, Core, Place, after, until},
    listen::{self, Condition, LINGER, Listens, Wire},
};

/// A link with subscriptions, and those that come after it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(super) place: Place,
    /// Topics of which somebody began or ceased to want them; not noted while there is no link, which begins with all.
    changes: Mutex<Option<BTreeSet<Topic>>>,
    changed: Notify,
    condition: Mutex<Condition>,
    task: OnceLock<AbortHandle>,
    /// Nobody wants it any more.
    released: AtomicBool,
}

impl Line {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            changes: Mutex::default(),
            changed: Notify::new(),
            condition: Mutex::new(Condition::new()),
            task: OnceLock::new(),
            released: AtomicBool::new(false),
        }
    }

    /// Takes the task that keeps it.
    pub(super) fn own(&self, task: AbortHandle) {
        // There is one.
        let _ = self.task.set(task);
    }

    pub(super) fn end(&self) {
        self.released.store(true, Ordering::Release);
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    /// Somebody began or ceased to want `topic`.
    pub(super) fn changed(&self, topic: Topic) {
        if let Some(changes) = &mut *self.changes() {
            changes.insert(topic);
            self.changed.notify_one();
        }
    }

    fn take_changes(&self) -> BTreeSet<Topic> {
        self.changes().as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn changes(&self) -> MutexGuard<'_, Option<BTreeSet<Topic>>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last moment at which it is known to have worked.
    pub(super) fn proven(&self) -> std::time::Instant {
        self.condition().proven.into_std()
    }

    pub(crate) fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps it until nobody wants anything of it. What is returned is a guard as well: dropped with its runtime, also before it has
/// begun, it ends what nobody else would end.
pub(super) fn keep(
    core: Arc<Core>,
    hub: Arc<Hub>,
    line: Arc<Line>,
) -> impl Future<Output = ()> + Send + 'static {
    let ending = Ending { hub, line };
    async move {
        let Ending { hub, line } = &ending;
        listen::keep(&core, &Kept { core: &core, hub, line }).await;
        line.released.store(true, Ordering::Release);
    }
}

/// A task that nobody has ended has ended with its runtime, and no other one will be heard of.
struct Ending {
    hub: Arc<Hub>,
    line: Arc<Line>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.line.released.load(Ordering::Acquire) {
            let hub = Arc::clone(&self.hub);
            // Whoever began the task may hold what is to be locked.
            std::thread::spawn(move || hub.end());
        }
    }
}

struct Kept<'a> {
    core: &'a Core,
    hub: &'a Hub,
    line: &'a Line,
}

impl Listens for Kept<'_> {
    fn place(&self) -> &Place {
        &self.line.place
    }

    async fn serve(&self, address: &Address) -> Result<()> {
        let Self { core, hub, line } = *self;
        let deadline = after(core.config.connect_timeout);
        let credentials = core.known_login(deadline).await?;
        let mut wire = Wire::open(&core.config, address, &credentials, deadline).await?;
        // From here on changes are noted; all that is wanted now is asked for below.
        *line.changes() = Some(BTreeSet::new());
        core.telemetry.up(&mut line.condition().presence);
        let mut session = Session::begin(core, hub, line, &mut wire);
        let period = core.config.probe_interval;
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle_at: Option<Instant> = None;
        loop {
            idle_at = session.is_idle().then(|| idle_at.unwrap_or_else(|| Instant::now() + LINGER));
            tokio::select! {
                heard = wire.next() => {
                    for (queue, message) in session.heard(&mut wire, heard?)? {
                        queue.wait(message).await;
                        session.waited();
                    }
                }
                () = line.changed.notified() => session.reconcile(&mut wire, line.take_changes()),
                _ = ticks.tick() => session.tick(&mut wire)?,
                () = until(idle_at) => return Ok(()),
                published = session.published() => session.acknowledged(&mut wire, published),
            }
        }
    }

    fn lost(&self, err: Error) -> bool {
        *self.line.changes() = None;
        let (worked, proven) = {
            let mut condition = self.line.condition();
            self.core.telemetry.down(&mut condition.presence);
            condition.error = Some(err);
            (std::mem::take(&mut condition.live), condition.proven.into_std())
        };
        self.hub.lost_all(self.line, proven);
        worked
    }

    fn let_go(&self) -> bool {
        self.hub.let_go(self.line)
    }
}
