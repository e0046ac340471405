//! What is done by user instead of by id.

use std::cmp::Reverse;

use redbrick_core_conn::{self as core_conn, FromReply, Replay, Reply, Script, ScriptCall};

use crate::{
    Error, SessionId, SessionInfo, SessionKey, Sessions, id::Partition, record::Record,
    sessions::ENDED,
};

/// How many sessions one script reads or deletes, so that it holds up the server for no more than moments.
const STEP: usize = 500;

impl<D> Sessions<D> {
    /// Returns the sessions of a user that have not ended, the one that was used last first; without their ids, which
    /// nobody can tell. Data that has not the shape of `D` does not matter.
    ///
    /// Two round trips, or one when there is none; one more for each further 500 sessions. It is no snapshot: sessions that
    /// begin or end meanwhile may be in it or not.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`], [`Error::Conn`]; nothing has changed.
    #[tracing::instrument(level = "debug", name = "session.list", skip_all)]
    pub async fn list(&self, user: &str) -> Result<Vec<SessionInfo>, Error> {
        let keys = self.find(user, false).await?;
        let mut list = Vec::with_capacity(keys.len());
        for keys in keys.chunks(STEP) {
            let call = self.on_many(&READ, user, keys).run::<Vec<Record>>();
            let records = call.replay(Replay::Idempotent).await.map_err(Error::of)?;
            list.extend(keys.iter().zip(records).filter_map(|(key, record)| record.info(*key)));
        }
        list.sort_by_key(|info| (Reverse((info.last_seen, info.created_at)), info.key));
        Ok(list)
    }

    /// Returns how many sessions of a user have not ended.
    ///
    /// One round trip. Those that the server has evicted, or another program deleted, count until
    /// [`list`](Self::list) finds that they are gone.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    #[tracing::instrument(level = "debug", name = "session.count", skip_all)]
    pub async fn count(&self, user: &str) -> Result<u64, Error> {
        Ok(self.find(user, false).await?.len() as u64)
    }

    /// Ends the session of this key if it is the user's, and returns whether it was.
    ///
    /// One round trip, repeated as that of [`delete`](Self::delete).
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`], [`Error::Conn`]: the session goes on, or may have ended if
    /// [the outcome is unknown](Error::is_outcome_unknown).
    #[tracing::instrument(level = "debug", name = "session.delete_key", skip_all)]
    pub async fn delete_key(&self, user: &str, key: &SessionKey) -> Result<bool, Error> {
        Ok(self.revoke(user, &[*key]).await? == 1)
    }

    /// Ends all sessions of a user, and returns how many it ended.
    ///
    /// Those that began before the call are gone when it returns; one that begins meanwhile may stay. So change what a
    /// user logs in with first, and call this then. Two round trips, or one when there is none; one more for each further
    /// 500 sessions.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`], [`Error::Conn`]: some of them may have ended. Repeat it.
    #[tracing::instrument(level = "debug", name = "session.delete_all", skip_all)]
    pub async fn delete_all(&self, user: &str) -> Result<u64, Error> {
        let keys = self.find(user, true).await?;
        self.revoke(user, &keys).await
    }

    /// Ends all sessions of a user but the current one, and returns how many it ended.
    ///
    /// Where `current` is no session of this user, that is all of them. Otherwise as [`delete_all`](Self::delete_all).
    ///
    /// # Errors
    ///
    /// As [`delete_all`](Self::delete_all); the current one goes on.
    #[tracing::instrument(level = "debug", name = "session.delete_others", skip_all)]
    pub async fn delete_others(&self, user: &str, current: &SessionId) -> Result<u64, Error> {
        let (mut keys, current) = (self.find(user, true).await?, current.key());
        keys.retain(|key| *key != current);
        self.revoke(user, &keys).await
    }

    async fn find(&self, user: &str, needs_server: bool) -> Result<Vec<SessionKey>, Error> {
        let call = self.on_many(&FIND, user, &[]).run::<Digests>().replay(Replay::Idempotent);
        let call = if needs_server { call.needs_server() } else { call };
        Ok(call.await.map_err(Error::of)?.0)
    }

    async fn revoke(&self, user: &str, keys: &[SessionKey]) -> Result<u64, Error> {
        let mut deleted = 0;
        for keys in keys.chunks(STEP) {
            let call = self.on_many(&REVOKE, user, keys).run::<u64>();
            let call = call.replay(Replay::Idempotent).needs_server();
            let ended = call.await.map_err(Error::of)?;
            ENDED.add(ended, &self.inner.name);
            deleted += ended;
        }
        Ok(deleted)
    }

    /// Begins a script on an index and sessions of a user that it may list.
    fn on_many(&self, script: &'static Script, user: &str, keys: &[SessionKey]) -> ScriptCall<'_> {
        let (inner, partition) = (&self.inner, Partition::of(user));
        let call = inner.conn.script(script).key(inner.index(partition)).arg(user);
        keys.iter()
            .fold(call, |call, key| call.key(inner.session(partition, key)).arg(key.as_digest()))
    }
}

/// The digests that a script found.
#[derive(Default)]
struct Digests(Vec<SessionKey>);

impl FromReply for Digests {
    fn from_reply(reply: Reply) -> core_conn::Result<Self> {
        let Reply::List(entries) = reply else { return Err(reply.unexpected("a list")) };
        let digest = |entry| match entry {
            Reply::Bytes(digest) => Some(SessionKey::from_digest((*digest).try_into().ok()?)),
            _ => None,
        };
        // What another program has put there is not taken for a session.
        Ok(Self(entries.into_iter().filter_map(digest).collect()))
    }
}

static FIND: Script = Script::new("session.find", include_str!("lua/find.lua"));
static READ: Script = Script::new("session.read", include_str!("lua/read.lua"));
static REVOKE: Script = Script::new("session.revoke", include_str!("lua/revoke.lua"));
