//! The tasks behind a connection: one keeps each link, one keeps the credentials.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    Core, FAR, after,
    link::{Link, LinkEvent, LinkEvents},
    pause,
};
use crate::{CredentialProvider, Credentials, Error, ErrorKind, Result};

/// Which share of their life credentials are used before new ones are asked for.
const USED_SHARE: f64 = 0.75;

/// Keeps the link in one slot: makes it, watches it, moves it over to new credentials.
pub(super) struct Keeper {
    pub(super) core: Arc<Core>,
    pub(super) slot: usize,
    pub(super) credentials: watch::Receiver<Credentials>,
}

/// Why a link is no longer watched.
enum Over {
    /// It must be made anew.
    Lost,
    /// The server refuses its credentials.
    Refused(Error),
}

impl Keeper {
    /// Runs until the task is aborted, or until the server refuses credentials that nobody can replace.
    pub(super) async fn run(mut self, mut made: Option<LinkEvents>) {
        loop {
            let over = match made.take() {
                Some(events) => self.watch(events).await,
                None => match self.make().await {
                    Ok(events) => {
                        made = Some(events);
                        continue;
                    }
                    Err(refused) => Over::Refused(refused),
                },
            };
            self.core.slots[self.slot].store(None);
            if let Over::Refused(err) = over {
                if self.may_try_again(&err).await {
                    continue;
                }
                tracing::warn!(error = %err, "giving up: the server refuses the credentials");
                self.core.status.give_up(self.slot, Arc::new(err));
                if self.core.config.credential_provider.is_none()
                    || self.credentials.changed().await.is_err()
                {
                    return;
                }
            }
        }
    }

    /// After refused credentials: whether the configuration wants another attempt all the same, or the
    /// provider has others to offer. Pauses, so that neither makes this spin.
    async fn may_try_again(&mut self, refused: &Error) -> bool {
        let config = &self.core.config;
        self.core.status.link_down(self.slot, Arc::new(refused.duplicate()));
        if config.retry_auth_errors {
            pause(config.reconnect_delay.1).await;
        } else {
            pause(config.reconnect_delay.0).await;
        }
        if config.credential_provider.is_some() {
            match self.core.fetch().await {
                Ok(new) => drop(self.core.offer(new)),
                Err(err) => tracing::warn!(error = %err, "no other credentials to try"),
            }
        }
        config.retry_auth_errors || self.credentials.has_changed().unwrap_or(false)
    }

    /// Dials until it works; an error only when the credentials are refused.
    async fn make(&mut self) -> Result<LinkEvents> {
        let (min, max) = self.core.config.reconnect_delay;
        let mut delay = min;
        loop {
            self.core.status.connecting();
            let err = match self.dial().await {
                Ok(events) => return Ok(events),
                Err(err) if err.kind() == ErrorKind::Auth => return Err(err),
                Err(err) => err,
            };
            tracing::debug!(error = %err, ?delay, "dialing failed");
            self.core.status.link_down(self.slot, Arc::new(err));
            pause(delay).await;
            delay = (delay * 2).min(max);
        }
    }

    /// Makes a link with the newest credentials and puts it into the slot. The link it replaces, if any,
    /// ends with the last call in flight on it.
    async fn dial(&mut self) -> Result<LinkEvents> {
        let credentials = self.credentials.borrow_and_update().clone();
        let (link, events) = Link::dial(&self.core.config, &credentials).await?;
        self.core.slots[self.slot].store(Some(Arc::new(link)));
        self.core.status.link_up(self.slot);
        Ok(events)
    }

