//! What changes a session that exists. None of it brings one back that has ended.

use std::collections::BTreeMap;

use redbrick_core_conn::{Arg, Script};
use serde::Serialize;

use crate::{
    Error, Session, SessionId, Sessions,
    record::{self, DATA},
};

/// What came of [`Sessions::save`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[must_use = "a conflict has saved nothing"]
#[non_exhaustive]
pub enum Saved {
    /// It is stored, and has a new version.
    Saved,
    /// It was changed since it was read. Nothing was stored: read it again and repeat the change.
    Conflict,
    /// It has ended. Nothing was stored, and the session stays ended.
    Gone,
}

impl<D> Sessions<D> {
    /// Replaces the data, whoever changed it meanwhile; returns whether there is a session.
    ///
    /// Its life is unchanged. One round trip, never repeated once it may have happened. Where what is written follows from
    /// what was read, use [`save`](Self::save).
    ///
    /// # Errors
    ///
    /// [`Error::Data`], before anything is sent; [`Error::Damaged`], in which case nothing has changed; [`Error::Conn`],
    /// after which it may have happened if [the outcome is unknown](Error::is_outcome_unknown).
    #[tracing::instrument(level = "debug", name = "session.update", skip_all)]
    pub async fn update(&self, id: &SessionId, data: &D) -> Result<bool, Error>
    where
        D: Serialize,
    {
        let data = self.encoded(data)?;
        Ok(self.write(id, None, vec![(DATA.to_owned(), data)], Vec::new()).await?.0 == WRITTEN)
    }

    /// Sets (`Some`) and removes (`None`) fields of the metadata, and leaves the others alone; returns whether there is a
    /// session.
    ///
    /// Of several writers of one field the last one wins; writers of different fields do not disturb each other. Its life is
    /// unchanged. One round trip, never repeated once it may have happened.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update), but for `Error::Data`.
    #[tracing::instrument(level = "debug", name = "session.update_metadata", skip_all)]
    pub async fn update_metadata<K: AsRef<str>, V: AsRef<str>>(
        &self,
        id: &SessionId,
        changes: impl IntoIterator<Item = (K, Option<V>)>,
    ) -> Result<bool, Error> {
        let mut last = BTreeMap::new();
        for (key, value) in changes {
            let value = value.map(|value| Arg::from(value.as_ref()));
            last.insert(record::metadata_field(key.as_ref()), value);
        }
        let (mut set, mut removed) = (Vec::new(), Vec::new());
        for (field, value) in last {
            match value {
                Some(value) => set.push((field, value)),
                None => removed.push(field),
            }
        }
        Ok(self.write(id, None, set, removed).await?.0 == WRITTEN)
    }

    /// Stores what may be changed of a session (data, device, role, e-mail, metadata), unless it was changed since it was
    /// read: by another `save`, [`update`](Self::update) or [`update_metadata`](Self::update_metadata), not by a touch.
    ///
    /// Its life is unchanged. When saved, `session` has the new version, so that it can be changed and saved again; the
    /// other times in it stay as they were read. One round trip, never repeated once it may have happened.
    ///
    /// ```no_run
    /// # use redbrick_session::{Error, Saved, SessionId, Sessions};
    /// # async fn add(sessions: Sessions<Vec<String>>, id: SessionId) -> Result<bool, Error> {
    /// loop {
    ///     let Some(mut session) = sessions.get(&id).await? else { return Ok(false) };
    ///     session.data.push("a book".to_owned());
    ///     match sessions.save(&mut session).await? {
    ///         Saved::Conflict => continue,
    ///         saved => return Ok(saved == Saved::Saved),
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    #[tracing::instrument(level = "debug", name = "session.save", skip_all)]
    pub async fn save(&self, session: &mut Session<D>) -> Result<Saved, Error>
    where
        D: Serialize,
    {
        let mut set = vec![(DATA.to_owned(), self.encoded(&session.data)?)];
        let Session { device, role, email, metadata, .. } = &*session;
        set.extend(record::optional(device, role, email, metadata));
        // What a newer release may have put beside these stays.
        let is_set = |field: &str| set.iter().any(|(name, _)| name == field);
        let known = record::OPTIONAL.into_iter().filter(|field| !is_set(field));
        let removed = known.map(str::to_owned).collect();
        let (id, read) = (session.id, session.version);
        let (status, version) = self.write(&id, Some(read), set, removed).await?;
        Ok(match status {
            WRITTEN => {
                session.version = version;
                Saved::Saved
            }
            OTHER_VERSION => Saved::Conflict,
            _ => Saved::Gone,
        })
    }

    fn encoded(&self, data: &D) -> Result<Arg, Error>
    where
        D: Serialize,
    {
        Ok(self.inner.conn.codec().encode(data).map_err(Error::Data)?.into())
    }

    /// With a version, it also removes the metadata that is not set.
    async fn write(
        &self,
        id: &SessionId,
        version: Option<u64>,
        set: Vec<(String, Arg)>,
        removed: Vec<String>,
    ) -> Result<(u64, u64), Error> {
        let read = version.map_or_else(String::new, |version| version.to_string());
        let call = self.inner.conn.script(&WRITE).key(self.inner.session_of(id));
        let mut call = call.arg(read).arg(version.is_some()).arg(set.len());
        for (field, value) in set {
            call = call.arg(field).arg(value);
        }
        for field in removed {
            call = call.arg(field);
        }
        call.run().needs_server().await.map_err(Error::of)
    }
}

const WRITTEN: u64 = 1;
const OTHER_VERSION: u64 = 2;

static WRITE: Script = Script::new("session.write", include_str!("lua/write.lua"));
