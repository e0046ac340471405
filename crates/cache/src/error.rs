use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use redbrick_core_conn::{BoxError, ErrorKind};

use crate::get_or_load::Absent;

/// Why a [`Cache`](crate::Cache) call failed.
///
/// What cannot be read from Redis is no failure but a miss. Cloning it is cheap: callers that wait for one load share
/// its error.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// Redis could not be asked.
    Conn(redbrick_core_conn::Error),
    /// The loader failed. Nothing was stored. [`loader_error`](Self::loader_error) returns its error.
    Load(Arc<dyn StdError + Send + Sync>),
    /// The loader did not end within this [`load_timeout`](crate::CacheBuilder::load_timeout). Nothing was stored.
    LoadTimeout(Duration),
    /// Another process loaded for longer than this [`wait_timeout`](crate::CacheBuilder::wait_timeout), and the cache
    /// [fails then](crate::OnWaitTimeout::Fail). Nothing was loaded. All who waited with this call are told so.
    WaitTimeout(Duration),
    /// A time to live, the load timeout or the lease is below 1 millisecond, or a duration above 100 years. Nothing was sent.
    InvalidDuration,
    /// More than 1,000 tags for one entry. Nothing was sent.
    TooManyTags,
    /// Rules contradict themselves; says how. Reported when they are built.
    InvalidRules(String),
    /// A rule has a placeholder of this name, and no value was given for it. Nothing was invalidated.
    MissingValue(String),
    /// Rules lead to more than 10,000 targets, as one does that names itself again and again. Nothing was invalidated.
    EndlessRules,
    /// A value could not be encoded; the codec says why. Nothing was stored.
    Unencodable(Arc<dyn StdError + Send + Sync>),
}

impl Error {
    /// Returns whether the same call can succeed later without anybody changing anything. What a loader meets may pass.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Conn(error) => error.is_retryable(),
            Self::Load(_) | Self::LoadTimeout(_) | Self::WaitTimeout(_) => true,
            _ => false,
        }
    }

    /// Returns whether time ran out, at Redis, in the loader or in that of another process.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Conn(error) => error.is_timeout(),
            Self::LoadTimeout(_) | Self::WaitTimeout(_) => true,
            _ => false,
        }
    }

    /// Returns whether Redis may have done what was asked although the call failed.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Conn(error) if error.is_outcome_unknown())
    }

    /// Returns the loader's own error, for `downcast_ref`.
    #[must_use]
    pub fn loader_error(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        match self {
            Self::Load(error) => Some(&**error),
            _ => None,
        }
    }

    /// Whether the loader has no value for the key.
    pub(crate) fn is_absent(&self) -> bool {
        self.loader_error().is_some_and(|error| error.is::<Absent>())
    }

    pub(crate) fn load(error: impl Into<BoxError>) -> Self {
        Self::Load(error.into().into())
    }

    pub(crate) fn unencodable(error: BoxError) -> Self {
        Self::Unencodable(error.into())
    }
}

impl From<redbrick_core_conn::Error> for Error {
    fn from(error: redbrick_core_conn::Error) -> Self {
        Self::Conn(error)
    }
}

// By hand, so that the source of `Load` is the loader's error itself, which a caller can downcast, and not its `Arc`.
impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Conn(error) => Some(error),
            Self::Load(error) | Self::Unencodable(error) => Some(&**error),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conn(error) if error.kind() == ErrorKind::InvalidArgument => {
                f.write_str("the cache was given what Redis cannot be asked for")
            }
            Self::Conn(_) => f.write_str("the cache could not ask Redis"),
            Self::Load(_) => f.write_str("the loader of the cache failed"),
            Self::LoadTimeout(allowed) => {
                write!(
                    f,
                    "the loader did not end within {allowed:?}; make it faster, raise `load_timeout`, and see that it does not load its own key"
                )
            }
            Self::WaitTimeout(allowed) => {
                write!(
                    f,
                    "another process did not end its load within {allowed:?}; raise `wait_timeout`, or choose `OnWaitTimeout::Load`"
                )
            }
            Self::InvalidDuration => f.write_str(
                "a time to live, a load timeout and a lease are from 1 millisecond to 100 years, and other durations up to that",
            ),
            Self::TooManyTags => f.write_str("an entry has at most 1,000 tags"),
            Self::InvalidRules(what) => write!(f, "the invalidation rules cannot work: {what}"),
            Self::MissingValue(name) => {
                write!(f, "no value was given for the placeholder `{name}` of a rule")
            }
            Self::EndlessRules => f.write_str("the rules lead to more than 10,000 targets"),
            Self::Unencodable(_) => {
                f.write_str("the value cannot be encoded; see what its codec says")
            }
        }
    }
}
