use std::{fmt, marker::PhantomData};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Handled, Message, On, PubSub, Publish, Subscribe};

/// A channel that the application defines once, with the type of its payloads.
///
/// ```
/// use redbrick_pubsub::Channel;
///
/// static STOCK: Channel<(String, u32)> = Channel::new("stock:changed").kind("changed");
/// assert_eq!((STOCK.name(), STOCK.message_kind()), ("stock:changed", "changed"));
/// ```
pub struct Channel<T> {
    name: &'static str,
    kind: &'static str,
    of: PhantomData<fn() -> T>,
}

/// A type that knows the channel it is published to: see [`PubSub::emit`] and [`PubSub::events`].
pub trait Event: Serialize + DeserializeOwned {
    /// The channel, as it is named behind the connection's prefix.
    const CHANNEL: &str;
    /// The kind of the message. Several events may share a channel and differ in this.
    const KIND: &str;
}

impl<T> Channel<T> {
    /// Names a channel; its messages are of a kind of the same name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, kind: name, of: PhantomData }
    }

    /// Sets the kind of the messages that are published to it.
    ///
    /// Default: the channel's name.
    #[must_use]
    pub const fn kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    /// Returns its name, behind the connection's prefix.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the kind of the messages that are published to it.
    #[must_use]
    pub const fn message_kind(&self) -> &'static str {
        self.kind
    }
}

impl<T: Serialize> Channel<T> {
    /// Publishes to it, as [`PubSub::publish`].
    pub fn publish<'a>(&'a self, pubsub: &'a PubSub, payload: &'a T) -> Publish<'a, T> {
        pubsub.publish(self.name, self.kind, payload)
    }
}

impl<T: DeserializeOwned> Channel<T> {
    /// Subscribes to it as a stream, as [`PubSub::subscribe`]: messages of its kind only.
    pub fn subscribe<'a>(&self, pubsub: &'a PubSub) -> Subscribe<'a, T> {
        pubsub.subscribe().channel(self.name).kind(self.kind)
    }
}

impl<T: DeserializeOwned + Send + 'static> Channel<T> {
    /// Gives its messages to a handler, as [`PubSub::on`]: messages of its kind only.
    pub fn on<'a, F, Fut>(&self, pubsub: &'a PubSub, handler: F) -> On<'a, T>
    where
        F: Fn(Message<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Handled> + Send + 'static,
    {
        pubsub.on(self, handler).kind(self.kind)
    }
}

impl<T> Clone for Channel<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Channel<T> {}

impl<T> fmt::Debug for Channel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}
