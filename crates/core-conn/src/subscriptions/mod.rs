//! Subscriptions: one link for all of them, made anew and subscribed again by itself, and nothing lost unseen.

mod hub;
mod line;
mod message;
mod probe;
mod queue;
mod session;
mod topic;

use std::{
    collections::HashSet,
    fmt,
    future::{Future, IntoFuture, poll_fn},
    num::NonZeroUsize,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use tokio::time::timeout_at;

use crate::{
    Conn, Error, ErrorKind, Pattern, Replay, Result,
    conn::{Route, after},
};

pub(crate) use hub::Hub;
pub use message::{Event, Message};
pub use queue::Overflow;

use hub::{Id, Wish};
use queue::{Limits, Queue};
use topic::{Kind, Topic};

/// How many messages wait for a slow subscriber: 1024.
pub const DEFAULT_SUBSCRIPTION_MESSAGES: NonZeroUsize =
    NonZeroUsize::new(1024).expect("it is not zero");
/// How many bytes of messages wait for a slow subscriber: 16 MiB.
pub const DEFAULT_SUBSCRIPTION_BYTES: usize = 16 << 20;

/// A subscription that has not been asked for yet; awaiting it does so. See [`Conn::subscribe`].
#[must_use = "nothing is asked until it is awaited"]
#[derive(Clone)]
pub struct Subscribe<'a> {
    conn: &'a Conn,
    wishes: Vec<Wish>,
    limits: Limits,
    lazy: bool,
}

/// What was subscribed to, as it arrives. Dropping it unsubscribes.
///
/// It keeps the connection open, and ends when that is [closed](Conn::close); what is in its queue by then can still be
/// read.
#[must_use = "dropping it unsubscribes"]
pub struct Subscription {
    /// Keeps the connection open.
    conn: Conn,
    hub: Arc<Hub>,
    /// The hub is this subscription's alone.
    alone: bool,
    id: Id,
    topics: Vec<Topic>,
    queue: Arc<Queue>,
}

impl Conn {
    /// Subscribes to channels: name them, then await it.
    ///
    /// ```no_run
    /// # use redbrick_core_conn::{Conn, Error, Event, Pattern};
    /// # async fn f(conn: Conn) -> Result<(), Error> {
    /// let mut orders = conn.subscribe().channel("orders").pattern(Pattern::new("user:*")?).await?;
    /// while let Some(event) = orders.next().await {
    ///     match event {
    ///         Event::Message(message) => println!("{}", message.value::<String>()?),
    ///         Event::Lagged(lost) => println!("too slow: {lost} messages were dropped"),
    ///         Event::Gap { since, .. } => println!("messages of the last {:?} may be missing", since.elapsed()),
    ///         Event::Resumed => println!("they arrive again"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// All subscribers of a connection, but for those that are [waited for](Overflow::Wait), share one link, which
    /// carries nothing else; on Cluster there is another one to each master of a slot with
    /// [sharded](Subscribe::sharded) channels. It is opened when it is first needed and closed when nobody has needed
    /// it for ten seconds. After a loss it is made anew and subscribed again; what came in between is lost, as with
    /// every publish/subscribe of Redis, and an [`Event::Gap`] says so.
    ///
    /// The link is probed: [every so often](crate::ConfigBuilder::probe_interval) it publishes a message to itself, on
    /// a channel `redbrick:probe:…` of its own behind the connection's prefix; patterns do not find those. When that
    /// does not arrive within another such period, the link is replaced. Without the right to that channel only PINGs
    /// are sent.
    ///
    /// A subscription is for what it was made with. For more channels make another one: that costs a command and no
    /// connection. Channels of parts are made and read with a [`Prefix`](crate::Prefix) as keys are. The servers' own
    /// channels (`__keyevent@0__:expired`) can be subscribed to on a connection without a prefix; their messages have
    /// no header ([`Codec::Plain`](crate::Codec::Plain)).
    ///
    /// # Errors
    ///
    /// When it is awaited: [`Denied`](ErrorKind::Denied) without the right to a channel;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when nothing is wanted; [`Connect`](ErrorKind::Connect) when the server
    /// cannot be reached within the command timeout, [`Timeout`](ErrorKind::Timeout) when it does not confirm by then;
    /// [`Unsupported`](ErrorKind::Unsupported) for shard channels where the server has none; [`Auth`](ErrorKind::Auth);
    /// [`Closed`](ErrorKind::Closed).
    pub fn subscribe(&self) -> Subscribe<'_> {
        let limits = Limits {
            messages: DEFAULT_SUBSCRIPTION_MESSAGES,
            bytes: DEFAULT_SUBSCRIPTION_BYTES,
            overflow: Overflow::default(),
        };
        Subscribe { conn: self, wishes: Vec::new(), limits, lazy: false }
    }
}

