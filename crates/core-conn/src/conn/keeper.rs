//! The task that keeps one link: makes it, watches it, moves it over to new credentials.

use std::{
    future::pending,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};

use super::{
    link::{Link, LinkEvent, LinkEvents},
    owner::Core,
    state::LinkState,
    time::{Backoff, after, pause},
};
use crate::{Credentials, Error, ErrorKind, Result};

/// How often a provider is asked whether it has others than those that the server refuses.
const ASK_AGAIN: Duration = Duration::from_secs(10);

pub(super) struct Keeper {
    core: Arc<Core>,
    slot: usize,
    newest: watch::Receiver<Option<Credentials>>,
    /// What the link logged in with, or tried to.
    used: Credentials,
    /// Over logins that the server refused one after the other.
    refusals: Backoff,
    /// Links that were replaced and carry their last calls.
    retiring: JoinSet<()>,
}

/// Why a link is no longer watched.
enum Over {
    /// It must be made anew.
    Lost,
    /// The server refuses its credentials.
    Refused(Error),
}

/// A link that is being dialed while another is in use.
type Dialing = Pin<Box<dyn Future<Output = (Link, LinkEvents, Credentials)> + Send>>;

impl Drop for Keeper {
    /// A keeper ends with its connection, or with its runtime, and then nobody keeps the link.
    fn drop(&mut self) {
        self.core.status.end();
    }
}

impl Keeper {
    pub(super) fn new(core: Arc<Core>, slot: usize) -> Self {
        let newest = core.login.newest();
        let used = newest.borrow().clone().unwrap_or_else(Credentials::none);
        let refusals = Backoff::new(core.config.reconnect_delay);
        Self { core, slot, newest, used, refusals, retiring: JoinSet::new() }
    }

    /// Runs until the task is aborted. `made` are the events of a link that is in place already.
    pub(super) async fn run(mut self, mut made: Option<LinkEvents>) {
        loop {
            let events = match made.take() {
                Some(events) => Ok(events),
                None => self.make().await,
            };
            let over = match events {
                Ok(events) => self.watch(events).await,
                Err(refused) => Over::Refused(refused),
            };
            self.core.empty(self.slot);
            if let Over::Refused(err) = over {
                self.refused(err).await;
            }
        }
    }

    /// Dials until it works; an error only when the credentials are refused. New credentials are used at
    /// once.
    async fn make(&mut self) -> Result<LinkEvents> {
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
                dialed = dial(&self.core, &self.used) => dialed,
                Ok(()) = self.newest.changed() => continue,
            };
            match dialed {
                Ok((link, events)) => {
                    self.install(link);
                    return Ok(events);
                }
                Err(err) if err.kind() == ErrorKind::Auth => return Err(err),
                Err(err) => {
                    tracing::debug!(error = %err, slot = self.slot, "dialing failed");
                    self.core.status.link_lost(self.slot, LinkState::Down, err);
                }
            }
            tokio::select! {
                () = backoff.pause() => {}
                Ok(()) = self.newest.changed() => {}
            }
        }
    }

    fn install(&mut self, link: Link) -> Option<Arc<Link>> {
        self.refusals.reset();
        self.core.note_login(self.slot, None);
        self.core.install(self.slot, link)
    }

    /// After refused credentials: returns when another attempt makes sense.
    async fn refused(&mut self, err: Error) {
        let config = &self.core.config;
        let asks = config.credential_provider.is_some();
        if asks || config.retry_auth_errors {
            self.core.status.link_lost(self.slot, LinkState::Down, err.clone());
            self.refusals.pause().await;
        }
        if asks && !self.has_others() {
            self.core.login.next_answer().await;
        }
        if config.retry_auth_errors || self.has_others() {
            return;
        }
        tracing::warn!(error = %err, slot = self.slot, "giving up: the server refuses the credentials");
        self.core.status.link_lost(self.slot, LinkState::Refused, err);
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

    async fn watch(&mut self, mut events: LinkEvents) -> Over {
        let mut check = false;
        let mut dialing: Option<Dialing> = None;
        let core = Arc::clone(&self.core);
        loop {
            let Some(link) = self.core.slots[self.slot].load_full() else { return Over::Lost };
            tokio::select! {
                biased;
                event = events.next() => match event {
                    LinkEvent::Down(err) if err.kind() == ErrorKind::Auth => return Over::Refused(err),
                    LinkEvent::Down(err) => {
                        self.core.down(self.slot, &link, err);
                        // Not every event means a lost connection, and an answer settles it.
                        check = true;
                    }
                    LinkEvent::Up => check = true,
                    LinkEvent::Ended(err) => {
                        self.core.down(self.slot, &link, err);
                        return Over::Lost;
                    }
                },
                () = until_ready(&core, self.slot, &link), if check => check = false,
                Some(_) = self.retiring.join_next() => {}
                Ok(()) = self.newest.changed() => {
                    let newest = self.newest.borrow_and_update().clone();
                    dialing = newest.filter(|newest| !newest.logs_in_as(&self.used)).map(|newest| self.replace(newest));
                    if dialing.is_none() {
                        self.core.note_login(self.slot, None);
                    }
                }
                (link, new_events, used) = finished(&mut dialing) => {
                    self.used = used;
                    let replaced = self.install(link);
                    let old_events = std::mem::replace(&mut events, new_events);
                    if let Some(replaced) = replaced {
                        self.retiring.spawn(retire(Retired(Arc::downgrade(&replaced)), replaced.is_up(), old_events));
                    }
                    (check, dialing) = (false, None);
                    tracing::debug!(slot = self.slot, "link moved over to new credentials");
                }
            }
        }
    }

    /// Dials with `credentials` until it works, while the link in use goes on.
    fn replace(&self, credentials: Credentials) -> Dialing {
        let (core, slot) = (Arc::clone(&self.core), self.slot);
        Box::pin(async move {
            let mut backoff = Backoff::new(core.config.reconnect_delay);
            loop {
                match dial(&core, &credentials).await {
                    Ok((link, events)) => return (link, events, credentials),
                    Err(err) => {
                        tracing::warn!(error = %err, "the new credentials do not work; keeping the link in use");
                        if err.kind() == ErrorKind::Auth {
                            core.login.ask();
                        }
                        core.note_login(slot, Some(err));
                    }
                }
                backoff.pause().await;
            }
        })
    }
}

async fn dial(core: &Core, credentials: &Credentials) -> Result<(Link, LinkEvents)> {
    Link::dial(&core.config, credentials, after(core.config.connect_timeout)).await
}

async fn finished(dialing: &mut Option<Dialing>) -> (Link, LinkEvents, Credentials) {
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

/// Lets a replaced link end with the last call on it. When it breaks, or is broken already, it is closed at
/// once: it would wait for ever to log in as before, and its calls with it.
async fn retire(_retired: Retired, mut works: bool, mut events: LinkEvents) {
    while works {
        works = matches!(events.next().await, LinkEvent::Up);
    }
}

/// Asks until the link answers, then calls it up and names it.
async fn until_ready(core: &Core, slot: usize, link: &Link) {
    let mut backoff = Backoff::new(core.config.reconnect_delay);
    while let Err(err) = link.ready(&core.config).await {
        // What broke the link says more than a check that went unanswered.
        if !err.is_outcome_unknown() {
            core.down(slot, link, err);
        }
        backoff.pause().await;
    }
    core.up(slot, link);
    link.set_name(&core.config).await;
}
