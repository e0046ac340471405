use std::{fmt, marker::PhantomData, sync::Arc};

use redbrick_core_conn::{Conn, Counter, Prefix};
use serde::de::DeserializeOwned;

use crate::{Error, Session, SessionId, SessionsBuilder, layout::Inner, record::Record};

pub(crate) static CREATED: Counter =
    Counter::new("redbrick.session.created", "Sessions that began");
pub(crate) static ENDED: Counter = Counter::new(
    "redbrick.session.ended",
    "Sessions that were deleted; those that expire are not seen",
);

/// Sessions that Redis keeps, each with data of the type `D`.
///
/// Clones are cheap and share everything. One with another `D`, or none, on the same name sees the same sessions, and
/// needs `D` only to read or write it.
pub struct Sessions<D = ()> {
    pub(crate) inner: Arc<Inner>,
    data: PhantomData<fn() -> D>,
}

impl<D> Sessions<D> {
    /// Makes them with the defaults of their [builder](Self::builder); sends nothing.
    #[must_use]
    pub fn new(conn: Conn) -> Self {
        Self::builder(conn).build()
    }

    /// Begins some of which more is to be said.
    pub fn builder(conn: Conn) -> SessionsBuilder<D> {
        SessionsBuilder::new(conn)
    }

    pub(crate) fn from_inner(inner: Inner) -> Self {
        Self { inner: Arc::new(inner), data: PhantomData }
    }

    /// Returns the prefix of their keys, behind that of the connection.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.inner.prefix
    }

    /// Returns the session of this id, or nothing when it has ended or never was; its life is unchanged.
    ///
    /// One round trip, always to a master, so that no replica shows a session that has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] when the data has not the shape of `D`, [`Error::Damaged`], [`Error::Conn`]; nothing has changed.
    #[tracing::instrument(level = "debug", name = "session.get", skip_all)]
    pub async fn get(&self, id: &SessionId) -> Result<Option<Session<D>>, Error>
    where
        D: DeserializeOwned,
    {
        let record = self.inner.plain.hash(self.inner.session_of(id)).get_all().await;
        Record::new(record.map_err(Error::of)?).session(*id, self.inner.conn.codec())
    }

    /// Returns whether there is a session of this id; its life is unchanged.
    ///
    /// One round trip, without a script, always to a master.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`], [`Error::Conn`]; nothing has changed.
    #[tracing::instrument(level = "debug", name = "session.is_valid", skip_all)]
    pub async fn is_valid(&self, id: &SessionId) -> Result<bool, Error> {
        let session = self.inner.plain.hash(self.inner.session_of(id));
        session.contains("user").await.map_err(Error::of)
    }
}

impl<D> Clone for Sessions<D> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), data: PhantomData }
    }
}

impl<D> fmt::Debug for Sessions<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("prefix", &self.inner.prefix).finish_non_exhaustive()
    }
}
