use std::fmt;

use redbrick_core_conn::{Key, Pattern};

use crate::Channel;

/// What a handler listens to. Its `Debug` does not show it.
#[derive(Clone, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Topic {
    /// One channel, as it is named behind the connection's prefix.
    Channel(Vec<u8>),
    /// Every channel that matches.
    Pattern(Pattern),
}

impl From<&str> for Topic {
    fn from(channel: &str) -> Self {
        Self::Channel(channel.into())
    }
}

impl From<String> for Topic {
    fn from(channel: String) -> Self {
        Self::Channel(channel.into())
    }
}

impl From<&String> for Topic {
    fn from(channel: &String) -> Self {
        channel.as_str().into()
    }
}

impl From<&[u8]> for Topic {
    fn from(channel: &[u8]) -> Self {
        Self::Channel(channel.into())
    }
}

impl From<Vec<u8>> for Topic {
    fn from(channel: Vec<u8>) -> Self {
        Self::Channel(channel)
    }
}

impl From<&Key> for Topic {
    fn from(channel: &Key) -> Self {
        channel.as_ref().into()
    }
}

impl<T> From<&Channel<T>> for Topic {
    fn from(channel: &Channel<T>) -> Self {
        channel.name().into()
    }
}

impl From<Pattern> for Topic {
    fn from(pattern: Pattern) -> Self {
        Self::Pattern(pattern)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Channel(_) => "Topic::Channel(..)",
            Self::Pattern(_) => "Topic::Pattern(..)",
        })
    }
}
