//! The attempts at one call: where the next one goes, and whether there is one.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use fred::error::Error as FredError;
use tokio::time::{Instant, timeout_at};

use super::{
    Conn, Replay, Route, Watch,
    calls::Entered,
    link::Link,
    pick::Refusal,
    time::{Backoff, FAR, SHORTEST, left},
};
use crate::{
    Error, ErrorKind, ReadFrom, Reply, Result,
    commands::{Request, Sending},
    error::Redirect,
};

/// The shortest and the longest pause before a call is repeated.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// How often in a row a call goes where it is sent at once, before it waits a moment.
const MOST_HOPS: u32 = 2;

/// How one command is sent: where to, how often, and within what time.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    pub(crate) route: Route,
    pub(crate) replay: Replay,
    pub(crate) read_from: ReadFrom,
    pub(crate) timeout: Duration,
    /// Whether it waits for a link when none is up.
    pub(crate) waits: bool,
}

impl Conn {
    /// Begins the attempts at one call.
    pub(crate) fn attempts(&self, manner: Manner) -> Result<Attempts<'_>> {
        self.attempts_at(1, manner)
    }

    /// Begins the attempts at `count` calls that go out as one.
    pub(super) fn attempts_at(&self, count: usize, manner: Manner) -> Result<Attempts<'_>> {
        Ok(Attempts { _call: Some(self.enter(count)?), ..self.uncounted_attempts(manner) })
    }

    /// Begins the attempts at a call that was counted in before.
    pub(super) fn uncounted_attempts(&self, manner: Manner) -> Attempts<'_> {
        let config = self.config();
        let began = Instant::now();
        Attempts {
            _call: None,
            conn: self,
            began,
            deadline: began + manner.timeout.clamp(SHORTEST, FAR),
            manner,
            backoff: Backoff::new(RETRY_DELAY),
            repeats: config.retries,
            fell_back: false,
            redirected: None,
            redirections: 0,
            unclear: None,
        }
    }
}

/// The attempts at one call: where the next one goes, and whether there is one.
pub(crate) struct Attempts<'a> {
    conn: &'a Conn,
    manner: Manner,
    began: Instant,
    deadline: Instant,
    backoff: Backoff,
    repeats: u32,
    /// A replica that fails is made up for by its master.
    fell_back: bool,
    /// Where the next attempt goes instead of where its key belongs, because a node said so.
    redirected: Option<Redirect>,
    redirections: u32,
    /// An attempt that may have run is not undone by a later one that surely did not.
    unclear: Option<Error>,
    _call: Option<Entered<'a>>,
}

/// What became of a command that a node did not run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Redirection {
    /// There was none.
    None,
    /// It can go elsewhere at once.
    AtOnce,
    /// It has to wait a moment.
    Soon,
}

impl<'a> Attempts<'a> {
    /// Puts `request` on its way over a link that is up, if there is one. This is the way of nearly every call, and it
    /// is short: no future around that of fred, and no timer of its own.
    pub(crate) fn first(&self, request: &Request) -> Option<(Arc<Link>, Sending)> {
        let link = self.conn.pick(&self.manner.route, self.manner.read_from)?;
        // The other way finds it once more, and says so.
        link.check(request).ok()?;
        let client = link.within(Duration::ZERO);
        self.conn.telemetry().sent();
        let sending = self.conn.owner.core.spares.send(client, request.clone());
        Some((link, sending))
    }

