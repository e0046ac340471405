use std::{fmt, str::FromStr};

use crate::{Kind, Version};

/// Which server is wanted.
///
/// Written `any`, `redis-6.2`, `redis-7.0`, `redis-8`, `valkey-8`, `valkey-9`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Want {
    /// Any Redis from 6.2 on, or any Valkey or Redict.
    #[default]
    Any,
    /// Redis 6.2.
    Redis6_2,
    /// Redis 7.0.
    Redis7_0,
    /// Redis 8.
    Redis8,
    /// Valkey 8.
    Valkey8,
    /// Valkey 9.
    Valkey9,
}

impl Want {
    /// All that name a version.
    pub const ALL: [Self; 5] =
        [Self::Redis6_2, Self::Redis7_0, Self::Redis8, Self::Valkey8, Self::Valkey9];

    /// Whether a server of this version is what is wanted.
    #[must_use]
    pub fn accepts(self, version: &Version) -> bool {
        let line = (version.kind, version.major, version.minor);
        match self {
            Self::Any => match version.kind {
                Kind::Redis => version.at_least(6, 2),
                Kind::Valkey | Kind::Redict => true,
                Kind::Other => false,
            },
            Self::Redis6_2 => line == (Kind::Redis, 6, 2),
            Self::Redis7_0 => line == (Kind::Redis, 7, 0),
            Self::Redis8 => matches!(line, (Kind::Redis, 8, _)),
            Self::Valkey8 => matches!(line, (Kind::Valkey, 8, _)),
            Self::Valkey9 => matches!(line, (Kind::Valkey, 9, _)),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Redis6_2 => "redis-6.2",
            Self::Redis7_0 => "redis-7.0",
            Self::Redis8 => "redis-8",
            Self::Valkey8 => "valkey-8",
            Self::Valkey9 => "valkey-9",
        }
    }
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Want {
    type Err = UnknownServer;

    fn from_str(text: &str) -> Result<Self, UnknownServer> {
        let mut all = [Self::Any].into_iter().chain(Self::ALL);
        all.find(|want| want.name() == text).ok_or_else(|| UnknownServer(text.into()))
    }
}

/// A text that names no [`Want`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no server is called {0:?}; write any, redis-6.2, redis-7.0, redis-8, valkey-8 or valkey-9"
)]
pub struct UnknownServer(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for want in Want::ALL.into_iter().chain([Want::Any]) {
            assert_eq!(want.to_string().parse(), Ok(want));
        }
        assert!("redis-5".parse::<Want>().unwrap_err().to_string().contains("redis-6.2"));
    }

    #[test]
    fn accepts_its_own_line_only() {
        let version = |kind, text| Version::from_numbers(kind, text).unwrap();
        let redis_8 = version(Kind::Redis, "8.0.2");
        assert!(Want::Redis8.accepts(&redis_8) && Want::Any.accepts(&redis_8));
        assert!(!Want::Valkey8.accepts(&redis_8) && !Want::Redis7_0.accepts(&redis_8));
        assert!(!Want::Any.accepts(&version(Kind::Redis, "6.0.16")));
        assert!(!Want::Any.accepts(&version(Kind::Other, "7.0.0")));
    }
}
