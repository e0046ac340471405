//! What the code calls that [`locked`](crate::locked) writes, and the error that it returns. The calls are methods of [`Locks`], so that the
//! code names no crate, and works wherever locks do.

use std::fmt::{self, Display, Write as _};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{Error, Locks, Wait};

/// Why a function that is [`locked`](crate::locked) did not run, or was stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotHeld {
    /// Somebody else had the lock until the wait was over. The function did not run.
    #[error("somebody else has the lock; call again later, or give the function a longer `wait`")]
    Busy,
    /// The lock could not be asked for, and the function did not run; or, where it is [`Error::Lost`], it was lost meanwhile, and the function
    /// was stopped where it waited.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl NotHeld {
    /// Returns whether the same call can succeed later without anybody changing anything.
    ///
    /// It does not say whether repeating it is safe: after [`Error::Lost`], a part of the function may be done.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy => true,
            Self::Failed(error) => error.is_retryable(),
        }
    }

    /// Returns whether time ran out with Redis; that somebody else had the lock for as long as was waited is no timeout.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Busy => false,
            Self::Failed(error) => error.is_timeout(),
        }
    }

    /// Returns whether what was asked may have happened although the call failed: at Redis, or, after [`Error::Lost`], in the function.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Busy => false,
            Self::Failed(error) => error.is_outcome_unknown(),
        }
    }
}

/// What of an argument does not stand in a name as it is. What follows an argument begins with one of these, or with what is not ASCII;
/// the attribute sees to that.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'@').remove(b'+');

/// Writes escaped what is written into it.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend(utf8_percent_encode(text, ESCAPED));
        Ok(())
    }
}

#[doc(hidden)]
impl Locks {
    /// Whatever an expression of locks is, these are what it is of.
    #[must_use]
    pub fn macro_locks(&self) -> Self {
        self.clone()
    }

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
    pub fn macro_wait(&self, wait: impl Into<Wait>) -> Wait {
        wait.into()
    }

    #[must_use]
    pub fn macro_never(&self) -> Wait {
        Wait::Never
    }

    #[must_use]
    pub fn macro_forever(&self) -> Wait {
        Wait::Forever
    }

    /// What came of a function, or why nothing did.
    pub fn macro_held<T>(&self, done: Result<Option<T>, Error>) -> Result<T, NotHeld> {
        done?.ok_or(NotHeld::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_is_of_the_characters_that_the_attribute_expects() {
        for byte in 0..=u8::MAX {
            let mut name = String::new();
            write!(Escaped(&mut name), "{}", char::from(byte)).unwrap();
            let is_expected = |it: char| it.is_ascii_alphanumeric() || "-_.~@+%".contains(it);
            assert!(name.chars().all(is_expected), "{name}");
            let is_plain = char::from(byte).is_ascii_alphanumeric() || b"-_.~@+".contains(&byte);
            assert_eq!(name.len() == 1, is_plain, "{name}");
        }
    }

    #[test]
    fn each_kind_says_what_may_be_done_about_it() {
        for (error, retryable, timeout, unknown) in [
            (NotHeld::Busy, true, false, false),
            (Error::Late.into(), true, true, false),
            (Error::Lease.into(), false, false, false),
            (Error::Lost.into(), true, false, true),
        ] {
            let found = (error.is_retryable(), error.is_timeout(), error.is_outcome_unknown());
            assert_eq!(found, (retryable, timeout, unknown), "{error:?}");
        }
    }
}
