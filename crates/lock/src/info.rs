use std::{
    borrow::Cow,
    collections::BTreeMap,
    pin::Pin,
    time::{Duration, SystemTime},
};

use redbrick_core_conn::{Bytes, ErrorKind, Replay, Script, ScriptCall};

use crate::{
    Error, Locks,
    keys::{self, LockKeys},
};

/// What is known of a lock that somebody has. Not its token.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct LockInfo {
    /// The name of the lock, as it was given.
    pub name: Vec<u8>,
    /// Who has it, in its own words.
    pub holder: String,
    /// The number of the acquisition; zero where another program has written the key.
    pub fence: u64,
    /// When it was acquired, by the server's clock, as far as the fence says so: later, where that was ahead of the clock. 1970 where
    /// another program has written the key.
    pub acquired_at: SystemTime,
    /// How many wait in line for it.
    pub waiting: u64,
    /// How long it is held unless it is extended or released; [`Duration::MAX`] where it never ends.
    pub remaining: Duration,
    /// When that is, by the server's clock; `None` where it never ends.
    pub expires_at: Option<SystemTime>,
}

impl LockInfo {
    /// Returns the name as a text; what is not UTF-8 in it is replaced.
    #[must_use]
    pub fn name_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }

    fn new(name: Vec<u8>, read: Read) -> Self {
        let ((fence, left, waiting, now), holder) = read;
        let remaining = u64::try_from(left).map_or(Duration::MAX, Duration::from_millis);
        let moment = |since| SystemTime::UNIX_EPOCH.checked_add(since);
        Self {
            name,
            holder: String::from_utf8_lossy(&holder).into_owned(),
            fence,
            acquired_at: moment(Duration::from_micros(fence)).unwrap_or(SystemTime::UNIX_EPOCH),
            waiting,
            remaining,
            expires_at: moment(Duration::from_millis(now).saturating_add(remaining)),
        }
    }
}

impl Locks {
    /// Returns who has the lock `name`, since when and until when; `None` when nobody has it. One round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked, or another program has stored another type at the lock's key.
    #[tracing::instrument(level = "debug", name = "lock.info", skip_all)]
    pub async fn info(&self, name: impl AsRef<[u8]>) -> Result<Option<LockInfo>, Error> {
        let name = name.as_ref();
        let read = self.read(name).run::<Option<Read>>().await?;
        Ok(read.map(|read| LockInfo::new(name.to_vec(), read)))
    }

    /// The same, where a server has to say so.
    pub(crate) async fn info_by_server(&self, name: &[u8]) -> Result<Option<LockInfo>, Error> {
        let read = self.read(name).run::<Option<Read>>().needs_server().await?;
        Ok(read.map(|read| LockInfo::new(name.to_vec(), read)))
    }

    /// Returns all locks of this group that somebody has, in the order of their names. What comes or goes meanwhile may
    /// be among them or not, and what is no lock is left out.
    ///
    /// For people: it walks through the whole database, one round trip for each thousand keys, and one more for up to
    /// 128 locks that are found there (on Cluster for each node).
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked.
    #[tracing::instrument(level = "debug", name = "lock.list", skip_all)]
    pub async fn list(&self) -> Result<Vec<LockInfo>, Error> {
        // Boxed, since a walk is a deep future, and the compiler follows a caller's futures only so far.
        let all: Pin<Box<dyn Future<Output = _> + Send + '_>> = Box::pin(self.all());
        all.await
    }

    async fn all(&self) -> Result<Vec<LockInfo>, Error> {
        let group = self.group();
        // A walk can return a key more than once.
        let mut found = BTreeMap::new();
        let mut walk = group.conn.scan(group.prefix.all());
        while let Some(keys) = walk.next().await? {
            for keys in keys.chunks(AT_ONCE) {
                let mut pipeline = group.conn.pipeline();
                let names = keys.iter().filter_map(|key| keys::name_of(&group.prefix, key));
                let asked: Vec<_> = names
                    .map(|name| {
                        let ticket = pipeline.add(self.read(&name).run::<Option<Read>>());
                        (name, ticket)
                    })
                    .collect();
                let mut results = pipeline.send().await;
                for (name, ticket) in asked {
                    match results.take(ticket) {
                        Ok(Some(read)) => {
                            found.insert(name.clone(), LockInfo::new(name, read));
                        }
                        Ok(None) => {}
                        Err(error) if error.kind() == ErrorKind::WrongType => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(found.into_values().collect())
    }

    fn read(&self, name: &[u8]) -> ScriptCall<'_> {
        let LockKeys { held, queue, .. } = LockKeys::new(&self.group().prefix, name);
        self.group().conn.script(&INFO).key(held).key(queue)
    }
}

/// How many locks are asked for in one round trip.
const AT_ONCE: usize = 128;

static INFO: Script =
    Script::new("lock.info", include_str!("lua/info.lua")).replay(Replay::Idempotent);

/// The fence, milliseconds that are left, how many wait, and the server's time; the holder.
type Read = ((u64, i64, u64, u64), Bytes);
