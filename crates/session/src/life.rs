//! What moves the end of a session.

use std::time::{Duration, SystemTime};

use redbrick_core_conn::{FromReply, LONGEST_TIME_TO_LIVE, Replay, Script, ScriptCall};
use serde::de::DeserializeOwned;

use crate::{
    Error, Session, SessionId, Sessions,
    layout::millis,
    record::{Record, time},
};

/// How much an extension usually adds: one hour.
pub const DEFAULT_EXTENSION: Duration = Duration::from_secs(60 * 60);

impl<D> Sessions<D> {
    /// Notes that the session was used now, and lets it live for its time to live from now; returns whether there is one.
    ///
    /// Its end is never moved to an earlier time, nor beyond its absolute end. Times are the server's. One round trip; when
    /// the connection breaks, it is repeated.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`], in which case nothing has changed; [`Error::Conn`], after which it may have happened if
    /// [the outcome is unknown](Error::is_outcome_unknown).
    #[tracing::instrument(level = "debug", name = "session.touch", skip_all)]
    pub async fn touch(&self, id: &SessionId) -> Result<bool, Error> {
        self.note_use(id, true, false).await
    }

    /// Does what [`touch`](Self::touch) does and returns the session as it is then, in the same round trip.
    ///
    /// # Errors
    ///
    /// As [`touch`](Self::touch), and [`Error::Data`] when the data has not the shape of `D`: the session was touched.
    #[tracing::instrument(level = "debug", name = "session.get_and_touch", skip_all)]
    pub async fn get_and_touch(&self, id: &SessionId) -> Result<Option<Session<D>>, Error>
    where
        D: DeserializeOwned,
    {
        let record: Record = self.note_use(id, true, true).await?;
        record.session(*id, self.inner.conn.codec())
    }

    /// Notes that the session was used now, and leaves its life alone; returns whether there is one.
    ///
    /// One round trip; when the connection breaks, it is repeated.
    ///
    /// # Errors
    ///
    /// As [`touch`](Self::touch).
    #[tracing::instrument(level = "debug", name = "session.update_activity", skip_all)]
    pub async fn update_activity(&self, id: &SessionId) -> Result<bool, Error> {
        self.note_use(id, false, false).await
    }

    /// Lets the session end `by` later than it would, and returns when that is by the server's clock; nothing when there is
    /// no session. [`DEFAULT_EXTENSION`] is the usual hour.
    ///
    /// It does not end after its absolute end, nor later than a hundred years from now. A later [`touch`](Self::touch) takes
    /// nothing of it back. Less than a millisecond counts as one. One round trip, never repeated once it may have
    /// happened.
    ///
    /// # Errors
    ///
    /// As [`touch`](Self::touch).
    #[tracing::instrument(level = "debug", name = "session.extend", skip_all)]
    pub async fn extend(&self, id: &SessionId, by: Duration) -> Result<Option<SystemTime>, Error> {
        let call = self.on(&EXTEND, id).arg(millis(by)).arg(LONGEST_TIME_TO_LIVE);
        let ends: Option<u64> = call.run().needs_server().await.map_err(Error::of)?;
        Ok(ends.map(time))
    }

    async fn note_use<T: FromReply + Default>(
        &self,
        id: &SessionId,
        slide: bool,
        read: bool,
    ) -> Result<T, Error> {
        let call = self.on(&TOUCH, id).arg(slide).arg(read);
        call.run().replay(Replay::Idempotent).await.map_err(Error::of)
    }

    /// Begins a script on a session and the index that lists it.
    pub(crate) fn on(&self, script: &'static Script, id: &SessionId) -> ScriptCall<'_> {
        let (inner, key) = (&self.inner, id.key());
        let call = inner.conn.script(script).key(inner.session(id.partition(), &key));
        call.key(inner.index(id.partition())).arg(key.as_digest())
    }
}

static TOUCH: Script = Script::new("session.touch", include_str!("lua/touch.lua"));
static EXTEND: Script = Script::new("session.extend", include_str!("lua/extend.lua"));
