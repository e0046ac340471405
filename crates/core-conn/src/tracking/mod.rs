//! The invalidation feed: the servers say which keys have changed, and how far that is complete is always known.

mod armed;
mod changes;
mod cover;
mod master;
mod session;
mod tracker;

use std::{
    collections::HashSet,
    fmt,
    future::{Future, IntoFuture, poll_fn},
    num::NonZeroUsize,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_core::Stream;
use tokio::{sync::watch, time::timeout_at};

use crate::{
    Conn, Error, ErrorKind, Replay, Result,
    conn::{Route, after},
};

pub(crate) use tracker::Tracker;

use changes::Changes;
use tracker::{Interest, Ready};

/// How far a feed may be behind: one second.
pub const DEFAULT_TRACKING_BOUND: Duration = Duration::from_secs(1);
/// How many keys wait for a slow reader of a feed: 16,384.
pub const DEFAULT_TRACKING_QUEUE: NonZeroUsize =
    NonZeroUsize::new(1 << 14).expect("it is not zero");
/// The shortest bound of a feed: 50 ms.
const SHORTEST_BOUND: Duration = Duration::from_millis(50);

/// What a [`Tracking`] says.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Invalidation {
    /// The value at this key has changed or may have: it was written, deleted, has expired or was evicted. The
    /// connection's prefix is left out.
    Key(Bytes),
    /// All values are gone, since a server was emptied, or more have changed than may [wait](Track::queue_keys): forget all of them.
    Flush,
    /// Something may have changed unheard: at first, and when a link was lost or is back. Values may be kept, but none counts until the
    /// server was asked for it.
    Gap,
}

/// A feed that has not been asked for yet; awaiting it does so. See [`Conn::track`].
#[must_use = "nothing is asked until it is awaited"]
pub struct Track<'a> {
    conn: &'a Conn,
    interest: Interest,
    queue: NonZeroUsize,
    own_writes: bool,
    lazy: bool,
}

/// What changes on the servers, as it happens, and how far that is known to be complete. Dropping it ends it.
///
/// It keeps the connection open, and ends when that is [closed](Conn::close).
#[must_use = "dropping it ends the feed"]
pub struct Tracking {
    /// Keeps the connection open.
    conn: Conn,
    tracker: Arc<Tracker>,
    id: u64,
    changes: Arc<Changes>,
    bound: Duration,
}

/// Tells how far a [`Tracking`] is complete, to whoever does not read it. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Freshness {
    changes: Arc<Changes>,
    bound: Duration,
}

