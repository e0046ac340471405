//! A master, and the task that keeps the link over which it says what has changed.

use std::{
    future::{Future, pending},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use super::{
    armed::Armed,
    session::Session,
    tracker::{Tracker, Wanted},
};
use crate::{
    Error, Result,
    conn::{Address, Core, Place, until},
    listen::{self, Condition, LINGER, Listens},
};

/// A master, and how its link is doing.
#[derive(Debug)]
pub(super) struct Master {
    pub(super) place: Place,
    state: Mutex<State>,
    task: OnceLock<AbortHandle>,
    /// Nobody wants it any more.
    released: AtomicBool,
}

#[derive(Clone, Debug)]
pub(super) struct State {
    /// Which version of what is wanted it covers; none while there is no link.
    pub(super) armed: Option<u64>,
    pub(super) condition: Condition,
}

impl Master {
    pub(super) fn new(place: Place) -> Self {
        let state = State { armed: None, condition: Condition::new() };
        let released = AtomicBool::new(false);
        Self { place, state: Mutex::new(state), task: OnceLock::new(), released }
    }

    pub(super) fn condition(&self) -> Condition {
        self.state().condition.clone()
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

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps it until nobody wants anything of it. What is returned is a guard as well: dropped with its runtime, also before it has
/// begun, it ends what nobody else would end.
pub(super) fn keep(
    core: Arc<Core>,
    tracker: Arc<Tracker>,
    master: Arc<Master>,
) -> impl Future<Output = ()> + Send + 'static {
    let ending = Ending { tracker, master };
    async move {
        let Ending { tracker, master } = &ending;
        listen::keep(&core, &Kept { core: &core, tracker, master }).await;
        master.released.store(true, Ordering::Release);
    }
}

/// A task that nobody has ended has ended with its runtime, and no other one will be heard of.
struct Ending {
    tracker: Arc<Tracker>,
    master: Arc<Master>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.master.released.load(Ordering::Acquire) {
            let tracker = Arc::clone(&self.tracker);
            // Whoever began the task may hold what is to be locked.
            std::thread::spawn(move || tracker.end());
        }
    }
}

struct Kept<'a> {
    core: &'a Core,
    tracker: &'a Tracker,
    master: &'a Master,
}

/// A link that is being made beside the one in use, for a version of what is wanted.
type Opening<'a> = Pin<Box<dyn Future<Output = Result<(Armed, Instant, u64)>> + Send + 'a>>;

impl Listens for Kept<'_> {
    fn place(&self) -> &Place {
        &self.master.place
    }

    async fn serve(&self, address: &Address) -> Result<()> {
        let Self { core, tracker, master } = *self;
        // Behind the same address there may be another server one day, where what is read and written is not tracked.
        let links = core.links_at(&master.place);
        let mut replaced = pin!(core.replaced(&master.place, links));
        let open = |wanted: Wanted| -> Opening<'_> {
            let (place, address, own_writes) = (&master.place, address, tracker.own_writes);
            Box::pin(async move {
                let opened = Armed::open(core, place, address, wanted.cover, own_writes).await?;
                Ok((opened.0, opened.1, wanted.version))
            })
        };
        let mut wanted = tracker.wanted();
        let now = wanted.borrow_and_update().clone();
        let (armed, since, version) = open(now).await?;
        if core.masters_change() {
            let commands = core.link_at(&master.place).filter(|link| link.address == *address);
            let commands = commands.ok_or_else(|| armed.lost("no link for commands to ask"))?;
            if !commands.is_master(core.config.command_timeout).await? {
                core.doubt_writers();
                return Err(armed.lost("the server is no master"));
            }
        }
        core.telemetry.up(&mut master.state().condition.presence);
        let mut session = Session::begin(core, tracker, master, armed, since);
        tracker.armed(master, version, since, false);
        let mut opening: Option<Opening<'_>> = None;
        let mut beat = Instant::now();
        // When what is said beyond what is wanted is to end.
        let mut narrow_at: Option<Instant> = None;
        loop {
            tokio::select! {
                said = session.listen() => said?,
                () = sleep_until(beat) => {
                    let every = wanted.borrow().every;
                    beat = Instant::now() + every;
                    session.beat(every)?;
                }
                _ = wanted.changed(), if opening.is_none() => {
                    let now = wanted.borrow_and_update().clone();
                    beat = beat.min(Instant::now() + now.every);
                    if session.armed.cover.includes(&now.cover) {
                        narrow_at = (session.armed.cover != now.cover).then(|| Instant::now() + LINGER);
                        tracker.armed(master, now.version, session.proven(), true);
                    } else if tracker.own_writes {
                        opening = Some(open(now));
                    } else {
                        // The link that tracks can do so for one only.
                        return Err(session.armed.lost("more is to be tracked"));
                    }
                }
                () = until(narrow_at), if opening.is_none() => {
                    narrow_at = None;
                    let now = wanted.borrow_and_update().clone();
                    if now.cover.is_empty() {
                        return Ok(());
                    }
                    if tracker.own_writes {
                        opening = Some(open(now));
                    }
                }
                opened = finished(&mut opening) => {
                    opening = None;
                    narrow_at = None;
                    let (armed, since, version) = match opened {
                        Err(err) if session.armed.cover.includes(&wanted.borrow().cover) => {
                            tracing::debug!(error = %err, "a feed goes on with more than is wanted");
                            narrow_at = Some(Instant::now() + LINGER);
                            continue;
                        }
                        opened => opened?,
                    };
                    let seamless = session.replace(armed, since).await;
                    tracker.armed(master, version, session.proven(), seamless);
                }
                () = &mut replaced => {
                    return Err(session.armed.lost("a link for commands was replaced"));
                }
            }
        }
    }

    fn lost(&self, err: Error) -> bool {
        let worked = self.master.condition().live;
        self.core.telemetry.down(&mut self.master.state().condition.presence);
        self.tracker.lost(self.master, &err);
        worked
    }

    fn let_go(&self) -> bool {
        self.tracker.let_go(self.master)
    }
}

async fn finished(opening: &mut Option<Opening<'_>>) -> Result<(Armed, Instant, u64)> {
    match opening {
        Some(opening) => opening.await,
        None => pending().await,
    }
}
