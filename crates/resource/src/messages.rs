use std::{
    fmt,
    future::IntoFuture,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures_core::Stream;
use redbrick_core_conn::{Conn, ErrorKind, Event, Key, Subscription};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Sleep;
use tracing::Instrument;

use crate::{Error, Listener, indexes::Keys, timer};

/// A message that has not been sent yet; see [`Resource::publish`](crate::Resource::publish).
#[must_use = "nothing is sent until it is awaited"]
pub struct Publish<'a, M: ?Sized> {
    conn: &'a Conn,
    keys: &'a Keys,
    channel: Key,
    message: &'a M,
}

impl<'a, M: Serialize + ?Sized> Publish<'a, M> {
    pub(crate) fn new(conn: &'a Conn, keys: &'a Keys, message: &'a M) -> Self {
        Self { conn, keys, channel: keys.messages(), message }
    }

    /// Sends it to a channel of the resource by its name.
    ///
    /// Default: the resource's own channel.
    pub fn channel(mut self, name: impl AsRef<[u8]>) -> Self {
        self.channel = self.keys.channel(name.as_ref());
        self
    }

    /// Sends it to who listens to the record with this id, whether that is there or not.
    ///
    /// Default: the resource's own channel.
    pub fn record(mut self, id: impl AsRef<str>) -> Self {
        self.channel = self.keys.record(id.as_ref().as_bytes());
        self
    }
}

impl<'a, M: Serialize + ?Sized> IntoFuture for Publish<'a, M> {
    type Output = Result<u64, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let call = self.conn.publish(&self.channel, self.message);
        let span = tracing::debug_span!("resource.publish");
        let sent = async move {
            call.await.map_err(|error| match error.kind() {
                ErrorKind::Codec => Error::unwritable(error),
                _ => error.into(),
            })
        };
        Box::pin(sent.instrument(span))
    }
}

/// A subscription that has not been asked for yet: say to what, then await it for [`Messages`], or give it a handler.
#[must_use = "nothing is asked until it is awaited or given a handler"]
pub struct Listen<'a, M> {
    conn: &'a Conn,
    keys: &'a Keys,
    channels: Vec<Key>,
    once: bool,
    time_to_live: Option<Duration>,
    of: PhantomData<fn() -> M>,
}

impl<'a, M> Listen<'a, M> {
    pub(crate) fn new(conn: &'a Conn, keys: &'a Keys) -> Self {
        let channels = Vec::new();
        Self { conn, keys, channels, once: false, time_to_live: None, of: PhantomData }
    }

    /// Wants what is published to a channel of the resource by its name. Can be said several times, and beside
    /// [`record`](Self::record).
    ///
    /// Default: when nothing is named, the resource's own channel, where messages go for which no place is named either.
    pub fn channel(mut self, name: impl AsRef<[u8]>) -> Self {
        self.channels.push(self.keys.channel(name.as_ref()));
        self
    }

    /// Wants what is published about the record with this id.
    ///
    /// Default: as for [`channel`](Self::channel).
    pub fn record(mut self, id: impl AsRef<str>) -> Self {
        self.channels.push(self.keys.record(id.as_ref().as_bytes()));
        self
    }

    /// Ends after the first message.
    ///
    /// Default: it goes on.
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Ends when this time has passed since it was asked for.
    ///
    /// Default: it goes on.
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = Some(time_to_live);
        self
    }
}

impl<'a, M: DeserializeOwned + Send + 'static> Listen<'a, M> {
    /// Subscribes, and calls `handler` with each notice, one after the other, in a task that ends with the returned value.
    ///
    /// What the handler does not keep up with waits in a bounded queue, and shows as [`Notice::Lagged`]. A handler that panics,
    /// or a `Deserialize` that does, is logged as an error, and the next notice follows.
    ///
    /// # Errors
    ///
    /// As for awaiting it.
    pub async fn on_message<H, Done>(self, handler: H) -> Result<Listener, Error>
    where
        H: Fn(Notice<M>) -> Done + Send + Sync + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        Ok(Listener::new(self.await?, handler))
    }
}

