//! The task that keeps the link over which one master says what has changed.

use std::{
    future::{Future, pending},
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout};

use super::{
    armed::{Armed, Heard},
    tracker::{Master, Tracker, Wanted},
};
use crate::{
    Error, Result,
    conn::{Address, Core, Place, until},
    listen::{self, LINGER, Listens},
};

/// How long an answer may be owed before the link is made anew; longer where signs of life are rarer.
const MUTE: Duration = Duration::from_secs(1);
/// How many times as long while it says other things.
const MOST_BEHIND: u32 = 5;

/// Keeps a master's link until nobody reads any more.
pub(super) async fn keep(core: Arc<Core>, tracker: Arc<Tracker>, master: Arc<Master>) {
    let _ending = Ending { tracker: &tracker, master: &master };
    listen::keep(&core, &Kept { core: &core, tracker: &tracker, master: &master }).await;
    master.released.store(true, Ordering::Release);
}

/// A task that nobody has ended has ended with its runtime, and no other one will be heard of.
struct Ending<'a> {
    tracker: &'a Tracker,
    master: &'a Master,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if !self.master.released.load(Ordering::Acquire) {
            self.tracker.end();
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
        let mut session = Session::begin(core, tracker, master, armed, since);
        tracker.armed(master, version, since, false);
        let mut opening: Option<Opening<'_>> = None;
        let mut beat = Instant::now();
        // When what is said beyond what is wanted is to end.
        let mut narrow_at: Option<Instant> = None;
        loop {
            tokio::select! {
                heard = session.armed.next() => session.heard(heard?),
                () = sleep_until(beat) => {
                    let every = wanted.borrow().every;
                    beat = Instant::now() + every;
                    session.beat(every)?;
                }
                word = answered(&mut session.asking) => session.vouched(word)?,
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
        self.tracker.lost(self.master, &err);
        worked
    }

    fn let_go(&self) -> bool {
        self.tracker.let_go(self.master)
    }
}

/// One link after the other to the same server, without a hole between them.
struct Session<'a> {
    core: &'a Core,
    tracker: &'a Tracker,
    master: &'a Master,
    armed: Armed,
    /// All that was done before this has been said.
    said: Instant,
    /// At this moment the server was a master, and the link that tracks was there.
    vouched: Instant,
    /// Asks for that over a link for commands.
    asking: Option<Asking>,
}

/// When a link for commands was asked, and what it said.
type Asking = Pin<Box<dyn Future<Output = (Instant, Word)> + Send>>;

/// What a link for commands says of the server that tracks.
#[derive(Clone, Copy, Debug)]
enum Word {
    Well,
    /// It obeys another one, of whose writes it may not know yet.
    NoMaster,
    /// Nothing came.
    None,
}

impl<'a> Session<'a> {
    fn begin(
        core: &'a Core,
        tracker: &'a Tracker,
        master: &'a Master,
        armed: Armed,
        since: Instant,
    ) -> Self {
        Self { core, tracker, master, armed, said: since, vouched: since, asking: None }
    }

    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Keys(keys) => self.tracker.changed(&keys),
            Heard::Flushed => self.tracker.flushed(),
            Heard::Pong(sent) => {
                self.said = self.said.max(sent);
                self.tracker.proven(self.master, self.proven());
            }
            Heard::Other => {}
        }
    }

    fn vouched(&mut self, (asked, word): (Instant, Word)) -> Result<()> {
        self.asking = None;
        match word {
            Word::Well => {
                self.vouched = asked;
                self.tracker.proven(self.master, self.proven());
                Ok(())
            }
            Word::None => Ok(()),
            Word::NoMaster => {
                self.core.doubt_writers();
                Err(self.armed.lost("the server is no master any more"))
            }
        }
    }

    /// Whether a link for commands has to vouch for the server.
    fn needs_word(&self) -> bool {
        self.core.masters_change() || self.armed.tracker().is_some()
    }

    /// All that was done before this was tracked, and has been said.
    fn proven(&self) -> Instant {
        if self.needs_word() { self.said.min(self.vouched) } else { self.said }
    }

    /// Asks for signs of life; fails when those before have not come.
    fn beat(&mut self, every: Duration) -> Result<()> {
        let patience = MUTE.max(every * 4);
        let owed = self.armed.owed_since().map_or(Duration::ZERO, |since| since.elapsed());
        let silent = !self.armed.is_arriving() && self.armed.heard_at.elapsed() >= patience;
        if owed >= patience && (silent || owed >= patience * MOST_BEHIND) {
            return Err(self.armed.lost("it does not answer any more"));
        }
        self.armed.ping();
        if self.needs_word() && self.asking.is_none() {
            self.ask(patience);
        }
        Ok(())
    }

    fn ask(&mut self, patience: Duration) {
        let link = match self.armed.tracker() {
            Some(tracker) => tracker.upgrade(),
            None => {
                let link = self.core.link_at(&self.master.place);
                link.filter(|link| link.address == *self.armed.address())
            }
        };
        let Some(link) = link else { return };
        let (asked, role) = (Instant::now(), self.core.masters_change());
        self.asking = Some(Box::pin(async move {
            let is_well = if role {
                link.is_master(patience).await
            } else {
                link.ping(Some(patience)).await.map(|()| true)
            };
            let word = match is_well {
                Ok(true) => Word::Well,
                Ok(false) => Word::NoMaster,
                // A refusal is an answer too.
                Err(err) if err.is_answer() => Word::Well,
                Err(_) => Word::None,
            };
            (asked, word)
        }));
    }

    /// Goes on with another link, when all has been heard of the one before; returns whether it has.
    async fn replace(&mut self, armed: Armed, since: Instant) -> bool {
        let mut before = std::mem::replace(&mut self.armed, armed);
        // What is new in the cover was said from then on only.
        self.said = since;
        before.ping();
        while before.owed_since().is_some() {
            match timeout(MUTE, before.next()).await {
                Ok(Ok(Heard::Keys(keys))) => self.tracker.changed(&keys),
                Ok(Ok(Heard::Flushed)) => self.tracker.flushed(),
                Ok(Ok(Heard::Pong(_) | Heard::Other)) => {}
                // What it would have said is not known.
                Ok(Err(_)) | Err(_) => return false,
            }
        }
        true
    }
}

async fn answered(asking: &mut Option<Asking>) -> (Instant, Word) {
    match asking {
        Some(asking) => asking.await,
        None => pending().await,
    }
}

async fn finished(opening: &mut Option<Opening<'_>>) -> Result<(Armed, Instant, u64)> {
    match opening {
        Some(opening) => opening.await,
        None => pending().await,
    }
}