impl Conn {
    /// Has the servers say which keys change: name prefixes or keys, then await it.
    ///
    /// This is what a copy of values in this process is kept true by. Whoever keeps one
    ///
    /// 1. reads this feed all the time, forgets the value at each [`Key`](Invalidation::Key), and all at a
    ///    [`Flush`](Invalidation::Flush) or a [`Gap`](Invalidation::Gap);
    /// 2. keeps a value only if nothing was said of its key since before it was asked for, and nobody here wrote it meanwhile
    ///    (below: the ticket is still there);
    /// 3. keeps it no longer than its time to live, asks masters for it and not replicas, and forgets what this process writes
    ///    itself as soon as it has written, because a feed comes behind;
    /// 4. answers from the copy only while [`is_current`](Freshness::is_current) says so, and asks the server otherwise.
    ///
    /// Then no value is older than the [bound](Track::bound).
    ///
    /// ```no_run
    /// # use std::{collections::HashMap, sync::Mutex};
    /// # use redbrick_core_conn::{Conn, Error, Freshness, Invalidation, ReadFrom};
    /// /// A value, or the ticket of somebody who reads it just now.
    /// enum Kept { Value(String), Ticket(u64) }
    ///
    /// #[derive(Default)]
    /// struct Copy { kept: Mutex<HashMap<Vec<u8>, Kept>>, tickets: std::sync::atomic::AtomicU64 }
    ///
    /// impl Copy {
    ///     /// In a task of its own. `is_current` is false until the first `Gap` was read here.
    ///     async fn follow(&self, mut changes: redbrick_core_conn::Tracking) {
    ///         while let Some(change) = changes.next().await {
    ///             let mut kept = self.kept.lock().unwrap();
    ///             match change {
    ///                 Invalidation::Key(key) => drop(kept.remove(&key[..])),
    ///                 _ => kept.clear(),
    ///             }
    ///         }
    ///     }
    ///
    ///     async fn get(&self, conn: &Conn, fresh: &Freshness, key: &str) -> Result<Option<String>, Error> {
    ///         let is_current = fresh.is_current();
    ///         let ticket = self.tickets.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    ///         {
    ///             let mut kept = self.kept.lock().unwrap();
    ///             if let (true, Some(Kept::Value(value))) = (is_current, kept.get(key.as_bytes())) {
    ///                 return Ok(Some(value.clone()));
    ///             }
    ///             kept.insert(key.into(), Kept::Ticket(ticket));
    ///         }
    ///         let value = conn.with_read_from(ReadFrom::Master).get::<String>(key).await?;
    ///         let mut kept = self.kept.lock().unwrap();
    ///         if let (Some(value), Some(Kept::Ticket(mine))) = (&value, kept.get(key.as_bytes()))
    ///             && *mine == ticket
    ///         {
    ///             kept.insert(key.into(), Kept::Value(value.clone()));
    ///         }
    ///         Ok(value)
    ///     }
    ///
    ///     async fn set(&self, conn: &Conn, key: &str, value: &str) -> Result<(), Error> {
    ///         let written = conn.set(key, value).await;
    ///         self.kept.lock().unwrap().remove(key.as_bytes());
    ///         written
    ///     }
    /// }
    ///
    /// # async fn f(conn: Conn) -> Result<(), Error> {
    /// let changes = conn.track().prefix("user:").await?;
    /// let fresh = changes.freshness();
    /// # Ok(()) }
    /// ```
    ///
    /// All feeds of a connection share one link to each master, which carries nothing else (`CLIENT TRACKING` in
    /// broadcasting mode, redirected to the link itself). `Gap` is said at first, when a link is lost and again when it
    /// is back, and when a master comes or goes; `Flush` after `FLUSHDB` and `FLUSHALL`, and when the feed is not read fast
    /// enough. Nothing is said by servers of `SWAPDB`, of any version: do not use it beside a feed. A key of the same
    /// name in another database counts as the same one.
    ///
    /// # Errors
    ///
    /// When it is awaited: [`Unsupported`](ErrorKind::Unsupported) where a server or a proxy does not do this,
    /// [`Denied`](ErrorKind::Denied) without the right to it (`+client|tracking`, `+client|id`, `+subscribe`, and the channel
    /// `__redis__:invalidate`): rely on times to live then. [`InvalidArgument`](ErrorKind::InvalidArgument) when
    /// nothing is wanted; [`Connect`](ErrorKind::Connect) when a master cannot be reached within the command timeout,
    /// [`Timeout`](ErrorKind::Timeout) when one does not confirm by then; [`Auth`](ErrorKind::Auth);
    /// [`Closed`](ErrorKind::Closed).
    pub fn track(&self) -> Track<'_> {
        let (prefixes, keys) = (Vec::new(), HashSet::new());
        Track {
            conn: self,
            interest: Interest { prefixes, keys, bound: DEFAULT_TRACKING_BOUND },
            queue: DEFAULT_TRACKING_QUEUE,
            own_writes: true,
            lazy: false,
        }
    }
}

impl Track<'_> {
    /// Wants to hear of all keys that begin with `prefix`, which the connection's prefix is put before. An empty one
    /// means all keys.
    ///
    /// Servers look at every prefix with every write, so have few.
    pub fn prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        self.interest.prefixes.push(self.conn.wire_key(prefix));
        self
    }

    /// Wants to hear of `key` alone, which costs as much as a prefix.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.interest.keys.insert(self.conn.wire_key(key));
        self
    }

    /// Sets how far the feed may be behind while it [is current](Freshness::is_current): each master is asked for a
    /// sign of life four times within this time, at least once a second. Less than 50 milliseconds count as 50.
    ///
    /// Changes arrive as soon as they happen; this is about a network that falls silent.
    ///
    /// Default: 1 second.
    pub fn bound(mut self, bound: Duration) -> Self {
        self.interest.bound = bound.max(SHORTEST_BOUND);
        self
    }

    /// Sets how many keys may wait to be read; one more is a [`Flush`](Invalidation::Flush).
    ///
    /// Default: 16,384.
    pub fn queue_keys(mut self, keys: NonZeroUsize) -> Self {
        self.queue = keys;
        self
    }

    /// Leaves out what this connection writes itself, by plain commands and pipelines of them. What scripts write is
    /// said, as by others.
    ///
    /// Whoever keeps a copy has to count own writes as said then: forget the key, or put the new value in its place,
    /// before the write and when it was answered.
    ///
    /// It holds for the first of its [command links](crate::ConfigBuilder::command_links); what goes over others, and
    /// transactions, is said all the same. Such feeds have a link of their own, and a `Gap` also when the command
    /// link is made anew.
    ///
    /// Default: own writes are said as all others.
    pub fn without_own_writes(mut self) -> Self {
        self.own_writes = false;
        self
    }

    /// Begins also while no server can be reached, as a feed that is not current: awaiting it returns at once then.
    ///
    /// Default: it is an error after the command timeout, unless the connection is
    /// [optional](crate::ConfigBuilder::optional).
    pub fn lazy(mut self) -> Self {
        self.lazy = true;
        self
    }

    #[tracing::instrument(level = "debug", name = "core_conn.track", skip_all)]
    async fn open(self) -> Result<Tracking> {
        let Self { conn, interest, queue, own_writes, lazy } = self;
        if interest.prefixes.is_empty() && interest.keys.is_empty() {
            let what = "a feed of nothing; name a prefix or a key";
            return Err(Error::new(ErrorKind::InvalidArgument, what));
        }
        let deadline = after(conn.command_timeout());
        let core = conn.begun()?;
        let goes_without =
            conn.does_without(&conn.anywhere(Replay::Idempotent), deadline, lazy).await;
        if !goes_without {
            // Whoever cannot log in is told so at once.
            conn.link_to(&Route::Any, deadline).await?;
            conn.layout_known(deadline).await;
        }
        let (tracker, bound) = (core.tracker(own_writes), interest.bound);
        let (id, changes, mut ready) = tracker.join(core, interest, queue);
        // From here on, being dropped leaves nothing behind.
        let tracking = Tracking { conn: conn.clone(), tracker, id, changes, bound };
        if goes_without {
            return Ok(tracking);
        }
        let ready = timeout_at(deadline, becomes_ready(&mut ready)).await;
        match ready {
            Ok(ready) => ready.map(|()| tracking),
            Err(_) => Err(tracking.not_ready()),
        }
    }
}

