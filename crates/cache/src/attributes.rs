//! What the code calls that [`cached`](crate::cached), [`warms`](crate::warms) and [`invalidates`](crate::invalidates) write. These are
//! methods of a cache, so that it names no crate, and works wherever a cache does.

use std::fmt::Display;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use redbrick_core_conn::BoxError;

use crate::{Applied, Cache, Error, get_or_load::Absent, rules::apply::Plan};

/// What of an argument does not stand in a name as it is. The attributes see to it that what follows an argument begins with one of these.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'@').remove(b'+');

/// The function has failed; its caller has the error.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the function returned an error, which its caller has")]
struct Failed;

#[doc(hidden)]
impl<V> Cache<V> {
    /// Puts a name together: what stands before each argument and its text, escaped, and what stands behind the last.
    #[must_use]
    pub fn macro_name(&self, parts: &[(&str, &dyn Display)], end: &str) -> String {
        let mut name = String::new();
        for (before, argument) in parts {
            name.push_str(before);
            name.extend(utf8_percent_encode(&argument.to_string(), ESCAPED));
        }
        name + end
    }

    #[must_use]
    pub fn macro_bytes(&self, text: &(impl AsRef<[u8]> + ?Sized)) -> Vec<u8> {
        text.as_ref().to_vec()
    }

    #[must_use]
    pub fn macro_text(&self, text: &(impl AsRef<str> + ?Sized)) -> String {
        text.as_ref().to_owned()
    }

    /// What a loader returns that cannot fail.
    pub fn macro_loaded(&self, value: V) -> Result<V, BoxError> {
        Ok(value)
    }

    /// What a loader fails with whose function has nothing to be remembered.
    #[must_use]
    pub fn macro_absent(&self) -> BoxError {
        Absent.into()
    }

    #[must_use]
    pub fn macro_is_absent(&self, error: &Error) -> bool {
        error.is_absent()
    }

    /// What a loader fails with whose function has failed.
    #[must_use]
    pub fn macro_failed(&self) -> BoxError {
        Failed.into()
    }

    /// Says in the log what a function goes on without.
    pub fn macro_tell(&self, error: &Error) {
        let cache = self.inner.counters.name();
        tracing::warn!(cache, %error, "a function goes on without its cache");
    }

    /// Invalidates keys, tags and patterns.
    pub async fn macro_invalidate(
        &self,
        (keys, tags, patterns): (Vec<Vec<u8>>, Vec<Vec<u8>>, Vec<String>),
    ) -> Result<Applied, Error> {
        let plan = Plan {
            keys: keys.into_iter().collect(),
            tags: tags.into_iter().collect(),
            patterns: patterns.into_iter().collect(),
            ..Plan::default()
        };
        Box::pin(self.carry_out(&plan)).await
    }
}