impl Subscribe<'_> {
    /// Wants what is published to `channel`, which the connection's prefix is put before (`SUBSCRIBE`).
    pub fn channel(self, channel: impl AsRef<[u8]>) -> Self {
        let name = self.conn.wire_key(channel);
        self.wish(Topic { kind: Kind::Channel, name }, None)
    }

    /// Wants what is published to every channel that matches `pattern` (`PSUBSCRIBE`). A message to a channel that is
    /// wanted twice comes twice.
    pub fn pattern(self, pattern: Pattern) -> Self {
        let name = pattern.glob(&self.conn.config().key_prefix);
        self.wish(Topic { kind: Kind::Pattern, name }, Some(Arc::new(pattern)))
    }

    /// Wants what is [published](Conn::publish_sharded) to the shard channel `channel` (`SSUBSCRIBE`), which on Cluster
    /// stays within the nodes that have its slot. Redis has them since 7.0.
    pub fn sharded(self, channel: impl AsRef<[u8]>) -> Self {
        let name = self.conn.wire_key(channel);
        self.wish(Topic { kind: Kind::Sharded, name }, None)
    }

    /// Sets how many messages may wait to be read.
    ///
    /// Default: 1024.
    pub fn queue_messages(mut self, messages: NonZeroUsize) -> Self {
        self.limits.messages = messages;
        self
    }

    /// Sets how many bytes of messages may wait to be read; one message may be larger than that.
    ///
    /// Default: 16 MiB.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Sets what happens when a message comes and the queue is full.
    ///
    /// Default: [`Overflow::DropOldest`].
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.limits.overflow = overflow;
        self
    }

    /// Begins also while no server can be reached, with an [`Event::Gap`]: awaiting it returns at once then.
    ///
    /// Default: it is an error after the command timeout, unless the connection is
    /// [optional](crate::ConfigBuilder::optional).
    pub fn lazy(mut self) -> Self {
        self.lazy = true;
        self
    }

    fn wish(mut self, topic: Topic, pattern: Option<Arc<Pattern>>) -> Self {
        self.wishes.push(Wish { topic, pattern });
        self
    }

    #[tracing::instrument(level = "debug", name = "core_conn.subscribe", skip_all)]
    async fn open(self) -> Result<Subscription> {
        let Self { conn, mut wishes, limits, lazy } = self;
        let mut named = HashSet::new();
        wishes.retain(|wish| named.insert(wish.clone()));
        if wishes.is_empty() {
            let what = "a subscription to nothing; name a channel, a pattern or a shard channel";
            return Err(Error::new(ErrorKind::InvalidArgument, what));
        }
        let deadline = after(conn.command_timeout());
        let core = conn.begun()?;
        if wishes.iter().any(|wish| wish.topic.kind == Kind::Sharded) {
            conn.layout_known(deadline).await;
        }
        let alone = matches!(limits.overflow, Overflow::Wait(_));
        let hub = if alone { core.new_hub() } else { core.hub() };
        let queue = Arc::new(Queue::new(limits));
        let topics = wishes.iter().map(|wish| wish.topic.clone()).collect();
        let (id, answers) = hub.join(core, wishes, &queue, conn.codec());
        // From here on, being dropped leaves nothing behind.
        let subscription = Subscription { conn: conn.clone(), hub, alone, id, topics, queue };
        if conn.does_without(&conn.anywhere(Replay::Idempotent), deadline, lazy).await {
            subscription.hub.begin_without(subscription.id, &subscription.topics);
            return Ok(subscription);
        }
        // Whoever cannot log in is told so at once.
        conn.link_to(&Route::Any, deadline).await?;
        for answer in answers {
            match timeout_at(deadline, answer).await {
                Ok(Ok(confirmed)) => confirmed.map_err(|err| conn.located("SUBSCRIBE", err))?,
                Ok(Err(_)) => return Err(Error::closed()),
                Err(_) => return Err(subscription.unconfirmed()),
            }
        }
        Ok(subscription)
    }
}

impl<'a> IntoFuture for Subscribe<'a> {
    type Output = Result<Subscription>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Subscription>> + Send + 'a>>;

    /// Returns when the server has confirmed everything.
    ///
    /// One round trip, and those of connecting when the link is not open yet. When it fails or is dropped, nothing
    /// stays subscribed.
    ///
    /// # Errors
    ///
    /// Those of [`Conn::subscribe`].
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

impl Subscription {
    /// Waits for what comes next; `None` at the end: after [`Overflow::Close`], and when the connection is closed.
    ///
    /// Cancel safe: what was not returned is returned by the next call.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.queue.poll_next(cx)).await
    }

    /// Unsubscribes: nothing more is received from now on. What waits can still be read, and `None` follows.
    ///
    /// Returns at once; the server is told by the task that keeps the link. Doing it again changes nothing.
    pub fn unsubscribe(&mut self) {
        self.leave();
        self.queue.close();
    }

    /// Returns how many messages wait to be read.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.messages()
    }

    fn leave(&self) {
        self.hub.leave(self.id, &self.topics);
        if self.alone {
            self.hub.end();
        }
    }

    fn unconfirmed(&self) -> Error {
        let late = |reason: &str| {
            let what = format!("not subscribed in time: {reason}");
            Error::new(ErrorKind::Connect, what)
        };
        let lines = self.hub.lines();
        let why = lines.iter().find_map(|line| line.condition().error.clone());
        match self.conn.outage().or(why) {
            Some(err) => late(&err.to_string()).with_source(err),
            None => Error::timeout(Some(self.conn.command_timeout())),
        }
    }
}

impl Stream for Subscription {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.queue.poll_next(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Subscribe<'_> {
    /// Does not show the channels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe")
            .field("topics", &self.wishes.len())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscription {
    /// Does not show the channels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("topics", &self.topics.len()).finish_non_exhaustive()
    }
}
