//! Which credentials the links log in with.

use std::sync::Arc;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    owner::Core,
    time::{Backoff, FAR, after, pause},
};
use crate::{BoxError, CredentialProvider, Credentials, Error, ErrorKind, Result};

/// Which share of their life credentials are used before new ones are asked for.
const USED_SHARE: f64 = 0.75;

impl Core {
    /// Asks for the credentials to use: the provider's, or the fixed ones.
    pub(super) async fn fetch(&self, deadline: Instant) -> Result<Credentials> {
        let Some(provider) = self.config.credential_provider.clone() else {
            return Ok(Credentials {
                username: self.config.username.clone(),
                password: self.config.password.clone(),
                valid_for: None,
            });
        };
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

    /// Makes `new` the credentials to use; the keepers hear of it when they log in otherwise than before.
    pub(super) fn offer(&self, new: Credentials) {
        self.credentials.send_if_modified(|known| {
            let changed = !known.logs_in_as(&new);
            *known = new;
            changed
        });
    }

    /// Keeps the credentials current: asks when they change and before they expire.
    pub(super) async fn keep_credentials(self: Arc<Self>, provider: Arc<dyn CredentialProvider>) {
        let mut backoff = Backoff::new(self.config.reconnect_delay);
        loop {
            let known = self.credentials.borrow().clone();
            let (min, _) = self.config.reconnect_delay;
            let expiry = known
                .valid_for
                .map(|valid_for| after(valid_for.min(FAR).mul_f64(USED_SHARE).max(min)));
            tokio::select! {
                () = changed(Arc::clone(&provider), known) => {}
                () = until(expiry) => {}
            }
            loop {
                match self.fetch(after(self.config.connect_timeout)).await {
                    Ok(new) => {
                        self.offer(new);
                        break;
                    }
                    Err(err) => tracing::warn!(error = %err, "keeping the credentials in use"),
                }
                backoff.pause().await;
            }
            backoff.reset();
            // A provider that announces a change without end must not make this spin.
            pause(min).await;
        }
    }
}

/// Waits for the provider to announce a change. One that panics has nothing more to announce.
async fn changed(provider: Arc<dyn CredentialProvider>, known: Credentials) {
    if let Err(err) = guarded(async move { provider.changed(&known).await }).await {
        tracing::warn!(error = %err, "the credential provider will announce no changes");
        std::future::pending::<()>().await;
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
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
