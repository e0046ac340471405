use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use fred::{error::Error as FredError, interfaces::ClientLike, types::Value};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    Conn, Route, State, Watch,
    link::{Address, Link, custom, options},
    slots::slots_differ,
    time::{Backoff, after},
};
use crate::{
    Error, ErrorKind, ReadFrom, Reply, Result,
    commands::{Request, Sending},
    config::Node,
    error::fred::{from_call, is_dropped, unsent},
};

/// The shortest and the longest pause before a call is repeated.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// The shortest time that a call is given. Zero is no limit at all to fred.
const SHORTEST: Duration = Duration::from_millis(1);

/// When a command may be sent again after a failure.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Replay {
    /// Not at all: the first failure is the answer.
    Never,
    /// When it surely did not run: it was not sent, or the server refused it in a state that passes.
    IfUnsent,
    /// Also when the connection broke and it may have run: done twice is the same as done once.
    Idempotent,
}

impl Replay {
    fn allows(self, err: &Error) -> bool {
        match err.kind() {
            ErrorKind::Interrupted => self == Self::Idempotent,
            ErrorKind::Connect
            | ErrorKind::Loading
            | ErrorKind::ReadOnly
            | ErrorKind::ServerBusy
            | ErrorKind::Topology => self != Self::Never,
            _ => false,
        }
    }
}

/// What one command is, apart from its arguments: where it may go, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    pub(crate) route: Route,
    pub(crate) replay: Replay,
    pub(crate) read_from: ReadFrom,
    pub(crate) timeout: Duration,
}

/// What refused credentials mean to somebody who waits for a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    Fails,
    /// There may be others soon.
    Waits,
}

/// The calls in flight: bounded, and waited for when closing.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    in_flight: AtomicUsize,
    closing: AtomicBool,
    finished: Notify,
}

/// Calls that count until this is dropped.
pub(crate) struct Entered<'a> {
    calls: &'a Calls,
    count: usize,
}

