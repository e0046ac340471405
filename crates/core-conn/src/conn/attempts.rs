//! The attempts at one call: where the next one goes, and whether there is one.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
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
    gather::{Alone, Landed, Lost, Present, Served, Share, Waiting},
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
        Attempts {
            _call: None,
            conn: self,
            deadline: Instant::now() + allowed(&manner),
            manner,
            so_far: None,
        }
    }
}

/// The attempts at one call: where the next one goes, and whether there is one.
pub(crate) struct Attempts<'a> {
    conn: &'a Conn,
    manner: Manner,
    deadline: Instant,
    /// Apart, since nearly every call ends with its first attempt, and is moved about before.
    so_far: Option<Box<SoFar>>,
    _call: Option<Entered<'a>>,
}

/// What is known after an attempt that failed.
struct SoFar {
    backoff: Backoff,
    /// How many more attempts there may be.
    repeats: u32,
    /// A replica that fails is made up for by its master.
    fell_back: bool,
    /// Where the next attempt goes instead of where its key belongs, because a node said so.
    redirected: Option<Redirect>,
    redirections: u32,
    /// An attempt that may have run is not undone by a later one that surely did not.
    unclear: Option<Error>,
}

impl SoFar {
    fn new(retries: u32) -> Box<Self> {
        Box::new(Self {
            backoff: Backoff::new(RETRY_DELAY),
            repeats: retries,
            fell_back: false,
            redirected: None,
            redirections: 0,
            unclear: None,
        })
    }
}

/// The time that a call is allowed.
fn allowed(manner: &Manner) -> Duration {
    manner.timeout.clamp(SHORTEST, FAR)
}

/// The first attempt of a call, on its way.
pub(crate) struct Way<'a> {
    sent: Sent,
    /// Others who ask for the same slot see that it is there, as long as this is here.
    _present: Option<Present<'a>>,
}

enum Sent {
    /// By itself.
    Own {
        link: Arc<Link>,
        sending: Sending,
        /// It counts among those who ask by themselves as long as this is here.
        _alone: Option<Alone>,
    },
    /// With those of other tasks.
    Together(Waiting),
}

impl Way<'_> {
    pub(crate) fn is_together(&self) -> bool {
        matches!(self.sent, Sent::Together(_))
    }

    /// Whether somebody else watches the call's time.
    pub(crate) fn is_watched(&self) -> bool {
        matches!(&self.sent, Sent::Together(waiting) if waiting.is_watched())
    }
}

