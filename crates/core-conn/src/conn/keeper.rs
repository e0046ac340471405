//! The task that keeps one link: makes it, watches it, replaces it.

use std::{
    future::pending,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    dial::dial,
    lane::Lane,
    link::{Link, LinkEnd},
    owner::Core,
    pulse,
    state::LinkState,
    time::{Backoff, after, pause},
};
use crate::{
    Credentials, Error, ErrorKind, Result,
    telemetry::{Presence, Replaced},
};

/// How often a provider is asked whether it has others than those that the server refuses.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How often, at most, a server that takes no writes is dialed again in the hope of another one.
const DOUBT_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Keeper {
    core: Arc<Core>,
    lane: Arc<Lane>,
    seat: usize,
    newest: watch::Receiver<Option<Credentials>>,
    /// What the link logged in with, or tried to.
    used: Credentials,
    /// Over logins that the server refused one after the other.
    refusals: Backoff,
    /// Links that were replaced and carry their last calls.
    retiring: JoinSet<()>,
    presence: Presence,
}

/// Why a link is no longer watched.
enum Over {
    /// It must be made anew.
    Lost,
    /// The server refuses its credentials.
    Refused(Error),
}

/// A link that is being dialed while another is in use.
type Dialing = BoxFuture<(Link, LinkEnd, Credentials)>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Drop for Keeper {
    /// A keeper ends with its server, with its connection, or with its runtime. In the last case nobody keeps
    /// the link any more.
    fn drop(&mut self) {
        if !self.lane.is_gone() {
            self.core.status.end();
        }
    }
}

impl Keeper {
    pub(super) fn new(core: Arc<Core>, lane: Arc<Lane>, seat: usize) -> Self {
        let newest = core.login.newest();
        let used = newest.borrow().clone().unwrap_or_else(Credentials::none);
        let refusals = Backoff::new(core.config.reconnect_delay);
        let (retiring, presence) = (JoinSet::new(), Presence::default());
        Self { core, lane, seat, newest, used, refusals, retiring, presence }
    }

    /// Runs until the task is aborted.
    pub(super) async fn run(mut self) {
        loop {
            let over = match self.make().await {
                Ok(end) => self.watch(end).await,
                Err(refused) => Over::Refused(refused),
            };
            self.lane.empty(self.seat);
            self.core.layout_wanted.notify_one();
            if let Over::Refused(err) = over {
                self.refused(err).await;
            }
        }
    }

    /// Dials until it works; an error only when the credentials are refused. New credentials are used at
    /// once.
    async fn make(&mut self) -> Result<LinkEnd> {
        let mut backoff = Backoff::new(self.core.config.reconnect_delay);
        loop {
            let newest = self.newest.borrow_and_update().clone();
            let Some(newest) = newest else {
                // The sender lives in `core`.
                let _ = self.newest.changed().await;
                continue;
            };
            self.used = newest;
            let dialed = tokio::select! {
                biased;
                dialed = once(Arc::clone(&self.core), Arc::clone(&self.lane), self.used.clone()) => dialed,
                Ok(()) = self.newest.changed() => continue,
            };
            match dialed {
                Ok((link, end)) => {
                    // Counted first, so that who sees the link sees the count.
                    self.core.telemetry.up(&mut self.presence);
                    self.install(link);
                    self.core.publish();
                    return Ok(end);
                }
                Err(err) if err.kind() == ErrorKind::Auth => return Err(err),
                Err(err) => {
                    tracing::debug!(error = %err, link = self.seat, "dialing failed");
                    self.lost(LinkState::Down, err);
                }
            }
            tokio::select! {
                () = backoff.pause() => {}
                Ok(()) = self.newest.changed() => {}
            }
        }
    }

    /// Makes attempts at a link with the credentials in use.
    fn dialer(&self) -> impl Fn() -> BoxFuture<Result<(Link, LinkEnd)>> + use<> {
        let (core, lane) = (Arc::clone(&self.core), Arc::clone(&self.lane));
        let used = self.used.clone();
        move || Box::pin(once(Arc::clone(&core), Arc::clone(&lane), used.clone()))
    }

    fn install(&mut self, link: Link) -> Option<Arc<Link>> {
        self.refusals.reset();
        self.core.note_login(self.lane.id(self.seat), None);
        self.lane.install(&self.core, self.seat, link)
    }

    fn lost(&self, state: LinkState, err: Error) {
        self.core.status.link_lost(self.lane.id(self.seat), state, err);
    }

    /// After refused credentials: returns when another attempt makes sense.
    async fn refused(&mut self, err: Error) {
        let config = &self.core.config;
        let asks = config.credential_provider.is_some();
        if asks || config.retry_auth_errors {
            self.lost(LinkState::Down, err.clone());
            self.refusals.pause().await;
        }
        if asks && !self.has_others() {
            self.core.login.next_answer().await;
        }
        if self.core.config.retry_auth_errors || self.has_others() {
            return;
        }
        tracing::warn!(error = %err, link = self.seat, "giving up: the server refuses the credentials");
        self.lost(LinkState::Refused, err);
        let mut status = self.core.status.watch();
        let ups = status.borrow_and_update().ups;
        loop {
            tokio::select! {
                // Others to try, or the proof on another link that these work after all.
                Ok(()) = self.newest.changed() => return,
                Ok(_) = status.wait_for(|now| now.ups > ups) => return,
                // The provider may learn of a change without announcing it.
                () = pause(ASK_AGAIN), if asks => self.core.login.ask(),
            }
        }
    }

