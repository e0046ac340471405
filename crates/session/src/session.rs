use std::sync::Arc;

use redbrick_core_conn::{Conn, Prefix};

use crate::{Error, SessionBuilder};

/// Server-side sessions that end when they end, with ids hashed at rest.
///
/// Clones are cheap and share everything.
#[derive(Clone, Debug)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) conn: Conn,
    pub(crate) prefix: Prefix,
}

impl Session {
    /// Makes one with the defaults of its [builder](Self::builder); sends nothing.
    #[must_use]
    pub fn new(conn: Conn) -> Self {
        Self::builder(conn).build()
    }

    /// Begins one of which more is to be said.
    #[must_use]
    pub fn builder(conn: Conn) -> SessionBuilder {
        SessionBuilder::new(conn)
    }

    pub(crate) fn from_inner(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Returns the prefix of its keys, behind that of the connection.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.inner.prefix
    }

    /// Waits until Redis answers.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when it does not within the connection's connect timeout; nothing has changed.
    #[tracing::instrument(level = "debug", name = "session.ready", skip_all)]
    pub async fn ready(&self) -> Result<(), Error> {
        Ok(self.inner.conn.ready().await?)
    }
}
