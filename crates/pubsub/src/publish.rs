use std::{fmt, pin::Pin};

use redbrick_core_conn::Bytes;
use serde::Serialize;

use crate::{Error, message, pubsub::Core};

/// A message that has not been published yet; awaiting it does so. See [`PubSub::publish`](crate::PubSub::publish).
#[must_use = "nothing is published until it is awaited"]
pub struct Publish<'a, T: ?Sized> {
    core: &'a Core,
    channel: Vec<u8>,
    draft: Draft<'a, T>,
}

/// A message to several channels that has not been published yet; awaiting it does so. See
/// [`PubSub::publish_many`](crate::PubSub::publish_many).
#[must_use = "nothing is published until it is awaited"]
pub struct PublishMany<'a, T: ?Sized> {
    core: &'a Core,
    channels: Vec<Vec<u8>>,
    draft: Draft<'a, T>,
}

/// What became of a message to several channels, one by one.
#[derive(Debug)]
#[must_use = "a message to one of the channels may have failed"]
pub struct Published {
    results: Vec<Result<u64, Error>>,
}

struct Draft<'a, T: ?Sized> {
    kind: &'a str,
    payload: &'a T,
    correlation_id: Option<String>,
}

impl<'a, T: ?Sized> Publish<'a, T> {
    pub(crate) fn new(core: &'a Core, channel: Vec<u8>, kind: &'a str, payload: &'a T) -> Self {
        Self { core, channel, draft: Draft { kind, payload, correlation_id: None } }
    }

    /// Sets what the message belongs to: a request, an order, an earlier message.
    ///
    /// Default: nothing.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.draft.correlation_id = Some(id.into());
        self
    }
}

impl<'a, T: ?Sized> PublishMany<'a, T> {
    pub(crate) fn new(
        core: &'a Core,
        channels: Vec<Vec<u8>>,
        kind: &'a str,
        payload: &'a T,
    ) -> Self {
        Self { core, channels, draft: Draft { kind, payload, correlation_id: None } }
    }

    /// Sets what the message belongs to: a request, an order, an earlier message.
    ///
    /// Default: nothing.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.draft.correlation_id = Some(id.into());
        self
    }
}

impl Published {
    /// Returns how many connections received it, over all channels where that is known.
    #[must_use]
    pub fn receivers(&self) -> u64 {
        self.results.iter().flatten().sum()
    }

    /// Returns the receivers for each channel, in the order in which they were named, or why it failed there.
    pub fn results(&self) -> &[Result<u64, Error>] {
        &self.results
    }

    /// Returns the receivers for each channel, or the first error.
    ///
    /// # Errors
    ///
    /// The first one; to the other channels it may have been published.
    pub fn all(self) -> Result<Vec<u64>, Error> {
        self.results.into_iter().collect()
    }
}

impl<T: Serialize + ?Sized> Draft<'_, T> {
    fn encode(&self, core: &Core) -> Result<Bytes, Error> {
        let codec = core.conn.codec();
        let id = self.correlation_id.as_deref();
        message::encode(codec, &core.source, self.kind, id, self.payload)
    }
}

impl<'a, T: Serialize + ?Sized> IntoFuture for Publish<'a, T> {
    type Output = Result<u64, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    /// Publishes it. One round trip (`PUBLISH`); never repeated after it may have been published.
    ///
    /// # Errors
    ///
    /// [`Error::Unencodable`], and nothing was sent; [`Error::Conn`], after which it may have been published where
    /// [`is_outcome_unknown`](Error::is_outcome_unknown) says so.
    fn into_future(self) -> Self::IntoFuture {
        let Self { core, channel, draft } = self;
        let encoded = draft.encode(core);
        Box::pin(one(core, channel, encoded))
    }
}

impl<'a, T: Serialize + ?Sized> IntoFuture for PublishMany<'a, T> {
    type Output = Result<Published, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    /// Publishes it. One round trip for all channels, on Cluster one per node, at the same time; never repeated.
    ///
    /// # Errors
    ///
    /// [`Error::Unencodable`], and nothing was sent. What fails at Redis is in [`Published::results`].
    fn into_future(self) -> Self::IntoFuture {
        let Self { core, channels, draft } = self;
        let encoded = draft.encode(core);
        Box::pin(many(core, channels, encoded))
    }
}

#[tracing::instrument(level = "debug", name = "pubsub.publish", skip_all)]
async fn one(core: &Core, channel: Vec<u8>, encoded: Result<Bytes, Error>) -> Result<u64, Error> {
    let encoded = encoded?;
    Ok(core.plain.publish(channel, &encoded).await?)
}

#[tracing::instrument(level = "debug", name = "pubsub.publish_many", skip_all)]
async fn many(
    core: &Core,
    channels: Vec<Vec<u8>>,
    encoded: Result<Bytes, Error>,
) -> Result<Published, Error> {
    let encoded = encoded?;
    if channels.is_empty() {
        return Ok(Published { results: Vec::new() });
    }
    let mut pipeline = core.plain.pipeline();
    let tickets: Vec<_> = channels
        .into_iter()
        .map(|channel| pipeline.add(core.plain.publish(channel, &encoded)))
        .collect();
    let mut answers = pipeline.send().await;
    let results = tickets.into_iter().map(|ticket| Ok(answers.take(ticket)?)).collect();
    Ok(Published { results })
}

impl<T: ?Sized> fmt::Debug for Publish<'_, T> {
    /// Shows neither channel nor payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish").finish_non_exhaustive()
    }
}

impl<T: ?Sized> fmt::Debug for PublishMany<'_, T> {
    /// Shows neither channels nor payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishMany")
            .field("channels", &self.channels.len())
            .finish_non_exhaustive()
    }
}
