use super::{Call, request::Request};
use crate::{Conn, Result, conn::together};

/// Says that [`Conn::flush`] is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Confirm {
    /// Every key of the database goes, with the connection's prefix or without it, whoever wrote it.
    DeleteEveryKey,
}

impl Conn {
    /// Deletes every key of the connection's database, for development and tests: not only those below its prefix.
    ///
    /// One round trip (`FLUSHDB ASYNC`); on Cluster one to each master, all at once. It is never sent twice after it
    /// may have run.
    ///
    /// # Errors
    ///
    /// Those of [every call](Conn#errors-of-every-call); some masters may be empty already.
    #[doc(alias("flushdb", "flushall"))]
    #[tracing::instrument(level = "debug", name = "core_conn.flush", skip_all)]
    pub async fn flush(&self, confirm: Confirm) -> Result<()> {
        let Confirm::DeleteEveryKey = confirm;
        let calls = self
            .masters()
            .await?
            .into_iter()
            .map(|master| Call::<()>::reading(self, Ok(Request::Flush)).route(master));
        together(calls.collect::<Vec<_>>()).await.into_iter().collect()
    }
}
