//! Deleting by pattern.

use std::sync::Arc;

use redbrick_core_conn::Pattern;

use crate::{Cache, Error, cache::Inner, owed::About};

impl<V> Cache<V> {
    /// Deletes the entries whose keys match one of `patterns`, and returns how many. What is being loaded for such a key
    /// right now, anywhere, will not be stored.
    ///
    /// In a pattern `*` stands for any run of bytes, and `\*` `\?` `\[` `\]` `\\` for those characters; see
    /// [`Pattern`]. It is matched against keys as they were given, not as they are escaped.
    ///
    /// For each pattern a walk through all keys of the database, a round trip for each thousand of them, and one more where
    /// some are deleted. For what is cleared often there are [tags](Self::invalidate_tag). What is being loaded counts as an entry,
    /// where none is there yet. Counters stay.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`]: with the kind `InvalidArgument` before anything is sent when a pattern is wrong; otherwise some
    /// entries may be gone, and calling it again deletes the others.
    #[tracing::instrument(level = "debug", name = "cache.clear", skip_all)]
    pub async fn clear<P: AsRef<str>>(
        &self,
        patterns: impl IntoIterator<Item = P> + Send,
    ) -> Result<u64, Error> {
        let inner = &self.inner;
        let patterns = patterns.into_iter().map(|text| inner.pattern(text.as_ref()));
        let patterns: Vec<Pattern> = patterns.collect::<Result<_, _>>()?;
        let mut deleted = 0;
        for entries in patterns {
            deleted += inner.clear(entries).await?;
        }
        Ok(deleted)
    }

    /// Deletes all entries; otherwise as [`clear`](Self::clear). Counters, tags and published statistics stay until they
    /// expire.
    ///
    /// # Errors
    ///
    /// As [`clear`](Self::clear).
    pub async fn clear_all(&self) -> Result<u64, Error> {
        Box::pin(self.clear(["*"])).await
    }
}

impl Inner {
    /// The pattern for entries whose ids match `text`.
    pub(crate) fn pattern(&self, text: &str) -> Result<Pattern, Error> {
        Ok(self.prefix.tagged_pattern(text)?)
    }

    /// Deletes entries, and the leases in their places. One that the walk does not meet was taken after it began.
    pub(crate) async fn clear(self: &Arc<Self>, entries: Pattern) -> Result<u64, Error> {
        let call = Box::pin(self.conn.delete_matching(entries.clone()));
        let deleted = self.owing(About::Pattern(&entries), call).await;
        self.flights.detach_matching(|key| entries.matches(key.as_ref()));
        Ok(deleted?)
    }
}
