//! What the code calls that [`cached`](crate::cached), [`warms`](crate::warms) and [`invalidates`](crate::invalidates) write. These are
//! methods of a cache, so that it names no crate, and works wherever a cache does.

use std::fmt::{self, Display, Write as _};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use redbrick_core_conn::BoxError;

use crate::{Applied, Cache, Error, get_or_load::Absent, rules::apply::Plan};

/// What of an argument does not stand in a name as it is. What follows an argument begins with one of these, or with what is not ASCII;
/// the attributes see to that.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'@').remove(b'+');

/// The function has failed; its caller has the error.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the function returned an error, which its caller has")]
struct Failed;

/// Writes escaped what is written into it.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend(utf8_percent_encode(text, ESCAPED));
        Ok(())
    }
}

#[doc(hidden)]
impl<V> Cache<V> {
    /// Puts a name together: what stands before each argument and its text, escaped, and what stands behind the last.
    ///
    /// # Panics
    ///
    /// When the text of an argument cannot be had, as `to_string` would.
    #[must_use]
    pub fn macro_name(&self, parts: &[(&str, &dyn Display)], end: &str) -> String {
        let mut name = String::new();
        for (before, argument) in parts {
            name.push_str(before);
            write!(Escaped(&mut name), "{argument}").expect("an argument has a text");
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

    /// What a loader returns whose function cannot fail.
    pub fn macro_value(&self, value: V) -> Result<V, BoxError> {
        Ok(value)
    }

    /// The same, whose function may have nothing.
    pub fn macro_some(&self, value: Option<V>) -> Result<V, BoxError> {
        value.ok_or_else(|| Absent.into())
    }

    /// The same, whose function may fail: the error is kept for its caller.
    pub fn macro_ok<T, E>(
        &self,
        result: Result<T, E>,
        failed: &mut Option<E>,
    ) -> Result<T, BoxError> {
        result.map_err(|error| {
            *failed = Some(error);
            Failed.into()
        })
    }

    #[must_use]
    pub fn macro_is_absent(&self, error: &Error) -> bool {
        error.is_absent()
    }

    /// Says in the log that a function is called in place of what a cache could not give.
    pub fn macro_goes_without(&self, error: &Error) {
        self.inner.tell(error, "a function is called without its cache");
    }

    /// Says in the log that what a function changed is not invalidated everywhere.
    pub fn macro_owes(&self, error: &Error) {
        let what = "what a function changed could not be invalidated; it is made up for when Redis can be asked, unless a right is missing";
        self.inner.tell(error, what);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_is_of_the_characters_that_the_attributes_expect() {
        for byte in 0..=u8::MAX {
            let mut name = String::new();
            write!(Escaped(&mut name), "{}", char::from(byte)).unwrap();
            let is_expected = |it: char| it.is_ascii_alphanumeric() || "-_.~@+%".contains(it);
            assert!(name.chars().all(is_expected), "{name}");
            let is_plain = char::from(byte).is_ascii_alphanumeric() || b"-_.~@+".contains(&byte);
            assert_eq!(name.len() == 1, is_plain, "{name}");
        }
    }
}
