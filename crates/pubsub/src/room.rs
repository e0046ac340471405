use std::{fmt, marker::PhantomData, num::NonZeroUsize, sync::Arc, time::Duration};

use redbrick_core_conn::{Bytes, Key, Prefix, Replay, Reply, Script};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Joined, Members, Message, Subscribe, message, pubsub::Core};

/// How many messages a room remembers: 100.
pub const DEFAULT_HISTORY: NonZeroUsize = NonZeroUsize::new(100).expect("it is not zero");
/// How long a room remembers them after the last one: 24 hours.
pub const DEFAULT_HISTORY_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a member is there unless it is kept: an hour.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(60 * 60);
/// The longest lease and the longest life of a history: 366 days.
pub const LONGEST_LIFE: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// How many messages [`Room::recent`] returns.
const RECENT: NonZeroUsize = NonZeroUsize::new(10).expect("it is not zero");
/// As many messages as a history can be asked to hold.
const MOST: i64 = u32::MAX as i64;
const KIND: &str = "room";

static JOIN: Script = Script::new("pubsub.join", include_str!("lua/join.lua"));
static KEEP: Script =
    Script::new("pubsub.keep", include_str!("lua/keep.lua")).replay(Replay::Idempotent);
static LEAVE: Script = Script::new("pubsub.leave", include_str!("lua/leave.lua"));
static MEMBERS: Script =
    Script::new("pubsub.members", include_str!("lua/members.lua")).replay(Replay::Idempotent);
static COUNT: Script =
    Script::new("pubsub.count", include_str!("lua/count.lua")).replay(Replay::Idempotent);
static BROADCAST: Script = Script::new("pubsub.broadcast", include_str!("lua/broadcast.lua"));

/// A room: who is there, what was said last, and what is being said. See [`PubSub::room`](crate::PubSub::room).
///
/// Its settings count for the calls of this handle: members have the lease that they were joined or kept with, and each
/// broadcast cuts the history to its own size.
pub struct Room<Info, Msg> {
    core: Arc<Core>,
    members: Key,
    leases: Key,
    history: Key,
    channel: Key,
    keeps: NonZeroUsize,
    life: Duration,
    lease: Duration,
    of: PhantomData<fn(Info, Msg)>,
}

/// What was said in a room last, newest first; see [`Room::recent`].
#[non_exhaustive]
pub struct Recent<Msg> {
    /// The messages that can be read.
    pub messages: Vec<Message<Msg>>,
    /// What is wrong with each of the others: [`Error::Undecodable`].
    pub unreadable: Vec<Error>,
}

impl<Info, Msg> Room<Info, Msg> {
    pub(crate) fn new(core: Arc<Core>, name: &[u8]) -> Self {
        let room = Prefix::new("pubsub").join("room").tagged(name);
        Self {
            core,
            members: room.join("members"),
            leases: room.join("leases"),
            history: room.join("history"),
            channel: room.join("messages"),
            keeps: DEFAULT_HISTORY,
            life: DEFAULT_HISTORY_LIFE,
            lease: DEFAULT_LEASE,
            of: PhantomData,
        }
    }

    /// Sets how many messages are remembered.
    ///
    /// Default: [`DEFAULT_HISTORY`], 100.
    #[must_use]
    pub fn history(mut self, messages: NonZeroUsize) -> Self {
        self.keeps = messages;
        self
    }

    /// Sets how long the history is remembered after the last message; from a millisecond to [`LONGEST_LIFE`], what is less or
    /// more counts as that.
    ///
    /// Default: [`DEFAULT_HISTORY_LIFE`], 24 hours.
    #[must_use]
    pub fn history_life(mut self, life: Duration) -> Self {
        self.life = bounded(life);
        self
    }

    /// Sets how long a member is there after it joined or was kept; from a millisecond to [`LONGEST_LIFE`], what is less or
    /// more counts as that.
    ///
    /// Default: [`DEFAULT_LEASE`], an hour.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = bounded(lease);
        self
    }

    /// Returns the channel of its messages, behind the connection's prefix: for [`PubSub::on`](crate::PubSub::on).
    #[must_use]
    pub fn channel(&self) -> &Key {
        &self.channel
    }

    /// Renews the lease of a member; `false` when it is not there any more, so that it has to join again. One round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`]; the lease may or may not have been renewed.
    #[tracing::instrument(level = "debug", name = "pubsub.keep", skip_all)]
    pub async fn keep(&self, member: impl AsRef<[u8]>) -> Result<bool, Error> {
        let call = self.script(&KEEP).arg(member.as_ref()).arg(self.lease);
        Ok(call.run().needs_server().await?)
    }

    /// Removes a member, and returns whether it was there. One round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`], which knows whether it may have left.
    #[tracing::instrument(level = "debug", name = "pubsub.leave", skip_all)]
    pub async fn leave(&self, member: impl AsRef<[u8]>) -> Result<bool, Error> {
        Ok(self.script(&LEAVE).arg(member.as_ref()).run().await?)
    }

    /// Returns how many members are there. One round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`].
    #[tracing::instrument(level = "debug", name = "pubsub.count", skip_all)]
    pub async fn count(&self) -> Result<u64, Error> {
        Ok(self.core.conn.script(&COUNT).key(&self.leases).run().await?)
    }

    fn script(&self, script: &'static Script) -> redbrick_core_conn::ScriptCall<'_> {
        self.core.conn.script(script).key(&self.members).key(&self.leases)
    }
}

