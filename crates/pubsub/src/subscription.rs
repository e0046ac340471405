use std::{
    fmt,
    future::poll_fn,
    marker::PhantomData,
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use redbrick_core_conn::{Codec, Counter, Event, Overflow, Pattern};
use serde::de::DeserializeOwned;

use crate::{Error, Message, Received, Topic, builder::Limits, pubsub::Core};

static RECEIVED: Counter = Counter::new("redbrick.pubsub.received", "Messages that were read");
static UNDECODABLE: Counter =
    Counter::new("redbrick.pubsub.undecodable", "Messages that could not be read");
static LAGGED: Counter = Counter::new(
    "redbrick.pubsub.lagged",
    "Messages that were dropped, because they were not read fast enough",
);
static GAPS: Counter = Counter::new(
    "redbrick.pubsub.gaps",
    "How often a subscription lost its link, so that messages may be missing",
);

/// How many messages are passed over before others have their turn.
const AT_ONCE: usize = 64;

/// A subscription that has not been asked for yet; awaiting it does so. See [`PubSub::subscribe`](crate::PubSub::subscribe).
#[must_use = "nothing is asked until it is awaited"]
pub struct Subscribe<'a, T> {
    core: &'a Core,
    topics: Vec<Topic>,
    kind: Option<String>,
    limits: Limits,
    of: PhantomData<fn() -> T>,
}

/// Typed messages as they arrive. Dropping it unsubscribes.
///
/// It keeps the connection open, and ends when that is closed; what is in its queue by then can still be read.
#[must_use = "dropping it unsubscribes"]
pub struct Subscription<T> {
    inner: redbrick_core_conn::Subscription,
    codec: Codec,
    kind: Option<String>,
    of: PhantomData<fn() -> T>,
}

impl<'a, T> Subscribe<'a, T> {
    pub(crate) fn new(core: &'a Core) -> Self {
        let limits = core.limits.clone();
        Self { core, topics: Vec::new(), kind: None, limits, of: PhantomData }
    }

    /// Wants what is published to `channel`, which the connection's prefix is put before.
    pub fn channel(self, channel: impl AsRef<[u8]>) -> Self {
        self.topic(Topic::Channel(channel.as_ref().to_vec()))
    }

    /// Wants what is published to every channel that matches. A message to a channel that is wanted twice comes twice.
    pub fn pattern(self, pattern: Pattern) -> Self {
        self.topic(Topic::Pattern(pattern))
    }

    /// Wants messages of this kind only; others are passed over, whatever their payload is.
    ///
    /// Default: all of them.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Sets how many messages may wait to be read.
    ///
    /// Default: that of the service, 1024.
    pub fn queue_messages(mut self, messages: NonZeroUsize) -> Self {
        self.limits.messages = messages;
        self
    }

    /// Sets how many bytes of messages may wait to be read.
    ///
    /// Default: that of the service, 16 MiB.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Sets what happens when a message comes and the queue is full.
    ///
    /// Default: that of the service, [`Overflow::DropOldest`].
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.limits.overflow = overflow;
        self
    }

    /// Begins also while no server can be reached, with a [`Received::Gap`].
    ///
    /// Default: it is an error after the command timeout, unless the connection is optional.
    pub fn lazy(mut self) -> Self {
        self.limits.lazy = true;
        self
    }

    pub(crate) fn topic(mut self, topic: Topic) -> Self {
        self.topics.push(topic);
        self
    }

    #[tracing::instrument(level = "debug", name = "pubsub.subscribe", skip_all)]
    async fn open(self) -> Result<Subscription<T>, Error> {
        let Self { core, topics, kind, limits, .. } = self;
        let mut subscribe = core.conn.subscribe().overflow(limits.overflow);
        subscribe = subscribe.queue_messages(limits.messages).queue_bytes(limits.bytes);
        for topic in topics {
            subscribe = match topic {
                Topic::Channel(name) => subscribe.channel(name),
                Topic::Pattern(pattern) => subscribe.pattern(pattern),
            };
        }
        if limits.lazy {
            subscribe = subscribe.lazy();
        }
        let codec = core.conn.codec();
        Ok(Subscription { inner: subscribe.await?, codec, kind, of: PhantomData })
    }
}

impl<'a, T: 'a> IntoFuture for Subscribe<'a, T> {
    type Output = Result<Subscription<T>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    /// Returns when the server has confirmed everything: one round trip, and those of connecting when the link for
    /// messages is not open yet. When it fails or is dropped, nothing stays subscribed.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`]: of kind `InvalidArgument` when neither a channel nor a pattern was named, `Denied` without the
    /// right to one, `Connect` or `Timeout` when the server does not confirm within the command timeout.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

impl<T: DeserializeOwned> Subscription<T> {
    /// Waits for what comes next; `None` at the end: after [`Overflow::Close`], and when the connection is closed.
    ///
    /// Cancel safe: what was not returned is returned by the next call.
    pub async fn next(&mut self) -> Option<Received<T>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Receives nothing more: what waits can still be read, then comes the end.
    pub(crate) fn unsubscribe(&mut self) {
        self.inner.unsubscribe();
    }

    /// How many messages wait to be read, of whatever kind.
    pub(crate) fn waiting(&self) -> usize {
        self.inner.waiting()
    }

    fn read(&self, event: Event) -> Option<Received<T>> {
        Some(match event {
            Event::Message(message) => {
                let read = Message::read(
                    self.codec,
                    message.channel(),
                    message.payload(),
                    self.kind.as_deref(),
                );
                match read.transpose()? {
                    Ok(message) => Received::Message(message),
                    Err(error) => {
                        Received::Undecodable { channel: message.channel().to_vec(), error }
                    }
                }
            }
            Event::Lagged(lost) => Received::Lagged(lost),
            Event::Gap { since, .. } => Received::Gap { since },
            Event::Resumed => Received::Resumed,
            _ => return None,
        })
    }
}

fn count<T>(received: &Received<T>) {
    match received {
        Received::Message(_) => RECEIVED.add(1, ""),
        Received::Undecodable { .. } => UNDECODABLE.add(1, ""),
        Received::Lagged(lost) => LAGGED.add(*lost, ""),
        Received::Gap { .. } => GAPS.add(1, ""),
        Received::Resumed => {}
    }
}

impl<T: DeserializeOwned> Stream for Subscription<T> {
    type Item = Received<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Received<T>>> {
        let this = self.get_mut();
        for _ in 0..AT_ONCE {
            match ready!(Pin::new(&mut this.inner).poll_next(cx)) {
                None => return Poll::Ready(None),
                Some(event) => {
                    if let Some(received) = this.read(event) {
                        count(&received);
                        return Poll::Ready(Some(received));
                    }
                }
            }
        }
        // Others have their turn, however many come that are not wanted.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T> fmt::Debug for Subscribe<'_, T> {
    /// Does not show the channels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe").field("topics", &self.topics.len()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Subscription<T> {
    /// Does not show the channels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}
