use std::{fmt, future::IntoFuture, marker::PhantomData, pin::Pin, time::Duration};

use bytes::Bytes;
use fred::{
    interfaces::KeysInterface,
    types::{Expiration, SetOptions, Value},
    util::redis_keyslot,
};
use serde::{Serialize, de::DeserializeOwned};
use tracing::Instrument;

use super::keys::millis;
use crate::{
    Conn, Result,
    conn::{Replay, Route},
};

impl Conn {
    /// Returns the value at `key`, or `None` when there is none.
    ///
    /// A value that redbrick wrote says itself whether it is MessagePack or JSON. What another program wrote is
    /// read by a handle [with](Self::with_codec) [`Codec::Plain`](crate::Codec::Plain), and by it alone.
    ///
    /// One round trip (`GET`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`](crate::ErrorKind::Codec) when the value was not written by redbrick, by a newer
    /// release, or does not have the shape of `T`; [`ErrorKind::WrongType`](crate::ErrorKind::WrongType)
    /// when the key holds a list, a hash and so on; those of [every call](Conn#errors-of-every-call). Nothing is changed.
    #[tracing::instrument(level = "debug", name = "core_conn.get", skip_all)]
    pub async fn get<T: DeserializeOwned>(&self, key: impl AsRef<[u8]>) -> Result<Option<T>> {
        let stored: Option<Bytes> = self
            .keyed(Replay::Idempotent, key, |link, key| async move { link.get(key).await })
            .await?;
        stored.map(|stored| self.codec().decode(&stored)).transpose()
    }

    /// Stores `value` at `key`, replacing what is there.
    ///
    /// Await it as it is, or say more first:
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn f(conn: redbrick_core_conn::Conn) -> Result<(), redbrick_core_conn::Error> {
    /// conn.set("greeting", "hello").await?;
    /// conn.set("code", &1234).time_to_live(Duration::from_secs(300)).await?;
    /// let first: bool = conn.set("seen:42", &true).if_absent().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The value carries a header and is for redbrick to read, unless the codec is
    /// [`Plain`](crate::Codec::Plain). Counters are another matter: they are plain
    /// numbers, written by [`increment`](Self::increment) and read by [`count`](Self::count).
    #[doc(alias("setex", "setnx", "psetex"))]
    pub fn set<T: Serialize + ?Sized>(&self, key: impl AsRef<[u8]>, value: &T) -> Set<'_> {
        let (key, value) = (self.wire_key(key), self.codec().encode(value));
        Set { conn: self, key, value, time_to_live: None, condition: None, outcome: PhantomData }
    }
}

/// A [`Conn::set`] that has not been sent yet; awaiting it sends it.
///
/// It resolves to nothing, or to `bool` with a condition: whether the value was stored.
///
/// One round trip (`SET`). A plain one is repeated after a broken connection, which can also replace what
/// somebody else stored in between; a conditional one is repeated only when it surely did not run.
///
/// # Errors
///
/// [`ErrorKind::Codec`](crate::ErrorKind::Codec) when the value cannot be encoded and
/// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) when the time to live is below one
/// millisecond or above 100 years, both before anything is sent; those of [every
/// call](Conn#errors-of-every-call). After [an unknown outcome](crate::Error::is_outcome_unknown) the value may
/// be stored.
#[must_use = "nothing is stored until it is awaited"]
pub struct Set<'a, Outcome = ()> {
    conn: &'a Conn,
    key: Bytes,
    value: Result<Bytes>,
    time_to_live: Option<Duration>,
    condition: Option<SetOptions>,
    outcome: PhantomData<fn() -> Outcome>,
}

impl<'a, Outcome> Set<'a, Outcome> {
    /// Lets the key expire after `time_to_live`, by the server's clock.
    ///
    /// Default: it stays, and loses the expiry it had.
    #[doc(alias("ttl", "px", "ex"))]
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = Some(time_to_live);
        self
    }

    /// Stores only when there is no such key (`NX`).
    #[doc(alias = "nx")]
    pub fn if_absent(self) -> Set<'a, bool> {
        self.only(SetOptions::NX)
    }

    /// Stores only when there is such a key (`XX`).
    #[doc(alias = "xx")]
    pub fn if_present(self) -> Set<'a, bool> {
        self.only(SetOptions::XX)
    }

    fn only(self, condition: SetOptions) -> Set<'a, bool> {
        let Self { conn, key, value, time_to_live, .. } = self;
        Set { conn, key, value, time_to_live, condition: Some(condition), outcome: PhantomData }
    }

    async fn send(self) -> Result<bool> {
        let value = self.value?;
        let expire = self.time_to_live.map(millis).transpose()?.map(Expiration::PX);
        let replay = if self.condition.is_some() { Replay::IfUnsent } else { Replay::Idempotent };
        let mut manner = self.conn.manner(replay);
        manner.route = Route::Slot(redis_keyslot(&self.key));
        let answer: Value = self
            .conn
            .call(&manner, |link| {
                let (key, value) = (self.key.clone(), value.clone());
                let (expire, condition) = (expire.clone(), self.condition.clone());
                async move { link.set(key, value, expire, condition, false).await }
            })
            .await?;
        Ok(!answer.is_null())
    }
}

impl<Outcome> fmt::Debug for Set<'_, Outcome> {
    /// Shows neither the key nor the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Set")
            .field("time_to_live", &self.time_to_live)
            .field("condition", &self.condition)
            .finish_non_exhaustive()
    }
}

impl<'a> IntoFuture for Set<'a> {
    type Output = Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let span = tracing::debug_span!("core_conn.set");
        Box::pin(async move { self.send().await.map(drop) }.instrument(span))
    }
}

impl<'a> IntoFuture for Set<'a, bool> {
    type Output = Result<bool>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let span = tracing::debug_span!("core_conn.set");
        Box::pin(self.send().instrument(span))
    }
}