async fn becomes_ready(ready: &mut watch::Receiver<Ready>) -> Result<()> {
    let ready = ready.wait_for(|ready| !matches!(ready, Ready::No)).await;
    match ready.map(|ready| ready.clone()) {
        Ok(Ready::Refused(err)) => Err(err),
        Ok(Ready::Yes | Ready::No) => Ok(()),
        Err(_) => Err(Error::closed()),
    }
}

impl<'a> IntoFuture for Track<'a> {
    type Output = Result<Tracking>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Tracking>> + Send + 'a>>;

    /// Returns when every master has confirmed that it says what changes. When it fails or is dropped, nothing is left.
    ///
    /// # Errors
    ///
    /// Those of [`Conn::track`].
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

impl Tracking {
    /// Waits for what changes next; `None` when the connection is closed.
    ///
    /// Cancel safe: what was not returned is returned by the next call.
    pub async fn next(&mut self) -> Option<Invalidation> {
        poll_fn(|cx| self.changes.poll_next(cx)).await
    }

    /// Returns what tells how far this is complete, for others than its reader.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        Freshness { changes: Arc::clone(&self.changes), bound: self.bound }
    }

    fn not_ready(&self) -> Error {
        let late = |reason: &str| {
            let what = format!("the servers do not say yet what changes: {reason}");
            Error::new(ErrorKind::Connect, what)
        };
        let why = self.tracker.conditions().into_iter().find_map(|condition| condition.error);
        match self.conn.outage().or(why) {
            Some(err) => late(&err.to_string()).with_source(err),
            None => Error::timeout(Some(self.conn.command_timeout())),
        }
    }
}

impl Freshness {
    /// Returns whether everything that the servers did until one [bound](Track::bound) ago has been read from the feed,
    /// by whoever calls [`next`](Tracking::next). False at first, until its first `Gap` was read and it was asked for
    /// the next change.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.is_current_at(Instant::now())
    }

    /// The same at `now`, for callers that have just read the clock; a moment in the past makes it `true` for too long.
    #[must_use]
    pub fn is_current_at(&self, now: Instant) -> bool {
        self.changes.is_proven_within(now.into(), self.bound)
    }

    /// Returns the moment before which everything that the servers did has been read from the feed; `None` while that
    /// is not known, as while a link is missing and until a `Gap` or a `Flush` has been read.
    #[must_use]
    pub fn complete_until(&self) -> Option<Instant> {
        self.changes.proven().map(tokio::time::Instant::into_std)
    }
}

impl Stream for Tracking {
    type Item = Invalidation;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Invalidation>> {
        self.changes.poll_next(cx)
    }
}

impl Drop for Tracking {
    fn drop(&mut self) {
        self.tracker.leave(self.id);
        self.changes.close();
    }
}

impl fmt::Debug for Track<'_> {
    /// Does not show what is wanted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Track").field("bound", &self.interest.bound).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tracking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracking").field("bound", &self.bound).finish_non_exhaustive()
    }
}