impl Calls {
    fn enter(&self, count: usize, most: usize) -> Result<Entered<'_>> {
        if count > most {
            let what =
                "more calls at once than may wait for an answer; send fewer or raise `max_waiting`";
            return Err(Error::new(ErrorKind::InvalidArgument, what));
        }
        // Counted before the look at the flag, so that closing either sees the calls or refuses them.
        let others = self.in_flight.fetch_add(count, Ordering::SeqCst);
        let call = Entered { calls: self, count };
        if self.is_closing() {
            return Err(Error::closed());
        }
        if others + count > most {
            return Err(Error::new(
                ErrorKind::Busy,
                "too many calls wait for an answer; retry later or raise `max_waiting`",
            ));
        }
        Ok(call)
    }

    /// Refuses calls from now on.
    pub(crate) fn refuse(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Waits until no call is in flight.
    pub(crate) async fn drained(&self) {
        loop {
            let finished = self.finished.notified();
            if self.in_flight() == 0 {
                return;
            }
            finished.await;
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let left = self.calls.in_flight.fetch_sub(self.count, Ordering::SeqCst) - self.count;
        if left == 0 && self.calls.is_closing() {
            self.calls.finished.notify_waiters();
        }
    }
}

impl Conn {
    /// Begins the attempts at one call.
    pub(crate) fn attempts(&self, manner: Manner) -> Result<Attempts<'_>> {
        let config = self.config();
        Ok(Attempts {
            _call: self.enter(1)?,
            conn: self,
            deadline: after(manner.timeout.max(SHORTEST)),
            manner,
            backoff: Backoff::new(RETRY_DELAY),
            repeats: config.retries,
            fell_back: false,
            redirected: None,
            redirections: 0,
            unclear: None,
        })
    }

    /// Counts calls in, if there is room for them.
    pub(crate) fn enter(&self, count: usize) -> Result<Entered<'_>> {
        self.owner.core.calls.enter(count, self.config().max_waiting.get())
    }

    /// Sends `request` once, on a link that was chosen before.
    pub(crate) async fn send_once(
        &self,
        link: &Link,
        request: &Request,
        deadline: Instant,
    ) -> Result<Reply> {
        let client = link.client.with_options(&options(left(deadline)));
        let outcome = self.owner.core.spares.run(client, request.clone()).await;
        self.reply_of(request, self.read(link, outcome)?)
    }

    /// What `request` was answered. A script's own errors come to light only here.
    pub(crate) fn reply_of(&self, request: &Request, answer: Value) -> Result<Reply> {
        let reply = request.unwrap_alone(Reply::from_fred(answer)?);
        if reply.as_ref().is_err_and(|err| err.kind() == ErrorKind::ReadOnly) {
            self.owner.core.doubt_writers();
        }
        reply
    }

    /// Waits for a link to the server that takes writes for `route`.
    pub(crate) async fn link_to(&self, route: &Route, deadline: Instant) -> Result<Arc<Link>> {
        self.link(route, ReadFrom::Master, deadline, Refusal::Fails).await
    }

    /// A route to each server that takes writes.
    pub(crate) async fn masters(&self) -> Result<Vec<Route>> {
        if !self.config().endpoint.is_cluster()
            || self.does_without(&self.manner(Replay::Idempotent), false).await
        {
            return Ok(vec![Route::Any]);
        }
        // A node of the cluster may be up before it has said who else there is.
        let pick = || {
            let known = !self.owner.core.layout.load().shards.is_empty();
            known.then(|| self.pick(&Route::Any, ReadFrom::Master)).flatten()
        };
        self.link_by(pick, after(self.command_timeout()), Refusal::Fails).await?;
        let layout = self.owner.core.layout.load();
        let nodes = layout.shards.iter().filter_map(|shard| shard.master.node());
        Ok(nodes.cloned().map(Route::Node).collect())
    }

    /// Waits until it is known which server has what, as it always is but on a cluster.
    pub(crate) async fn layout_known(&self, deadline: Instant) {
        let core = &self.owner.core;
        if core.layout.load().shards.is_empty() && self.owner.start().is_ok() {
            let mut status = core.status.watch();
            let known = status.wait_for(|now| {
                let over = now.is_settled() || now.state() == State::End;
                over || !core.layout.load().shards.is_empty()
            });
            // Who is asked next finds out the same.
            let _ = timeout_at(deadline, known).await;
        }
    }

    /// Tells servers apart: the same number for two routes that lead to one of them.
    pub(crate) fn server_of(&self, route: &Route) -> usize {
        let layout = self.owner.core.layout.load();
        layout.master(route, 0).map_or(0, |server| Arc::as_ptr(server).addr())
    }

    /// Refuses keys that one command cannot reach together.
    pub(crate) fn check_slots(&self, keys: &[Bytes]) -> Result<()> {
        if self.config().endpoint.is_cluster() { slots_differ(keys) } else { Ok(()) }
    }

    /// Reads what came of a command on `link`.
    fn read<T>(&self, link: &Link, reply: Result<T, FredError>) -> Result<T> {
        self.note(
            link,
            reply.map_err(|err| {
                // Those that were in flight when it broke have been told so one by one.
                if is_dropped(&err) && link.is_broken() { unsent(err) } else { from_call(err) }
            }),
        )
    }

    /// Learns from what came of a command on `link`.
    pub(super) fn note<T>(&self, link: &Link, outcome: Result<T>) -> Result<T> {
        let err = match outcome {
            Ok(value) => {
                link.heard();
                return Ok(value);
            }
            Err(err) => match &link.address {
                Address::Tcp(node) => err.answered_by(&node.host),
                Address::Unix(_) => err,
            },
        };
        if err.is_answer() {
            link.heard();
        }
        if err.redirect().is_some() && !self.config().endpoint.is_cluster() {
            let what = "this server is a node of a cluster and holds only some of the keys; use a `redis-cluster://` URL";
            return Err(Error::config(what).with_source(err));
        }
        if err.kind() == ErrorKind::ReadOnly {
            self.owner.core.doubt_writers();
        }
        Err(if err.is_outcome_unknown() { err } else { self.owner.ended().unwrap_or(err) })
    }

    /// Picks a link that is up, and waits for one until `deadline`.
    pub(super) async fn link(
        &self,
        route: &Route,
        read_from: ReadFrom,
        deadline: Instant,
        refusal: Refusal,
    ) -> Result<Arc<Link>> {
        self.link_by(|| self.pick(route, read_from), deadline, refusal).await
    }

    pub(super) async fn link_by(
        &self,
        pick: impl Fn() -> Option<Arc<Link>>,
        deadline: Instant,
        refusal: Refusal,
    ) -> Result<Arc<Link>> {
        if let Some(link) = pick() {
            return Ok(link);
        }
        self.owner.start()?;
        let mut status = self.owner.core.status.watch();
        loop {
            // Cloned, so that no lock is held over the await.
            let now = status.borrow_and_update().clone();
            if let Some(link) = pick() {
                return Ok(link);
            }
            if let Some(ended) = self.owner.ended() {
                return Err(ended);
            }
            if now.state() == State::Error && refusal == Refusal::Fails {
                return Err(now.error.unwrap_or_else(Error::closed));
            }
            // The sender lives in `self`, so only the deadline can end the wait early.
            if timeout_at(deadline, status.changed()).await.is_err() {
                let reason =
                    now.error.map_or_else(|| "still connecting".to_owned(), |err| err.to_string());
                let what = format!("not connected in time, nothing was sent: {reason}");
                return Err(Error::new(ErrorKind::Connect, what));
            }
        }
    }

    /// The next link that is up.
    pub(super) fn pick(&self, route: &Route, read_from: ReadFrom) -> Option<Arc<Link>> {
        let core = &self.owner.core;
        let layout = core.layout.load();
        let turn = || core.next.fetch_add(1, Ordering::Relaxed);
        if read_from.may_be_replica() {
            let slot = if let Route::Slot(slot) = route { *slot } else { 0 };
            if let Some(link) = layout.replica(slot, turn()) {
                return Some(link);
            }
        }
        let anywhere = layout.is_cluster() && *route == Route::Any;
        layout.master(route, if anywhere { turn() } else { 0 })?.commands.pick()
    }
}

