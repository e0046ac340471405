//! The task that keeps the link over which one master says what has changed.

use std::{
    future::{Future, pending},
    pin::{Pin, pin},
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout};

use super::{
    armed::{Armed, Heard},
    tracker::{Master, Tracker, Wanted},
};
use crate::{
    Result,
    conn::{Backoff, Core, Link},
};

/// How long a link that nobody reads from, or that says more than is wanted, is kept.
const LINGER: Duration = Duration::from_secs(10);
/// A link that was lost after a shorter life is made anew after a pause only.
const STABLE: Duration = Duration::from_secs(1);
/// How long an answer may be owed before the link is made anew; longer where signs of life are rarer.
const MUTE: Duration = Duration::from_secs(1);
/// How many times as long while it says other things.
const MOST_BEHIND: u32 = 5;

/// Keeps a master's link until nobody reads any more.
pub(super) async fn keep(core: Arc<Core>, tracker: Arc<Tracker>, master: Arc<Master>) {
    let mut backoff = Backoff::new(core.config.reconnect_delay);
    loop {
        let begun = Instant::now();
        let err = match serve(&core, &tracker, &master).await {
            Ok(()) if tracker.let_go(&master) => return,
            Ok(()) => continue,
            Err(err) => err,
        };
        tracing::debug!(error = %err, "the feed of what changes is made anew");
        let worked = master.condition().live;
        tracker.lost(&master, &err);
        if worked {
            backoff.reset();
        }
        if !worked || begun.elapsed() < STABLE {
            backoff.pause().await;
        }
    }
}

/// A link that is being made beside the one in use, for a version of what is wanted.
type Opening<'a> = Pin<Box<dyn Future<Output = Result<(Armed, Instant, u64)>> + Send + 'a>>;

/// Keeps one link, until it is lost or nobody reads from it any more.
async fn serve(core: &Core, tracker: &Tracker, master: &Master) -> Result<()> {
    let Ok(address) = timeout(LINGER, core.reach(&master.place)).await else { return Ok(()) };
    let open = |wanted: Wanted| -> Opening<'_> {
        let (place, address, own_writes) = (&master.place, &address, tracker.own_writes);
        Box::pin(async move {
            let opened = Armed::open(core, place, address, wanted.cover, own_writes).await?;
            Ok((opened.0, opened.1, wanted.version))
        })
    };
    let mut wanted = tracker.wanted();
    let now = wanted.borrow_and_update().clone();
    let (armed, since, version) = open(now).await?;
    let mut session = Session::begin(tracker, master, armed, since);
    tracker.armed(master, version, since, false);
    let mut left = pin!(core.left(&master.place, &address));
    let mut opening: Option<Opening<'_>> = None;
    let mut beat = Instant::now();
    // When what is said beyond what is wanted is to end.
    let mut narrow_at: Option<Instant> = None;
    loop {
        let tracks = session.armed.tracker().cloned();
        tokio::select! {
            heard = session.armed.next() => session.heard(heard?),
            () = sleep_until(beat) => {
                let every = wanted.borrow().every;
                beat = Instant::now() + every;
                session.beat(every)?;
            }
            answer = answered(&mut session.asking) => session.tracks(answer),
            _ = wanted.changed(), if opening.is_none() => {
                let now = wanted.borrow_and_update().clone();
                beat = beat.min(Instant::now() + now.every);
                if session.armed.cover.includes(&now.cover) {
                    narrow_at = (session.armed.cover != now.cover).then(|| Instant::now() + LINGER);
                    tracker.armed(master, now.version, session.proven(), true);
                } else {
                    opening = Some(open(now));
                }
            }
            () = until(narrow_at), if opening.is_none() => {
                narrow_at = None;
                let now = wanted.borrow_and_update().clone();
                if now.cover.is_empty() {
                    return Ok(());
                }
                opening = Some(open(now));
            }
            opened = finished(&mut opening) => {
                opening = None;
                let (armed, since, version) = opened?;
                session.replace(armed, since).await;
                tracker.armed(master, version, since, tracker.own_writes);
            }
            () = replaced(core, master, tracks.as_ref()) => {
                return Err(session.armed.lost("the link that tracked for it was replaced"));
            }
            () = &mut left => return Err(session.armed.lost("another server is to be talked to")),
        }
    }
}

