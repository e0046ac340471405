use std::{fmt, sync::Arc, time::Duration};

use redbrick_core_conn::Conn;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Active, CloseReport, Event, Handled, Message, On, PubSubBuilder, Publish, PublishMany, Room,
    Subscribe, Topic, builder::Limits, close, handlers::Handlers,
};

/// Typed messages over Redis, by handler or as a stream, and rooms.
///
/// Clones are cheap and share everything. With the last one the handlers end; what a room or a
/// [`Subscription`](crate::Subscription) does goes on.
#[derive(Clone)]
pub struct PubSub {
    core: Arc<Core>,
    handlers: Arc<Handlers>,
}

/// What publishing and subscribing need. It is kept apart from the handlers, so that a handler can have a room.
pub(crate) struct Core {
    pub(crate) conn: Conn,
    /// The same connection, for bytes as they are.
    pub(crate) plain: Conn,
    pub(crate) source: String,
    pub(crate) limits: Limits,
}

impl PubSub {
    /// Makes one with the defaults of its [builder](Self::builder); sends nothing. `source` is the name of this service,
    /// which its messages carry.
    #[must_use]
    pub fn new(conn: Conn, source: impl Into<String>) -> Self {
        Self::builder(conn, source).build()
    }

    /// Begins one of which more is to be said.
    pub fn builder(conn: Conn, source: impl Into<String>) -> PubSubBuilder {
        PubSubBuilder::new(conn, source.into())
    }

    pub(crate) fn from_core(core: Arc<Core>) -> Self {
        Self { core, handlers: Handlers::new() }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    pub(crate) fn handlers(&self) -> &Arc<Handlers> {
        &self.handlers
    }

    /// Publishes a message of some `kind`; awaited, it answers how many connections received it. All subscribers of one
    /// [`Conn`] count as one; on Cluster only those at the node that was asked are counted.
    ///
    /// One round trip (`PUBLISH`), never repeated after the message may have been published. It is encoded when it is awaited.
    ///
    /// # Errors
    ///
    /// When it is awaited: [`Error::Unencodable`](crate::Error::Unencodable), and nothing was sent;
    /// [`Error::Conn`](crate::Error::Conn), which knows whether the message may have been published.
    pub fn publish<'a, T: Serialize + ?Sized>(
        &'a self,
        channel: impl AsRef<[u8]>,
        kind: &'a str,
        payload: &'a T,
    ) -> Publish<'a, T> {
        Publish::new(&self.core, channel.as_ref().to_vec(), kind, payload)
    }

    /// Publishes one message, with one id, to several channels, with a result for each.
    ///
    /// One round trip for all of them, on Cluster one per node, at the same time; never repeated.
    ///
    /// # Errors
    ///
    /// When it is awaited: [`Error::Unencodable`](crate::Error::Unencodable), and nothing was sent.
    pub fn publish_many<'a, T: Serialize + ?Sized>(
        &'a self,
        channels: impl IntoIterator<Item = impl AsRef<[u8]>>,
        kind: &'a str,
        payload: &'a T,
    ) -> PublishMany<'a, T> {
        let channels = channels.into_iter().map(|channel| channel.as_ref().to_vec()).collect();
        PublishMany::new(&self.core, channels, kind, payload)
    }

    /// Publishes an event to the channel that its type names, as [`publish`](Self::publish).
    pub fn emit<'a, E: Event>(&'a self, event: &'a E) -> Publish<'a, E> {
        self.publish(E::CHANNEL, E::KIND, event)
    }

    /// Subscribes to channels and patterns as a stream: name them, then await it.
    ///
    /// All subscriptions and handlers of a connection share one link, which is made anew and subscribed again after every loss.
    pub fn subscribe<T: DeserializeOwned>(&self) -> Subscribe<'_, T> {
        Subscribe::new(&self.core)
    }

    /// Subscribes to the channel that an event's type names: events of its kind only.
    pub fn events<E: Event>(&self) -> Subscribe<'_, E> {
        self.subscribe().channel(E::CHANNEL).kind(E::KIND)
    }

    /// Gives each message of a channel or pattern to `handler`, one at a time and in order; awaited, it begins.
    ///
    /// The handler may return a `Result`, whose error is logged as it shows itself. A panic is caught, logged and counted,
    /// and the next message follows. A channel can have several handlers, which do not wait for each other. Everything runs in
    /// a task per handler, which ends as [`Handler`](crate::Handler) says, and when the connection is closed.
    ///
    /// A handler that keeps a `PubSub` keeps itself alive: such ones end by [`close`](Self::close) or an `unsubscribe`.
    ///
    /// # Errors
    ///
    /// When it is awaited: [`Error::Conn`](crate::Error::Conn) as with [`subscribe`](Self::subscribe);
    /// [`Error::Closed`](crate::Error::Closed) after [`close`](Self::close).
    pub fn on<T, F, Fut>(&self, topic: impl Into<Topic>, handler: F) -> On<'_, T>
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(Message<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Handled> + Send + 'static,
    {
        On::new(self, topic.into(), handler)
    }

    /// Returns what handlers listen to, in the order in which it began. Streams are not among them.
    #[must_use]
    pub fn active(&self) -> Vec<Active> {
        self.handlers.active()
    }

    /// Ends all handlers of this channel or pattern, and returns how many there were; as
    /// [`Handler::unsubscribe`](crate::Handler::unsubscribe).
    #[tracing::instrument(level = "debug", name = "pubsub.unsubscribe", skip_all)]
    pub async fn unsubscribe(&self, topic: impl Into<Topic>) -> usize {
        let topic = topic.into();
        self.stop(|other| *other == topic).await
    }

    /// Ends all handlers, and returns how many there were; as [`Handler::unsubscribe`](crate::Handler::unsubscribe).
    #[tracing::instrument(level = "debug", name = "pubsub.unsubscribe_all", skip_all)]
    pub async fn unsubscribe_all(&self) -> usize {
        self.stop(|_| true).await
    }

    async fn stop(&self, wanted: impl Fn(&Topic) -> bool) -> usize {
        let stopped = self.handlers.stop(wanted);
        for running in &stopped {
            running.ended().await;
        }
        stopped.len()
    }

    /// Takes no more handlers, receives nothing more for those there are, and waits until they have handled what had arrived:
    /// for so long, 100 ms at least. Then it stops them where they wait.
    ///
    /// Publishing, streams and rooms go on; the connection stays open. Dropped before, it leaves the handlers to what had
    /// arrived, and they end after that.
    #[tracing::instrument(level = "debug", name = "pubsub.close", skip_all)]
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        close::close(&self.handlers, deadline).await
    }

    /// Returns the room `name`; sends nothing. `Info` is what is known of a member, `Msg` what members say.
    pub fn room<Info, Msg>(&self, name: impl AsRef<[u8]>) -> Room<Info, Msg> {
        Room::new(Arc::clone(&self.core), name.as_ref())
    }
}

impl fmt::Debug for PubSub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubSub").field("source", &self.core.source).finish_non_exhaustive()
    }
}
