//! One link after the other to the same server, and what vouches for it.

use std::{
    future::{Future, pending},
    pin::Pin,
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{
    armed::{Armed, Heard},
    master::Master,
    tracker::Tracker,
};
use crate::{Result, conn::Core};

/// How long an answer may be owed before the link is made anew; longer where signs of life are rarer.
const MUTE: Duration = Duration::from_secs(1);
/// How many times as long while it says other things.
const MOST_BEHIND: u32 = 5;

/// One link after the other to the same server, without a hole between them.
pub(super) struct Session<'a> {
    core: &'a Core,
    tracker: &'a Tracker,
    master: &'a Master,
    pub(super) armed: Armed,
    /// All that was done before this has been said.
    said: Instant,
    /// At this moment the server was a master, and the link whose writes are left out was there.
    vouched: Instant,
    /// Asks for that over a link for commands.
    asking: Option<Asking>,
    beat_at: Instant,
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
    pub(super) fn begin(
        core: &'a Core,
        tracker: &'a Tracker,
        master: &'a Master,
        armed: Armed,
        since: Instant,
    ) -> Self {
        Self {
            core,
            tracker,
            master,
            armed,
            said: since,
            vouched: since,
            asking: None,
            beat_at: Instant::now(),
        }
    }

    /// Takes what is said next, by the server or by a link for commands. Cancel safe.
    pub(super) async fn listen(&mut self) -> Result<()> {
        tokio::select! {
            heard = self.armed.next() => self.heard(heard?),
            word = answered(&mut self.asking) => self.vouched(word)?,
        }
        Ok(())
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
        self.core.masters_change() || self.armed.writer().is_some()
    }

    /// All that was done before this was tracked, and has been said.
    pub(super) fn proven(&self) -> Instant {
        if self.needs_word() { self.said.min(self.vouched) } else { self.said }
    }

    /// Asks for signs of life; fails when those before have not come.
    pub(super) fn beat(&mut self, every: Duration) -> Result<()> {
        let patience = MUTE.max(every * 4);
        let owed = self.armed.owed_since().map_or(Duration::ZERO, |since| since.elapsed());
        let silent = !self.armed.is_arriving() && self.armed.heard_at.elapsed() >= patience;
        // Where this task was not run for a while, what has arrived was not read.
        let since_last = std::mem::replace(&mut self.beat_at, Instant::now()).elapsed();
        let was_kept = since_last >= every + patience / 2;
        if !was_kept && owed >= patience && (silent || owed >= patience * MOST_BEHIND) {
            return Err(self.armed.lost("it does not answer any more"));
        }
        self.armed.ping();
        if self.needs_word() && self.asking.is_none() {
            self.ask(patience);
        }
        Ok(())
    }

    fn ask(&mut self, patience: Duration) {
        let link = match self.armed.writer() {
            Some(writer) => writer.upgrade(),
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
    pub(super) async fn replace(&mut self, armed: Armed, since: Instant) -> bool {
        let mut before = std::mem::replace(&mut self.armed, armed);
        // What is new in the cover was said from then on only.
        self.said = since;
        before.ping();
        let deadline = Instant::now() + MUTE * MOST_BEHIND;
        while before.owed_since().is_some() {
            match timeout_at(deadline, before.next()).await {
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