/// One link after the other to the same server, without a hole between them.
struct Session<'a> {
    tracker: &'a Tracker,
    master: &'a Master,
    armed: Armed,
    /// All that was done before this has been said.
    said: Instant,
    /// The link that tracks was there at this moment.
    tracked: Instant,
    /// Asks the link that tracks whether it is there.
    asking: Option<Asking>,
}

/// When a link was asked for a sign of life, and whether it gave one.
type Asking = Pin<Box<dyn Future<Output = (Instant, bool)> + Send>>;

impl<'a> Session<'a> {
    fn begin(tracker: &'a Tracker, master: &'a Master, armed: Armed, since: Instant) -> Self {
        Self { tracker, master, armed, said: since, tracked: since, asking: None }
    }

    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Keys(keys) => self.tracker.changed(&keys),
            Heard::Flushed => self.tracker.flushed(),
            Heard::Pong(sent) => {
                self.said = sent;
                self.tracker.proven(self.master, self.proven());
            }
            Heard::Other => {}
        }
    }

    /// The link that tracks has answered.
    fn tracks(&mut self, (asked, lives): (Instant, bool)) {
        self.asking = None;
        if lives {
            self.tracked = asked;
            self.tracker.proven(self.master, self.proven());
        }
    }

    /// All that was done before this was tracked, and has been said.
    fn proven(&self) -> Instant {
        match self.armed.tracker() {
            Some(_) => self.said.min(self.tracked),
            None => self.said,
        }
    }

    /// Asks for signs of life; fails when those before have not come.
    fn beat(&mut self, every: Duration) -> Result<()> {
        let patience = MUTE.max(every * 4);
        let owed = self.armed.owed_since().map_or(Duration::ZERO, |since| since.elapsed());
        let silent = self.armed.heard_at.elapsed() >= patience;
        if owed >= patience && (silent || owed >= patience * MOST_BEHIND) {
            return Err(self.armed.lost("it does not answer any more"));
        }
        self.armed.ping();
        let tracks = self.armed.tracker().and_then(Weak::upgrade);
        if let Some(link) = tracks.filter(|_| self.asking.is_none()) {
            let asked = Instant::now();
            self.asking = Some(Box::pin(async move {
                // A refusal is an answer too.
                let lives =
                    link.ping(Some(patience)).await.map_or_else(|err| err.is_answer(), |()| true);
                (asked, lives)
            }));
        }
        Ok(())
    }

    /// Goes on with another link, when all has been heard of the one before.
    async fn replace(&mut self, armed: Armed, since: Instant) {
        let mut before = std::mem::replace(&mut self.armed, armed);
        (self.said, self.tracked, self.asking) = (since, since, None);
        before.ping();
        while before.owed_since().is_some() {
            match timeout(MUTE, before.next()).await {
                Ok(Ok(Heard::Keys(keys))) => self.tracker.changed(&keys),
                Ok(Ok(Heard::Flushed)) => self.tracker.flushed(),
                Ok(Ok(Heard::Pong(_) | Heard::Other)) => {}
                // What it would have said is not known.
                Ok(Err(_)) | Err(_) => return self.tracker.flushed(),
            }
        }
    }
}

async fn answered(asking: &mut Option<Asking>) -> (Instant, bool) {
    match asking {
        Some(asking) => asking.await,
        None => pending().await,
    }
}

/// Waits until the link that tracks is not the one any more that commands go over.
async fn replaced(core: &Core, master: &Master, tracks: Option<&Weak<Link>>) {
    match tracks {
        Some(tracks) => core.replaced(&master.place, tracks).await,
        None => pending().await,
    }
}

async fn finished(opening: &mut Option<Opening<'_>>) -> Result<(Armed, Instant, u64)> {
    match opening {
        Some(opening) => opening.await,
        None => pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}
