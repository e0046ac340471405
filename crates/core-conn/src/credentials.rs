use std::{fmt, time::Duration};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{BoxError, Secret};

/// A user name and password, and how long they are good for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credentials {
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) valid_for: Option<Duration>,
}

impl Credentials {
    /// The default user with `password`.
    #[must_use]
    pub fn password(password: impl Into<Secret>) -> Self {
        Self { username: None, password: Some(password.into()), valid_for: None }
    }

    /// An ACL user with a password.
    #[must_use]
    pub fn user(username: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self { username: Some(username.into()), ..Self::password(password) }
    }

    /// Sets how long the credentials can be used, counted from when they were handed out.
    ///
    /// After three quarters of this time the provider is asked again.
    /// Default: without end.
    #[must_use]
    pub fn valid_for(mut self, valid_for: Duration) -> Self {
        self.valid_for = Some(valid_for);
        self
    }

    /// Whether both say the same to the server, however long each is good for.
    pub(crate) fn logs_in_as(&self, other: &Self) -> bool {
        self.username == other.username && self.password == other.password
    }

    pub(crate) fn none() -> Self {
        Self { username: None, password: None, valid_for: None }
    }
}

/// Hands out the credentials to connect with, and says when they change.
///
/// A [`Conn`](crate::Conn) asks before its first connection, whenever [`changed`](Self::changed) resolves, when
/// three quarters of the credentials' life have passed, and when the server refuses them. It gives up only when
/// the answer then is the same as before; from time to time it asks even after that. With new credentials it
/// opens new links beside the old ones and moves over: calls in flight end on the link they began on, so that
/// a rotation fails no call as long as the server accepts the old credentials until the new ones are in use.
///
/// One question is asked at a time. Its future may be dropped before it is ready; an answer that takes longer
/// than the connect timeout counts as none, and so does a panic.
#[async_trait]
pub trait CredentialProvider: fmt::Debug + Send + Sync + 'static {
    /// Returns the credentials to use from now on.
    ///
    /// # Errors
    ///
    /// Whatever kept the provider from answering. [`Conn::connect`](crate::Conn::connect) then fails with
    /// [`ErrorKind::Auth`](crate::ErrorKind::Auth). Later the links in use are kept and the provider is asked
    /// again, with growing pauses.
    async fn credentials(&self) -> Result<Credentials, BoxError>;

    /// Resolves when [`credentials`](Self::credentials) would return something other than `current`.
    ///
    /// Default: never.
    async fn changed(&self, current: &Credentials) {
        let _ = current;
        std::future::pending::<()>().await;
    }
}

/// A [`CredentialProvider`] that the application feeds.
///
/// Clones share the credentials: give one to the config, keep one, and call
/// [`rotate`](Self::rotate) when the secret store has a new password.
#[derive(Clone)]
pub struct RotatingCredentials {
    current: watch::Sender<Credentials>,
}

impl RotatingCredentials {
    /// Starts with `credentials`.
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        Self { current: watch::Sender::new(credentials) }
    }

    /// Makes `credentials` the ones to use. Every connection that was given this provider moves over
    /// to them in the background.
    pub fn rotate(&self, credentials: Credentials) {
        self.current.send_replace(credentials);
    }
}

impl fmt::Debug for RotatingCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RotatingCredentials").finish_non_exhaustive()
    }
}

#[async_trait]
impl CredentialProvider for RotatingCredentials {
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        Ok(self.current.borrow().clone())
    }

    async fn changed(&self, current: &Credentials) {
        // The sender lives in `self`, so the channel cannot close while this waits.
        let _ = self.current.subscribe().wait_for(|latest| latest != current).await;
    }
}
