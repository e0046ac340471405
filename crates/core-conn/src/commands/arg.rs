use std::{fmt, time::Duration};

use bytes::Bytes;

/// An argument of a script: a number in decimal, a text or bytes as they are, a [`Duration`] in whole milliseconds (what is
/// less is cut off), `true` as 1 and `false` as 0.
#[derive(Clone)]
pub struct Arg(Bytes);

impl Arg {
    pub(super) fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl fmt::Debug for Arg {
    /// Does not show what may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arg").finish_non_exhaustive()
    }
}

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Arg {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&String> for Arg {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<&[u8]> for Arg {
    fn from(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

impl From<Vec<u8>> for Arg {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<Bytes> for Arg {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<i32> for Arg {
    fn from(number: i32) -> Self {
        number.to_string().into()
    }
}

impl From<u32> for Arg {
    fn from(number: u32) -> Self {
        number.to_string().into()
    }
}

impl From<i64> for Arg {
    fn from(number: i64) -> Self {
        number.to_string().into()
    }
}

impl From<u64> for Arg {
    fn from(number: u64) -> Self {
        number.to_string().into()
    }
}

impl From<usize> for Arg {
    fn from(number: usize) -> Self {
        number.to_string().into()
    }
}

impl From<f64> for Arg {
    fn from(number: f64) -> Self {
        number.to_string().into()
    }
}

impl From<bool> for Arg {
    fn from(yes: bool) -> Self {
        i32::from(yes).into()
    }
}

impl From<Duration> for Arg {
    fn from(duration: Duration) -> Self {
        duration.as_millis().to_string().into()
    }
}
