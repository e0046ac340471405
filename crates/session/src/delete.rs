use redbrick_core_conn::{Replay, Script};

use crate::{Error, SessionId, Sessions, sessions::ENDED};

impl<D> Sessions<D> {
    /// Ends the session of this id, and returns whether there was one. It cannot come back: nothing that runs at the same
    /// time or later creates it again.
    ///
    /// One round trip; when the connection breaks, it is repeated, and can then answer `false` although it ended the session
    /// itself.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`]: the session goes on, or may have ended if [the outcome is unknown](Error::is_outcome_unknown).
    #[tracing::instrument(level = "debug", name = "session.delete", skip_all)]
    pub async fn delete(&self, id: &SessionId) -> Result<bool, Error> {
        let call = self.on(&DELETE, id).run().replay(Replay::Idempotent).needs_server();
        let ended = call.await.map_err(Error::of)?;
        ENDED.add(u64::from(ended), &self.inner.name);
        Ok(ended)
    }
}

static DELETE: Script = Script::new("session.delete", include_str!("lua/delete.lua"));
