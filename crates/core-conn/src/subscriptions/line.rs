//! The task that keeps one line: makes its link, has it subscribed to what is wanted, and makes it anew when it is lost.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use super::{hub::Hub, session::Session, topic::Topic};
use crate::{
    Result,
    conn::{Backoff, Core, Place, after},
    listen::Wire,
    listening::Condition,
};

/// How long a line that nobody wants anything of is kept.
const LINGER: Duration = Duration::from_secs(10);
/// A link that was lost after a shorter life is made anew after a pause only.
const STABLE: Duration = Duration::from_secs(1);

/// A link with subscriptions, and those that come after it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(super) place: Place,
    /// Topics of which somebody began or ceased to want them.
    changes: Mutex<Vec<Topic>>,
    changed: Notify,
    condition: Mutex<Condition>,
    task: OnceLock<AbortHandle>,
}

impl Line {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            changes: Mutex::default(),
            changed: Notify::new(),
            condition: Mutex::new(Condition::new()),
            task: OnceLock::new(),
        }
    }

    /// Takes the task that keeps it.
    pub(super) fn own(&self, task: AbortHandle) {
        // There is one.
        let _ = self.task.set(task);
    }

    pub(super) fn end(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    /// Somebody began or ceased to want `topic`.
    pub(super) fn changed(&self, topic: Topic) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(topic);
        self.changed.notify_one();
    }

    pub(super) fn take_changes(&self) -> Vec<Topic> {
        std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last moment at which it is known to have worked.
    pub(super) fn proven(&self) -> std::time::Instant {
        self.condition().proven.into_std()
    }

    pub(crate) fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a line until nobody wants anything of it.
pub(super) async fn keep(core: Arc<Core>, hub: Arc<Hub>, line: Arc<Line>) {
    let mut backoff = Backoff::new(core.config.reconnect_delay);
    loop {
        let begun = Instant::now();
        let err = match serve(&core, &hub, &line).await {
            Ok(()) if hub.let_go(&line) => return,
            Ok(()) => continue,
            Err(err) => err,
        };
        tracing::debug!(error = %err, "subscriptions are made anew");
        let proven = line.proven();
        let worked = {
            let mut condition = line.condition();
            condition.error = Some(err);
            std::mem::take(&mut condition.live)
        };
        for topic in hub.wanted_at(&line) {
            hub.lost(&topic, proven);
        }
        if worked {
            backoff.reset();
        }
        if !worked || begun.elapsed() < STABLE {
            backoff.pause().await;
        }
    }
}

/// Keeps one link, until it is lost or nobody wants anything of it any more.
async fn serve(core: &Core, hub: &Hub, line: &Line) -> Result<()> {
    let Ok(address) = timeout(LINGER, core.reach(&line.place)).await else { return Ok(()) };
    let deadline = after(core.config.connect_timeout);
    let credentials = core.known_login(deadline).await?;
    let mut wire = Wire::open(&core.config, &address, &credentials, deadline).await?;
    line.take_changes();
    let mut session = Session::begin(core, hub, line, &mut wire);
    let period = core.config.probe_interval;
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut left = pin!(core.left(&line.place, &address));
    let mut idle_since: Option<Instant> = None;
    loop {
        tokio::select! {
            heard = wire.next() => {
                for (queue, message) in session.heard(&mut wire, heard?)? {
                    queue.wait(message).await;
                    session.waited();
                }
            }
            () = line.changed.notified() => session.reconcile(&mut wire, line.take_changes()),
            _ = ticks.tick() => {
                session.tick(&mut wire)?;
                if !session.is_idle() {
                    idle_since = None;
                } else if idle_since.get_or_insert_with(Instant::now).elapsed() >= LINGER {
                    return Ok(());
                }
            }
            published = session.published() => session.acknowledged(&mut wire, published),
            () = &mut left => return Err(wire.lost("another server is to be talked to")),
        }
    }
}