impl<Info: Serialize, Msg> Room<Info, Msg> {
    /// Adds a member for a lease, or renews the one that is there and replaces its information. One round trip.
    ///
    /// Also removes members whose lease has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Unencodable`], and nothing was sent; [`Error::Conn`], which knows whether it may have joined. Joining again is
    /// safe: it is there once.
    #[tracing::instrument(level = "debug", name = "pubsub.join", skip_all)]
    pub async fn join(&self, member: impl AsRef<[u8]>, info: &Info) -> Result<Joined, Error> {
        let info = self.core.conn.codec().encode(info).map_err(Error::Unencodable);
        let call = self.script(&JOIN).arg(member.as_ref()).arg(info?).arg(self.lease);
        let is_new: bool = call.run().needs_server().await?;
        Ok(if is_new { Joined::New } else { Joined::Renewed })
    }
}

impl<Info: DeserializeOwned, Msg> Room<Info, Msg> {
    /// Returns who is there, and removes those whose lease has ended. One round trip.
    ///
    /// A member whose information cannot be read is in [`Members::unreadable`] and hides nobody else.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`].
    #[tracing::instrument(level = "debug", name = "pubsub.members", skip_all)]
    pub async fn members(&self) -> Result<Members<Info>, Error> {
        let found: Vec<(Reply, Reply)> = self.script(&MEMBERS).run().await?;
        Members::read(self.core.conn.codec(), found)
    }
}

impl<Info, Msg: Serialize> Room<Info, Msg> {
    /// Puts a message into the history and publishes it, as one step; returns how many connections received it. On Cluster
    /// only those at one node are counted, and all get it.
    ///
    /// One round trip; never repeated after it may have happened.
    ///
    /// # Errors
    ///
    /// [`Error::Unencodable`], and nothing was sent; [`Error::Conn`], which knows whether it may have been said.
    #[tracing::instrument(level = "debug", name = "pubsub.broadcast", skip_all)]
    pub async fn broadcast(&self, message: &Msg) -> Result<u64, Error> {
        let core = &*self.core;
        let encoded = message::encode(core.conn.codec(), &core.source, KIND, None, message);
        let call = core.conn.script(&BROADCAST).key(&self.history).key(&self.channel);
        let keeps = i64::try_from(self.keeps.get()).unwrap_or(MOST).min(MOST);
        Ok(call.arg(encoded?).arg(keeps).arg(self.life).run().await?)
    }
}

impl<Info, Msg: DeserializeOwned> Room<Info, Msg> {
    /// Returns the last ten messages, newest first; as [`recent_n`](Self::recent_n).
    ///
    /// # Errors
    ///
    /// [`Error::Conn`].
    pub async fn recent(&self) -> Result<Recent<Msg>, Error> {
        self.recent_n(RECENT).await
    }

    /// Returns the last `n` messages, newest first: fewer where fewer are remembered, and none that cannot be read, which
    /// count among the `n`. One round trip; the first list that is read from a server takes two.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`].
    #[tracing::instrument(level = "debug", name = "pubsub.recent", skip_all)]
    pub async fn recent_n(&self, n: NonZeroUsize) -> Result<Recent<Msg>, Error> {
        let core = &*self.core;
        let n = i64::try_from(n.get()).unwrap_or(MOST).min(MOST);
        let found: Vec<Bytes> = core.plain.list(&self.history).range(..n).await?;
        let mut recent = Recent { messages: Vec::new(), unreadable: Vec::new() };
        for bytes in found {
            match Message::read(core.conn.codec(), self.channel.as_ref(), &bytes, None) {
                Ok(message) => recent.messages.extend(message),
                Err(error) => recent.unreadable.push(error),
            }
        }
        Ok(recent)
    }

    /// Subscribes to what is said from now on, as [`PubSub::subscribe`](crate::PubSub::subscribe).
    pub fn subscribe(&self) -> Subscribe<'_, Msg> {
        Subscribe::new(&self.core).channel(&self.channel)
    }
}

fn bounded(life: Duration) -> Duration {
    life.clamp(Duration::from_millis(1), LONGEST_LIFE)
}

impl<Info, Msg> Clone for Room<Info, Msg> {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            members: self.members.clone(),
            leases: self.leases.clone(),
            history: self.history.clone(),
            channel: self.channel.clone(),
            of: PhantomData,
            ..*self
        }
    }
}

impl<Msg> fmt::Debug for Recent<Msg> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Recent");
        out.field("messages", &self.messages).field("unreadable", &self.unreadable).finish()
    }
}

impl<Info, Msg> fmt::Debug for Room<Info, Msg> {
    /// Does not show its name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Room");
        out.field("history", &self.keeps).field("life", &self.life).field("lease", &self.lease);
        out.finish_non_exhaustive()
    }
}