    /// Has the task of `cx` woken when the call's time is over.
    pub(crate) fn watch(&self, cx: &mut Context<'_>) -> Watch<'a> {
        let core = &self.conn.owner.core;
        core.deadlines.watch_from(core.runtime.get(), self.deadline, cx)
    }

    /// Reads what came of the attempt that [`first`](Self::first) began; keeps its place for another.
    pub(crate) fn read(
        &self,
        link: &Link,
        ended: Option<Sending>,
        outcome: Result<Reply, FredError>,
    ) -> Result<Reply> {
        if let Some(ended) = ended {
            self.conn.owner.core.spares.keep(ended);
        }
        self.conn.read(link, outcome)
    }

    pub(crate) fn manner(&self) -> &Manner {
        &self.manner
    }

    /// Makes attempts until one succeeds, or the error is the one with which the call ends. `failed` is what came of
    /// an attempt made before.
    pub(crate) async fn run(
        &mut self,
        request: &Request,
        mut failed: Option<Error>,
    ) -> Result<Reply> {
        loop {
            if let Some(err) = failed.take() {
                self.failed(err).await?;
            }
            match self.once(request).await {
                Ok(value) => return Ok(value),
                Err(err) => failed = Some(err),
            }
        }
    }

    async fn once(&self, request: &Request) -> Result<Reply> {
        let (link, asks) = self.link().await?;
        link.check(request)?;
        let client = link.within(self.left());
        let mut request = request.clone();
        if asks {
            // What is asked for on behalf of another node is one command, so a script has to be known or told at once.
            request = request.by_text();
        }
        self.conn.telemetry().sent();
        let sending = self.conn.owner.core.spares.run(client, request);
        let outcome = if asks { asking(&link, self.left(), sending).await } else { sending.await };
        self.conn.read(&link, outcome)
    }

    /// A link for the next attempt, and whether it begins with `ASKING`.
    async fn link(&self) -> Result<(Arc<Link>, bool)> {
        if !self.manner.waits
            && self.redirected.is_none()
            && let Some(outage) = self.conn.absence(&self.manner, self.deadline).await
        {
            return Err(outage);
        }
        let (route, asks) = self.route();
        let master = self.fell_back || self.redirected.is_some();
        let read_from = if master { ReadFrom::Master } else { self.manner.read_from };
        let link = self.conn.link(&route, read_from, self.deadline, Refusal::Fails);
        Ok((link.await?, asks))
    }

    /// Where the next attempt goes, and whether it begins with `ASKING`.
    pub(super) fn route(&self) -> (Route, bool) {
        match &self.redirected {
            Some(redirect) => (Route::Node(redirect.to.clone()), redirect.ask),
            None => (self.manner.route.clone(), false),
        }
    }

    pub(super) fn left(&self) -> Duration {
        left(self.deadline)
    }

    /// When the call began.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns when it is time for another attempt, or the error with which the call ends.
    pub(super) async fn failed(&mut self, err: Error) -> Result<()> {
        let redirection = self.follow(&err);
        self.fell_back = true;
        // A move within a cluster ends by itself, and nothing has run: only time bounds that.
        let again = match redirection {
            Redirection::None => {
                let gone = !self.manner.waits && err.kind() == ErrorKind::Connect;
                self.repeats > 0 && self.manner.replay.allows(&err) && !gone
            }
            _ => self.manner.replay != Replay::Never,
        };
        if err.is_outcome_unknown() && self.unclear.is_none() {
            self.unclear = Some(err.clone());
        }
        let waited = match redirection {
            _ if !again => false,
            Redirection::AtOnce => Instant::now() < self.deadline,
            _ => timeout_at(self.deadline, self.backoff.pause()).await.is_ok(),
        };
        if waited {
            if redirection == Redirection::None {
                self.repeats -= 1;
            }
            return Ok(());
        }
        Err(match self.unclear.take() {
            Some(first) if !err.is_outcome_unknown() => first.followed_by(&err),
            _ => err,
        })
    }

    /// Finds out where a command goes next that a node did not run, and has the layout read again.
    fn follow(&mut self, err: &Error) -> Redirection {
        let core = &self.conn.owner.core;
        let was = self.redirected.take();
        if !core.config.endpoint.is_cluster() {
            return Redirection::None;
        }
        let Some(redirect) = err.redirect() else {
            let kinds = [ErrorKind::Interrupted, ErrorKind::ReadOnly, ErrorKind::Topology];
            if kinds.contains(&err.kind()) {
                core.layout_wanted.notify_one();
            }
            if err.code() == Some("TRYAGAIN") {
                // Some of its keys have not arrived yet, at the node that has been asked for them.
                self.redirected = was;
                return Redirection::Soon;
            }
            return Redirection::None;
        };
        if !redirect.ask {
            core.layout_wanted.notify_one();
        }
        let known = core.layout.load().server(&Route::Node(redirect.to.clone()), 0).is_some();
        if known {
            self.redirected = Some(redirect.clone());
        }
        self.redirections += 1;
        // Sent in a circle, or to a node that is not known yet.
        let lost = !known || self.redirections > MOST_HOPS;
        if lost { Redirection::Soon } else { Redirection::AtOnce }
    }
}

/// Sends a command right behind `ASKING`, which allows the next command of this link to touch a key that is on its
/// way to the node. Should another task's command slip between the two, that one is not harmed, and this one is
/// sent elsewhere once more.
async fn asking(
    link: &Link,
    timeout: Duration,
    sending: impl Future<Output = Result<Reply, FredError>>,
) -> Result<Reply, FredError> {
    let mut asking = pin!(link.ask::<()>(timeout, "ASKING", &[]));
    // A first look hands it to fred; the answer to the command itself says whether it helped.
    let _ = poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx))).await;
    sending.await
}
