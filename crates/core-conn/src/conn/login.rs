//! Which credentials the links log in with. One task asks the provider; only the first answer is asked for by whoever
//! connects.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    owner::Core,
    state::LinkState,
    time::{Backoff, FAR, after, pause, until},
};
use crate::{BoxError, Config, CredentialProvider, Credentials, Error, ErrorKind, Result};

/// Which share of their life credentials are used before new ones are asked for.
const USED_SHARE: f64 = 0.75;

/// The credentials, and who wants to know what about them.
#[derive(Debug)]
pub(crate) struct Login {
    /// The newest credentials; none before a provider's first answer. Changes when they log in otherwise.
    newest: watch::Sender<Option<Credentials>>,
    /// How long the newest are good for, from when.
    expiry: watch::Sender<Option<Instant>>,
    /// How often the provider has answered.
    answers: watch::Sender<u64>,
    /// Somebody was refused and wants the provider asked.
    refused: Notify,
}

impl Login {
    pub(super) fn new(config: &Config) -> Self {
        let fixed = config.credential_provider.is_none().then(|| Credentials {
            username: config.username.clone(),
            password: config.password.clone(),
            valid_for: None,
        });
        Self {
            newest: watch::Sender::new(fixed),
            expiry: watch::Sender::new(None),
            answers: watch::Sender::new(0),
            refused: Notify::new(),
        }
    }

    pub(super) fn newest(&self) -> watch::Receiver<Option<Credentials>> {
        self.newest.subscribe()
    }

    /// Wants the provider asked, now or after the answer under way.
    pub(super) fn ask(&self) {
        self.refused.notify_one();
    }

    /// Waits for the provider's next answer.
    pub(super) async fn next_answer(&self) {
        let mut answers = self.answers.subscribe();
        let before = *answers.borrow_and_update();
        self.ask();
        // The sender lives in `self`, so this ends with an answer only.
        let _ = answers.wait_for(|answers| *answers > before).await;
    }

    fn offer(&self, new: Credentials, min: Duration) {
        self.expiry.send_replace(
            new.valid_for.map(|valid_for| after(valid_for.min(FAR).mul_f64(USED_SHARE).max(min))),
        );
        self.newest.send_if_modified(|known| {
            let changed = known.as_ref().is_none_or(|known| !known.logs_in_as(&new));
            *known = Some(new);
            changed
        });
        self.answers.send_modify(|answers| *answers += 1);
    }
}

impl Core {
    /// Asks for the first credentials; the fixed ones are known already.
    pub(super) async fn first_login(&self, deadline: Instant) -> Result<Credentials> {
        if let Some(provider) = &self.config.credential_provider {
            let new = fetch(Arc::clone(provider), deadline).await?;
            self.login.offer(new, self.config.reconnect_delay.0);
        }
        Ok(self.login.newest.borrow().clone().unwrap_or_else(Credentials::none))
    }

    /// The credentials in use; the first ones are asked for when nobody has done so yet.
    pub(crate) async fn known_login(&self, deadline: Instant) -> Result<Credentials> {
        let known = self.login.newest.borrow().clone();
        match known {
            Some(known) => Ok(known),
            None => self.first_login(deadline).await,
        }
    }

    /// Keeps the credentials current: asks for the first ones, when they change, before they expire, and when
    /// the server refuses them.
    pub(super) async fn keep_login(self: Arc<Self>, provider: Arc<dyn CredentialProvider>) {
        let (min, _) = self.config.reconnect_delay;
        let mut backoff = Backoff::new(self.config.reconnect_delay);
        loop {
            let known = self.login.newest.borrow().clone();
            if let Some(known) = known {
                let expiry = *self.login.expiry.borrow();
                tokio::select! {
                    () = changed(Arc::clone(&provider), known) => {}
                    () = until(expiry) => {}
                    () = self.login.refused.notified() => {}
                }
            }
            loop {
                let deadline = after(self.config.connect_timeout);
                match fetch(Arc::clone(&provider), deadline).await {
                    Ok(new) => {
                        self.login.offer(new, min);
                        break;
                    }
                    Err(err) => self.no_answer(&err),
                }
                backoff.pause().await;
            }
            backoff.reset();
            // A provider that announces a change without end must not make this spin.
            pause(min).await;
        }
    }

    /// Without any credentials no link can be made, and callers should learn why.
    fn no_answer(&self, err: &Error) {
        tracing::warn!(error = %err, "asking the credential provider again");
        if self.login.newest.borrow().is_none() {
            for link in self.links() {
                self.status.link_lost(link, LinkState::Down, err.clone());
            }
        }
    }
}

async fn fetch(provider: Arc<dyn CredentialProvider>, deadline: Instant) -> Result<Credentials> {
    let asking = guarded(async move { provider.credentials().await });
    let answer = timeout_at(deadline, asking).await.map_err(|err| {
        let what = "the credential provider gave no answer within the connect timeout";
        Error::new(ErrorKind::Timeout, what).with_source(err)
    })?;
    answer.and_then(|credentials| credentials).map_err(|err| {
        let what = "the credential provider has no credentials to give";
        Error::new(ErrorKind::Auth, what).with_source(err)
    })
}

/// Waits for the provider to announce a change. One that panics has nothing more to announce.
async fn changed(provider: Arc<dyn CredentialProvider>, known: Credentials) {
    if let Err(err) = guarded(async move { provider.changed(&known).await }).await {
        tracing::warn!(error = %err, "the credential provider will announce no changes");
        std::future::pending::<()>().await;
    }
}

/// Runs the application's code so that its panic is an error and not the end of the task that asked. It
/// ends when the returned future is dropped.
async fn guarded<T: Send + 'static>(
    asking: impl Future<Output = T> + Send + 'static,
) -> Result<T, BoxError> {
    let mut task = JoinSet::new();
    task.spawn(asking);
    match task.join_next().await {
        Some(answer) => answer.map_err(Into::into),
        None => Err("it was never asked".into()),
    }
}