    async fn watch(&mut self, mut events: LinkEvents) -> Over {
        let mut check_ready = false;
        // Set while new credentials wait to be used.
        let mut rotate: Option<(Instant, Duration)> = None;
        loop {
            let Some(link) = self.core.slots[self.slot].load_full() else { return Over::Lost };
            tokio::select! {
                biased;
                event = events.next() => match event {
                    LinkEvent::Down(err) if err.kind() == ErrorKind::Auth => return Over::Refused(err),
                    LinkEvent::Down(err) => {
                        // Not every event means a lost connection, and an answer settles it.
                        check_ready = true;
                        link.mark(false);
                        tracing::debug!(error = %err, "link down");
                        self.core.status.link_down(self.slot, Arc::new(err));
                    }
                    LinkEvent::Up => check_ready = true,
                    LinkEvent::Ended(err) => {
                        self.core.status.link_down(self.slot, Arc::new(err));
                        return Over::Lost;
                    }
                },
                answer = link.ready(&self.core.config), if check_ready => match answer {
                    Ok(()) => {
                        check_ready = false;
                        // After a failover another server may be answering.
                        self.core.probe.forget();
                        link.mark(true);
                        self.core.status.link_up(self.slot);
                        link.set_name(&self.core.config).await;
                    }
                    // Still checking. What broke the link says more than a check that went unanswered,
                    // and the pause keeps a refused check from spinning.
                    Err(err) => {
                        if !err.is_outcome_unknown() {
                            self.core.status.link_down(self.slot, Arc::new(err));
                        }
                        pause(self.core.config.reconnect_delay.0).await;
                    }
                },
                Ok(()) = self.credentials.changed(), if rotate.is_none() => {
                    rotate = Some((Instant::now(), self.core.config.reconnect_delay.0));
                }
                () = until(rotate.map(|(at, _)| at)), if rotate.is_some() => match self.dial().await {
                    Ok(new) => {
                        events = new;
                        check_ready = false;
                        rotate = None;
                        tracing::debug!("link moved over to new credentials");
                    }
                    Err(err) => {
                        let delay = rotate.map_or(self.core.config.reconnect_delay.0, |(_, delay)| delay);
                        tracing::warn!(error = %err, "the new credentials do not work; keeping the link");
                        let next = (delay * 2).min(self.core.config.reconnect_delay.1);
                        rotate = Some((Instant::now() + delay, next));
                    }
                },
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Core {
    /// Asks for the credentials to use: the provider's, or the fixed ones.
    pub(super) async fn fetch(&self) -> Result<Credentials> {
        let Some(provider) = &self.config.credential_provider else {
            return Ok(Credentials {
                username: self.config.username.clone(),
                password: self.config.password.clone(),
                valid_for: None,
            });
        };
        let answer = timeout(self.config.connect_timeout, provider.credentials()).await;
        let answer = answer.map_err(|err| {
            let what = "the credential provider gave no answer within the connect timeout";
            Error::new(ErrorKind::Timeout, what).with_source(err)
        })?;
        answer.map_err(|err| {
            let what = "the credential provider has no credentials to give";
            Error::new(ErrorKind::Auth, what).with_source(err)
        })
    }

    /// Makes `new` the credentials to use; returns whether they are others than before.
    pub(super) fn offer(&self, new: Credentials) -> bool {
        self.credentials.send_if_modified(|known| {
            let changed = !known.logs_in_as(&new);
            *known = new;
            changed
        })
    }

    /// Keeps the credentials current: asks when they change and before they expire.
    pub(super) async fn keep_credentials(self: Arc<Self>, provider: Arc<dyn CredentialProvider>) {
        let (min, max) = self.config.reconnect_delay;
        loop {
            let known = self.credentials.borrow().clone();
            let expiry = known.valid_for.map(|valid_for| {
                let used = valid_for.min(FAR).mul_f64(USED_SHARE);
                after(used.max(min))
            });
            tokio::select! {
                () = provider.changed(&known) => {}
                () = until(expiry), if expiry.is_some() => {}
            }
            let mut delay = min;
            let new = loop {
                match self.fetch().await {
                    Ok(new) => break new,
                    Err(err) => tracing::warn!(error = %err, "keeping the credentials in use"),
                }
                pause(delay).await;
                delay = (delay * 2).min(max);
            };
            if !self.offer(new) {
                // A provider that announces what it already gave must not make this spin.
                pause(min).await;
            }
        }
    }
}