    /// Whether there are credentials that the server has not refused.
    fn has_others(&self) -> bool {
        self.newest.borrow().as_ref().is_some_and(|newest| !newest.logs_in_as(&self.used))
    }

    async fn watch(&mut self, mut end: LinkEnd) -> Over {
        let mut dialing: Option<Dialing> = None;
        let mut doubt_from = Instant::now();
        loop {
            let Some(link) = self.lane.link(self.seat) else { return Over::Lost };
            let timeout = self.core.config.command_timeout;
            let dial = self.dialer();
            let stuck = pulse::stuck(&link, timeout, dial);
            let (fresh, used, how) = tokio::select! {
                biased;
                err = end.wait() => {
                    tracing::debug!(error = %err, link = self.seat, "link lost");
                    link.broke();
                    self.core.telemetry.down(&mut self.presence);
                    self.lost(LinkState::Down, err);
                    self.core.publish();
                    return Over::Lost;
                }
                Ok(()) = self.newest.changed() => {
                    let newest = self.newest.borrow_and_update().clone();
                    dialing = newest.filter(|newest| !newest.logs_in_as(&self.used)).map(|newest| self.replace(newest));
                    if dialing.is_none() {
                        self.core.note_login(self.lane.id(self.seat), None);
                    }
                    continue;
                }
                (link, end, used) = finished(&mut dialing) => ((link, end), used, Replaced::Moved),
                () = self.lane.doubted(), if dialing.is_none() => {
                    let replacing = self.replace(self.used.clone());
                    let begin = doubt_from.max(Instant::now());
                    doubt_from = begin + DOUBT_AGAIN;
                    dialing = Some(Box::pin(async move {
                        sleep_until(begin).await;
                        replacing.await
                    }));
                    continue;
                }
                fresh = stuck => {
                    // Its calls need not wait for their timeouts. What is on its way must not arrive after them.
                    pulse::kill(&fresh.0, &link).await;
                    link.abort();
                    (fresh, self.used.clone(), Replaced::Stuck)
                }
            };
            self.used = used;
            dialing = None;
            let (link, new_end) = fresh;
            self.core.telemetry.replaced(how);
            let replaced = self.install(link);
            let old_end = std::mem::replace(&mut end, new_end);
            if let Some(replaced) = replaced {
                let retired = Retired(Arc::downgrade(&replaced));
                if replaced.is_up() {
                    self.retiring.spawn(retire(retired, old_end));
                }
            }
            while self.retiring.try_join_next().is_some() {}
            tracing::debug!(link = self.seat, ?how, "link replaced");
        }
    }

    /// Dials with `credentials` until it works, while the link in use goes on.
    fn replace(&self, credentials: Credentials) -> Dialing {
        let (core, id) = (Arc::clone(&self.core), self.lane.id(self.seat));
        let (lane, news) = (Arc::clone(&self.lane), !credentials.logs_in_as(&self.used));
        Box::pin(async move {
            let mut backoff = Backoff::new(core.config.reconnect_delay);
            loop {
                match once(Arc::clone(&core), Arc::clone(&lane), credentials.clone()).await {
                    Ok((link, end)) => return (link, end, credentials),
                    Err(err) if news => {
                        tracing::warn!(error = %err, "the new credentials do not work; keeping the link in use");
                        if err.kind() == ErrorKind::Auth {
                            core.login.ask();
                        }
                        core.note_login(id, Some(err));
                    }
                    Err(err) => tracing::debug!(error = %err, "keeping the link in use"),
                }
                backoff.pause().await;
            }
        })
    }
}

/// One attempt at a link.
async fn once(
    core: Arc<Core>,
    lane: Arc<Lane>,
    credentials: Credentials,
) -> Result<(Link, LinkEnd)> {
    let deadline = after(core.config.connect_timeout);
    dial(&core.config, &lane.endpoint, &credentials, lane.purpose, deadline).await
}

async fn finished(dialing: &mut Option<Dialing>) -> (Link, LinkEnd, Credentials) {
    match dialing {
        Some(dialing) => dialing.await,
        None => pending().await,
    }
}

/// A link that was replaced. It closes when this is dropped, if the last call on it has not ended before.
struct Retired(Weak<Link>);

impl Drop for Retired {
    fn drop(&mut self) {
        if let Some(link) = self.0.upgrade() {
            link.abort();
        }
    }
}

/// Lets a replaced link end with the last call on it; one that breaks meanwhile gives its calls back at once.
async fn retire(retired: Retired, mut end: LinkEnd) {
    end.wait().await;
    if let Some(link) = retired.0.upgrade() {
        link.broke();
    }
}
