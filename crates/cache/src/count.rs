//! Counters: plain numbers in a key space of their own.

use redbrick_core_conn::Script;

use crate::{Cache, Error, cache::Inner};

static COUNT: Script = Script::new("cache.count", include_str!("lua/count.lua"));

impl<V> Cache<V> {
    /// Adds `by` to the counter of `key`, from 0 when there is none, and returns the new count. A counter lives as long as
    /// the cache's [entries](crate::CacheBuilder::time_to_live), from its first count on.
    ///
    /// Counters and entries of one key are two things. One round trip; never sent twice after it may have run. On an optional
    /// connection without a server the count is 0.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`]; the kind is `Server` when the count would leave the range of `i64` or is no number: it is unchanged.
    /// After an unknown outcome it may have counted.
    #[doc(alias = "incr")]
    #[tracing::instrument(level = "debug", name = "cache.increment", skip_all)]
    pub async fn increment(&self, key: impl AsRef<[u8]> + Send, by: i64) -> Result<i64, Error> {
        self.inner.counted_by(key.as_ref(), "INCRBY", by).await
    }

    /// Takes `by` from the counter of `key`; otherwise as [`increment`](Self::increment).
    ///
    /// # Errors
    ///
    /// As [`increment`](Self::increment).
    #[doc(alias = "decr")]
    #[tracing::instrument(level = "debug", name = "cache.decrement", skip_all)]
    pub async fn decrement(&self, key: impl AsRef<[u8]> + Send, by: i64) -> Result<i64, Error> {
        self.inner.counted_by(key.as_ref(), "DECRBY", by).await
    }

    /// Returns the counter of `key`, or `None` when there is none.
    ///
    /// One round trip (`GET`).
    ///
    /// # Errors
    ///
    /// [`Error::Conn`], also when it is no number; nothing is changed.
    #[tracing::instrument(level = "debug", name = "cache.count", skip_all)]
    pub async fn count(&self, key: impl AsRef<[u8]> + Send) -> Result<Option<i64>, Error> {
        Ok(self.inner.conn.count(self.inner.counts.tagged(key)).await?)
    }

    /// Deletes the counter of `key`, and returns whether there was one.
    ///
    /// One round trip (`UNLINK`).
    ///
    /// # Errors
    ///
    /// [`Error::Conn`]; after an unknown outcome it may be gone.
    #[tracing::instrument(level = "debug", name = "cache.delete_count", skip_all)]
    pub async fn delete_count(&self, key: impl AsRef<[u8]> + Send) -> Result<bool, Error> {
        Ok(self.inner.conn.delete(self.inner.counts.tagged(key)).await?)
    }
}

impl Inner {
    async fn counted_by(&self, id: &[u8], command: &str, by: i64) -> Result<i64, Error> {
        let call = self.conn.script(&COUNT).key(self.counts.tagged(id)).arg(command);
        let count = call.arg(by).arg(self.settings.time_to_live).run::<String>().await?;
        // Without a server there is no text.
        Ok(count.parse().unwrap_or(0))
    }
}
