use std::fmt;

/// What a server is and which release of it.
///
/// `Display` gives `redis 7.0.15`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Version {
    /// The product. A Valkey is a Valkey here, although it reports itself as Redis 7.2.4 to clients.
    pub kind: Kind,
    /// The first number, counted in the product's own line.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub patch: u32,
}

/// The products that speak the protocol and can be told apart by `--version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Redis.
    Redis,
    /// Valkey, the fork of Redis 7.2.
    Valkey,
    /// Redict, another fork of Redis 7.2.
    Redict,
    /// A server that names itself otherwise.
    Other,
}

impl Version {
    /// Whether this is release `major.minor` or a later one, in the product's own line of numbers.
    #[must_use]
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }

    /// Whether this server has what Redis `major.minor` brought.
    ///
    /// Valkey and Redict count as Redis 7.2, where they forked; a server that names itself otherwise has nothing.
    #[must_use]
    pub fn covers_redis(&self, major: u32, minor: u32) -> bool {
        match self.kind {
            Kind::Redis => self.at_least(major, minor),
            Kind::Valkey | Kind::Redict => (7, 2) >= (major, minor),
            Kind::Other => false,
        }
    }

    /// Reads the answer of `redis-server --version`: `Redis server v=7.0.15 sha=…`.
    pub(crate) fn parse(answer: &str) -> Option<Self> {
        let name = answer.split_whitespace().next()?;
        let numbers = answer.split_whitespace().find_map(|word| word.strip_prefix("v="))?;
        let kind = match name.to_ascii_lowercase().as_str() {
            "redis" => Kind::Redis,
            "valkey" => Kind::Valkey,
            "redict" => Kind::Redict,
            _ => Kind::Other,
        };
        Self::from_numbers(kind, numbers)
    }

    /// Reads `7.0.15`; what follows the numbers (`-rc1`, `+dfsg1`) is ignored.
    pub(crate) fn from_numbers(kind: Kind, text: &str) -> Option<Self> {
        let mut numbers = text.splitn(3, '.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse().ok()
        });
        Some(Self {
            kind,
            major: numbers.next()??,
            minor: numbers.next()??,
            patch: numbers.next().flatten().unwrap_or(0),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, major, minor, patch } = self;
        write!(f, "{kind} {major}.{minor}.{patch}")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
            Self::Redict => "redict",
            Self::Other => "other",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_servers_say() {
        let parse = |text| Version::parse(text).map(|version| version.to_string());
        let redis = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1";
        assert_eq!(parse(redis).as_deref(), Some("redis 7.0.15"));
        assert_eq!(parse("Valkey server v=9.1.2 sha=0").as_deref(), Some("valkey 9.1.2"));
        assert_eq!(parse("Redis server v=8.0-rc1 x").as_deref(), Some("redis 8.0.0"));
        assert_eq!(parse("cat (GNU coreutils) 9.1"), None);
    }

    #[test]
    fn a_fork_covers_what_redis_had_when_it_forked() {
        let valkey = Version::from_numbers(Kind::Valkey, "8.1.1").unwrap();
        assert!(valkey.covers_redis(7, 0) && valkey.covers_redis(7, 2));
        assert!(!valkey.covers_redis(7, 4));
    }
}