/// The attempts at one call: where the next one goes, and whether there is one.
pub(crate) struct Attempts<'a> {
    conn: &'a Conn,
    manner: Manner,
    deadline: Instant,
    backoff: Backoff,
    repeats: u32,
    /// A replica that fails is made up for by its master.
    fell_back: bool,
    /// The node that the next attempt goes to instead of where its key belongs, because a node said so; and
    /// whether it must be told that it is asked on behalf of another.
    redirected: Option<(Node, bool)>,
    redirections: u32,
    /// An attempt that may have run is not undone by a later one that surely did not.
    unclear: Option<Error>,
    _call: Entered<'a>,
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
        let client = link.client.with_options(&options(Duration::ZERO));
        let sending = self.conn.owner.core.spares.send(client, request.clone());
        Some((link, sending))
    }

    /// Has the task of `cx` woken when the call's time is over.
    pub(crate) fn watch(&self, cx: &Context<'_>) -> Watch<'a> {
        self.conn.owner.core.deadlines.watch(self.deadline, cx)
    }

    /// Reads what came of the attempt that [`first`](Self::first) began; keeps its place for another.
    pub(crate) fn read(
        &self,
        link: &Link,
        ended: Option<Sending>,
        outcome: Result<Value, FredError>,
    ) -> Result<Value> {
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
    ) -> Result<Value> {
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

    async fn once(&self, request: &Request) -> Result<Value> {
        let (link, asks) = self.link().await?;
        let client = link.client.with_options(&options(self.left()));
        let mut request = request.clone();
        if asks {
            // What is asked for on behalf of another node is one command, so a script has to be known or told at once.
            request = request.by_text();
        }
        let sending = self.conn.owner.core.spares.run(client, request);
        let outcome = if asks { asking(&link, self.left(), sending).await } else { sending.await };
        self.conn.read(&link, outcome)
    }

    /// A link for the next attempt, and whether it begins with `ASKING`.
    async fn link(&self) -> Result<(Arc<Link>, bool)> {
        let (conn, manner) = (self.conn, &self.manner);
        let Some((node, asks)) = &self.redirected else {
            let read_from = if self.fell_back { ReadFrom::Master } else { manner.read_from };
            let link = conn.link(&manner.route, read_from, self.deadline, Refusal::Fails);
            return Ok((link.await?, false));
        };
        let route = Route::Node(node.clone());
        let link = conn.link(&route, ReadFrom::Master, self.deadline, Refusal::Fails);
        Ok((link.await?, *asks))
    }

    pub(super) fn left(&self) -> Duration {
        left(self.deadline)
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The node that the next attempt goes to instead, and whether it begins with `ASKING`.
    pub(super) fn redirected(&self) -> Option<(&Node, bool)> {
        self.redirected.as_ref().map(|(node, asks)| (node, *asks))
    }

    /// Returns when it is time for another attempt, or the error with which the call ends.
    pub(super) async fn failed(&mut self, err: Error) -> Result<()> {
        let redirection = self.follow(&err);
        self.fell_back = true;
        // A move within a cluster ends by itself, and nothing has run: only time bounds that.
        let again = match redirection {
            Redirection::None => self.repeats > 0 && self.manner.replay.allows(&err),
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
        let node = redirect.to.clone();
        let known = core.layout.load().master(&Route::Node(node.clone()), 0).is_some();
        if known {
            self.redirected = Some((node, redirect.ask));
        }
        self.redirections += 1;
        // Sent in a circle, or to a node that is not known yet.
        let lost = !known || self.redirections > 2;
        if lost { Redirection::Soon } else { Redirection::AtOnce }
    }
}

/// Sends a command right behind `ASKING`, which allows the next command of this link to touch a key that is on its
/// way to the node. Should another task's command slip between the two, that one is not harmed, and this one is
/// sent elsewhere once more.
async fn asking(
    link: &Link,
    timeout: Duration,
    sending: impl Future<Output = Result<Value, FredError>>,
) -> Result<Value, FredError> {
    let client = link.client.with_options(&options(timeout));
    let mut asking = pin!(client.custom::<(), String>(custom("ASKING"), Vec::new()));
    // A first look hands it to fred; the answer to the command itself says whether it helped.
    let _ = poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx))).await;
    sending.await
}

/// The time until `deadline`; never zero, which means no timeout to fred.
pub(crate) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(SHORTEST)
}
