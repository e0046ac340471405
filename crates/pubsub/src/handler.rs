use std::{fmt, num::NonZeroUsize, pin::Pin, sync::Arc, time::Instant};

use redbrick_core_conn::Overflow;
use serde::de::DeserializeOwned;

use crate::{
    Error, Message, PubSub, Subscribe, Topic,
    handlers::{Handlers, Running},
    run::{Job, OnGap, Work},
};

/// A handler that does not listen yet; awaiting it begins. See [`PubSub::on`].
#[must_use = "nothing is handled until it is awaited"]
pub struct On<'a, T> {
    pubsub: &'a PubSub,
    topic: Topic,
    subscribe: Subscribe<'a, T>,
    work: Work<T>,
    on_gap: Option<OnGap>,
}

/// A handler that listens. Dropping this changes nothing: the handler ends by [`unsubscribe`](Self::unsubscribe), by
/// those of [`PubSub`], and with the last `PubSub`.
#[derive(Clone)]
pub struct Handler {
    running: Arc<Running>,
}

/// What a handler has done so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Tally {
    /// Messages that it was given and that it is done with, in whatever way.
    pub handled: u64,
    /// Of these, how many ended with an error.
    pub failed: u64,
    /// How often it panicked: with a message in hand, or in the `Deserialize` of a payload that it was not given then.
    pub panicked: u64,
    /// Messages that it was not given, because they are of another type.
    pub undecodable: u64,
    /// Messages that were dropped because its queue was full.
    pub lagged: u64,
    /// How often the link was lost.
    pub gaps: u64,
}

/// What a handler was not given; see [`On::on_gap`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Missed {
    /// So many messages were dropped, because the handler was too slow.
    Lagged(u64),
    /// The link was lost: messages from `since` on may be missing.
    #[non_exhaustive]
    Gap {
        /// The last moment at which the link is known to have worked.
        since: Instant,
    },
    /// Messages arrive again.
    Resumed,
}

/// What a handler's future may return: nothing, or a `Result` whose error is logged.
pub trait Handled {
    /// Returns the error as a text, where it is one.
    fn failure(self) -> Option<String>;
}

impl Handled for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: fmt::Display> Handled for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

impl<'a, T: DeserializeOwned + Send + 'static> On<'a, T> {
    pub(crate) fn new<F, Fut>(pubsub: &'a PubSub, topic: Topic, handler: F) -> Self
    where
        F: Fn(Message<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Handled> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let work: Work<T> = Box::new(move |message| {
            let handler = Arc::clone(&handler);
            // It is called when the future is polled, so that its panics are caught there too.
            Box::pin(async move { handler(message).await.failure() })
        });
        let subscribe = Subscribe::new(pubsub.core()).topic(topic.clone());
        Self { pubsub, topic, subscribe, work, on_gap: None }
    }

    /// Wants messages of this kind only; others are passed over, whatever their payload is.
    ///
    /// Default: all of them.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.subscribe = self.subscribe.kind(kind);
        self
    }

    /// Sets who is told of what this handler was not given. It is called between two messages, in their order, and should be
    /// quick.
    ///
    /// Default: nobody; a warning is logged in any case.
    pub fn on_gap(mut self, told: impl Fn(Missed) + Send + Sync + 'static) -> Self {
        self.on_gap = Some(Box::new(told));
        self
    }

    /// Sets how many messages may wait for the handler.
    ///
    /// Default: that of the service, 1024.
    pub fn queue_messages(mut self, messages: NonZeroUsize) -> Self {
        self.subscribe = self.subscribe.queue_messages(messages);
        self
    }

    /// Sets how many bytes of messages may wait for the handler.
    ///
    /// Default: that of the service, 16 MiB.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.subscribe = self.subscribe.queue_bytes(bytes);
        self
    }

    /// Sets what happens when a message comes and that queue is full.
    ///
    /// Default: that of the service, [`Overflow::DropOldest`].
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.subscribe = self.subscribe.overflow(overflow);
        self
    }

    /// Begins also while no server can be reached, with a gap.
    ///
    /// Default: it is an error after the command timeout, unless the connection is optional.
    pub fn lazy(mut self) -> Self {
        self.subscribe = self.subscribe.lazy();
        self
    }

    #[tracing::instrument(level = "debug", name = "pubsub.on", skip_all)]
    async fn begin(self) -> Result<Handler, Error> {
        let Self { pubsub, topic, subscribe, work, on_gap } = self;
        let handlers = pubsub.handlers();
        handlers.check_open()?;
        let subscription = subscribe.await?;
        let running = Handlers::begin(handlers, topic, subscription, Job { work, on_gap })?;
        Ok(Handler { running })
    }
}

impl<'a, T: DeserializeOwned + Send + 'static> IntoFuture for On<'a, T> {
    type Output = Result<Handler, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    /// Returns when the server has confirmed the subscription. When it fails or is dropped, nothing listens.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] as with [`Subscribe`]; [`Error::Closed`] after [`PubSub::close`].
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.begin())
    }
}

impl Handler {
    /// Returns its number among the handlers of its `PubSub`.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.running.id
    }

    /// Returns what it listens to.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.running.topic
    }

    /// Returns what it has done so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.running.counts.tally()
    }

    /// Ends it, and returns whether it still listened. No message begins after this; those that wait are dropped. Returns
    /// when the one in hand is done, unless that is who calls. When the future is dropped before, the handler ends all the same
    /// after the one in hand, for which [`PubSub::close`] waits, too.
    ///
    /// Sends no command that is waited for. Called by something else that the handler itself waits for, it waits forever:
    /// spawn it there.
    #[tracing::instrument(level = "debug", name = "pubsub.unsubscribe", skip_all)]
    pub async fn unsubscribe(&self) -> bool {
        let listened = self.running.stop();
        self.running.ended().await;
        listened
    }
}

impl<T> fmt::Debug for On<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("On").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").field("id", &self.id()).finish_non_exhaustive()
    }
}