impl<'a, M: DeserializeOwned + Send + 'static> IntoFuture for Listen<'a, M> {
    type Output = Result<Messages<M>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    /// Returns when the server has confirmed it: one round trip, and those of connecting where no subscription has a link yet.
    ///
    /// # Errors
    ///
    /// [`Conn`](Error::Conn): nothing is subscribed.
    fn into_future(self) -> Self::IntoFuture {
        let Self { conn, keys, channels, once, time_to_live, .. } = self;
        let mut wanted = conn.subscribe();
        if channels.is_empty() {
            wanted = wanted.channel(keys.messages());
        }
        for channel in channels {
            wanted = wanted.channel(channel);
        }
        let open = async move {
            let timer = time_to_live.map(timer::end_of);
            let subscription = Some(wanted.await?);
            Ok(Messages { subscription, timer, once, of: PhantomData })
        };
        Box::pin(open.instrument(tracing::debug_span!("resource.subscribe")))
    }
}

/// What a subscriber sees, in order.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice<M> {
    /// Something was published.
    Message(M),
    /// Something was published that is no `M`, or that another program wrote.
    Misshaped(Error),
    /// So many messages were dropped here, because this subscription was not read fast enough.
    Lagged(u64),
    /// The link was lost: what was published from `since` on may be missing.
    #[non_exhaustive]
    Gap {
        /// The last moment at which the link is known to have worked.
        since: Instant,
    },
    /// Messages arrive again.
    Resumed,
}

/// The messages of a subscription, as a stream of [notices](Notice). It ends after [one message](Listen::once) or
/// [its time](Listen::time_to_live), if it was told so, and when the connection is closed. Dropping it unsubscribes.
#[must_use = "dropping it unsubscribes"]
pub struct Messages<M> {
    /// None when it has ended.
    subscription: Option<Subscription>,
    timer: Option<Pin<Box<Sleep>>>,
    once: bool,
    of: PhantomData<fn() -> M>,
}

impl<M: DeserializeOwned> Messages<M> {
    /// Waits for what comes next; `None` at the end.
    ///
    /// Cancel safe: what was not returned is returned by the next call.
    pub async fn next(&mut self) -> Option<Notice<M>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Notice<M>>> {
        let Some(subscription) = &mut self.subscription else { return Poll::Ready(None) };
        if let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            self.subscription = None;
            return Poll::Ready(None);
        }
        let event = ready!(Pin::new(subscription).poll_next(cx));
        // Before it is read, which may panic.
        if self.once && matches!(event, Some(Event::Message(_))) {
            self.subscription = None;
        }
        let notice = match event {
            Some(Event::Message(message)) => match message.value() {
                Ok(message) => Notice::Message(message),
                Err(error) => Notice::Misshaped(Error::unreadable(error)),
            },
            Some(Event::Lagged(lost)) => Notice::Lagged(lost),
            Some(Event::Gap { since, .. }) => Notice::Gap { since },
            Some(Event::Resumed) => Notice::Resumed,
            // The end, which nothing follows. Of other events there are none.
            _ => {
                self.subscription = None;
                return Poll::Ready(None);
            }
        };
        Poll::Ready(Some(notice))
    }
}

impl<M: DeserializeOwned> Stream for Messages<M> {
    type Item = Notice<M>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(cx)
    }
}

impl<M: ?Sized> fmt::Debug for Publish<'_, M> {
    /// Shows neither the channel nor the message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish").finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for Listen<'_, M> {
    /// Does not show the channels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listen")
            .field("channels", &self.channels.len())
            .field("once", &self.once)
            .field("time_to_live", &self.time_to_live)
            .finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for Messages<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("once", &self.once).finish_non_exhaustive()
    }
}