/// Why the first attempt was not the last.
pub(crate) enum First {
    Failed(Error),
    /// Nothing was attempted for this call: the next attempt is the first.
    NotTried,
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
    /// Begins the first attempt: together with those of other tasks, or by itself if a link is up. This is the way of
    /// nearly every call, and it is short: no future around that of fred, and no timer of its own.
    pub(crate) fn first(
        &self,
        request: &Request,
        is_alone: bool,
        cx: &Context<'_>,
    ) -> Option<Way<'a>> {
        let core = &self.conn.owner.core;
        let (share, present) = if is_alone {
            (Share::Own(None), None)
        } else {
            core.share(request, &self.manner, self.deadline, cx.waker())
        };
        let sent = match share {
            Share::Together(waiting) => Sent::Together(waiting),
            Share::Own(alone) => {
                let link = core.pick(&self.manner.route, self.manner.read_from)?;
                // The other way finds it once more, and says so.
                link.check(request).ok()?;
                core.telemetry.sent();
                // The call watches its time itself.
                let sending = link.sender.send(request.clone(), Duration::ZERO);
                Sent::Own { link, sending, _alone: alone }
            }
        };
        Some(Way { sent, _present: present })
    }

    /// Looks at the first attempt. When it is over, `way` has ended, and this keeps its place for another.
    pub(crate) fn poll_first(
        &self,
        way: &mut Option<Way<'_>>,
        request: &Request,
        cx: &mut Context<'_>,
    ) -> Poll<(Result<Reply, First>, Instant)> {
        let core = &self.conn.owner.core;
        match way.as_mut().map(|way| &mut way.sent) {
            Some(Sent::Own { sending, .. }) => {
                let outcome = ready!(Pin::new(sending).poll(cx));
                core.served_alone(request, &outcome);
                let Some(Way { sent: Sent::Own { link, sending, .. }, .. }) = way.take() else {
                    return Poll::Pending;
                };
                link.sender.keep(sending);
                let outcome = self.conn.read(&link, outcome).map_err(First::Failed);
                Poll::Ready((outcome, Instant::now()))
            }
            Some(Sent::Together(waiting)) => {
                let Landed { outcome, at } = ready!(Pin::new(waiting).poll(cx));
                *way = None;
                let outcome = match outcome {
                    Ok(Served::Answered(reply)) => Ok(reply),
                    Ok(Served::Failed(err)) => Err(First::Failed(*err)),
                    Ok(Served::ByItself) => Err(First::NotTried),
                    Err(Lost::Behind) => {
                        Err(First::Failed(core.ended().unwrap_or_else(Error::unsent)))
                    }
                    Err(Lost::Stuck) => Err(First::NotTried),
                    Err(Lost::OnTheWay) => Err(First::Failed(Error::sender_gone())),
                };
                Poll::Ready((outcome, at))
            }
            None => Poll::Pending,
        }
    }

    /// Has the task of `cx` woken when the call's time is over.
    pub(crate) fn watch(&self, cx: &mut Context<'_>) -> Watch<'a> {
        let core = &self.conn.owner.core;
        core.deadlines.watch_from(core.runtime.get(), self.deadline, cx)
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
        let mut request = request.clone();
        if asks {
            // What is asked for on behalf of another node is one command, so a script has to be known or told at once.
            request = request.by_text();
        }
        self.conn.telemetry().sent();
        let sending = link.sender.run(request, self.left());
        let outcome = if asks { asking(&link, self.left(), sending).await } else { sending.await };
        self.conn.read(&link, outcome)
    }

    /// A link for the next attempt, and whether it begins with `ASKING`.
    async fn link(&self) -> Result<(Arc<Link>, bool)> {
        let redirected = self.redirected();
        if !self.manner.waits
            && redirected.is_none()
            && let Some(outage) = self.conn.absence(&self.manner, self.deadline).await
        {
            return Err(outage);
        }
        let (route, asks) = self.route();
        let fell_back = self.so_far.as_ref().is_some_and(|so_far| so_far.fell_back);
        let master = fell_back || redirected.is_some();
        let read_from = if master { ReadFrom::Master } else { self.manner.read_from };
        let link = self.conn.link(&route, read_from, self.deadline, Refusal::Fails);
        Ok((link.await?, asks))
    }

    /// Where the next attempt goes, and whether it begins with `ASKING`.
    pub(super) fn route(&self) -> (Route, bool) {
        let to = self.redirected().map(|to| (Route::Node(Box::new(to.to.clone())), to.ask));
        // One that has left the cluster since then is not waited for.
        let layout = self.conn.owner.core.layout.load();
        let known = to.filter(|(node, _)| layout.server(node, 0).is_some());
        known.unwrap_or_else(|| (self.manner.route.clone(), false))
    }

    fn redirected(&self) -> Option<&Redirect> {
        self.so_far.as_ref()?.redirected.as_ref()
    }

    pub(super) fn left(&self) -> Duration {
        left(self.deadline)
    }

    /// When the call began.
    pub(crate) fn began(&self) -> Instant {
        self.deadline - allowed(&self.manner)
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns when it is time for another attempt, or the error with which the call ends.
    pub(super) async fn failed(&mut self, err: Error) -> Result<()> {
        let conn = self.conn;
        let so_far = self.so_far.get_or_insert_with(|| SoFar::new(conn.config().retries));
        let redirection = so_far.follow(conn, &err);
        so_far.fell_back = true;
        // A move within a cluster ends by itself, and nothing has run: only time bounds that.
        let again = match redirection {
            Redirection::None => {
                let gone = !self.manner.waits && err.kind() == ErrorKind::Connect;
                so_far.repeats > 0 && self.manner.replay.allows(&err) && !gone
            }
            _ => self.manner.replay != Replay::Never,
        };
        if err.is_outcome_unknown() && so_far.unclear.is_none() {
            so_far.unclear = Some(err.clone());
        }
        let waited = match redirection {
            _ if !again => false,
            Redirection::AtOnce => Instant::now() < self.deadline,
            _ => timeout_at(self.deadline, so_far.backoff.pause()).await.is_ok(),
        };
        if waited {
            if redirection == Redirection::None {
                so_far.repeats -= 1;
            }
            return Ok(());
        }
        Err(match so_far.unclear.take() {
            Some(first) if !err.is_outcome_unknown() => first.followed_by(&err),
            _ => err,
        })
    }
}

impl SoFar {
    /// Finds out where a command goes next that a node did not run, and has the layout read again.
    fn follow(&mut self, conn: &Conn, err: &Error) -> Redirection {
        let core = &conn.owner.core;
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
        let known =
            core.layout.load().server(&Route::Node(Box::new(redirect.to.clone())), 0).is_some();
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
