use std::{fmt, time::Duration};

use crate::{Conn, Error, ErrorKind, FromReply, Result, commands::Request};

/// Which server answers, by its own words.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ServerKind {
    /// Redis.
    Redis,
    /// Valkey. It also reports the Redis version it is compatible with, which is not its own.
    Valkey,
    /// Another server that speaks the protocol, by the name it gives itself.
    Other(String),
}

/// A version number; what comes after the third number is left out.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[expect(clippy::exhaustive_structs, reason = "a version has three numbers")]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub patch: u32,
}

/// How the server is run.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ServerMode {
    /// A single server, with or without replicas.
    Standalone,
    /// A node of a cluster.
    Cluster,
    /// A sentinel.
    Sentinel,
}

/// What a server says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Which server it is.
    pub kind: ServerKind,
    /// Its own version.
    pub version: Version,
    /// How it is run.
    pub mode: ServerMode,
}

impl Conn {
    /// Returns which server answers, its version and its mode.
    ///
    /// One round trip (`INFO server`); on Cluster to any one node.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`] without the right to `INFO`; [`ErrorKind::Protocol`] when the answer names no
    /// version; those of [every call](Conn#errors-of-every-call).
    #[tracing::instrument(level = "debug", name = "core_conn.server_info", skip_all)]
    pub async fn server_info(&self) -> Result<ServerInfo> {
        let info = Request::Raw { name: "INFO", args: vec!["server"] };
        let info = self.ask(&info).await?;
        ServerInfo::read(&String::from_reply(info)?)
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "the server's INFO names no version"))
    }
}

impl Conn {
    /// Returns what time it is by the server's clock, since 1970: for what processes have to agree on.
    ///
    /// One round trip (`TIME`); on Cluster to any one node, each of which has a clock of its own.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`] without the right to `TIME`; those of [every call](Conn#errors-of-every-call).
    #[tracing::instrument(level = "debug", name = "core_conn.server_time", skip_all)]
    pub async fn server_time(&self) -> Result<Duration> {
        let time = self.ask(&Request::Raw { name: "TIME", args: Vec::new() }).await?;
        let (seconds, micros) = <(String, String)>::from_reply(time)?;
        let number = |text: String| text.parse::<u64>().ok();
        let time = number(seconds).zip(number(micros)).map(|(seconds, micros)| {
            Duration::from_secs(seconds).saturating_add(Duration::from_micros(micros))
        });
        time.ok_or_else(|| Error::new(ErrorKind::Protocol, "the server's TIME is not two numbers"))
    }
}

impl ServerInfo {
    /// Reads the `server` section of INFO.
    pub(crate) fn read(info: &str) -> Option<Self> {
        let named = |kind, field| field_of(info, field).map(|version| (kind, version));
        let other = |name: &str| ServerKind::Other(name.to_owned());
        let (kind, version) = named(ServerKind::Valkey, "valkey_version")
            .or_else(|| named(other("redict"), "redict_version"))
            .or_else(|| named(other("dragonfly"), "dragonfly_version"))
            .or_else(|| match field_of(info, "server_name") {
                None | Some("redis") => named(ServerKind::Redis, "redis_version"),
                Some("valkey") => named(ServerKind::Valkey, "redis_version"),
                Some(name) => named(other(name), "redis_version"),
            })?;
        let mode = match field_of(info, "redis_mode").or_else(|| field_of(info, "server_mode")) {
            Some("cluster") => ServerMode::Cluster,
            Some("sentinel") => ServerMode::Sentinel,
            _ => ServerMode::Standalone,
        };
        Some(Self { kind, version: Version::read(version)?, mode })
    }
}

impl Version {
    fn read(text: &str) -> Option<Self> {
        let text = text.trim_start_matches(|c: char| !c.is_ascii_digit());
        let mut numbers = text.split(['.', '-', '+']).map_while(|number| number.parse().ok());
        Some(Self {
            major: numbers.next()?,
            minor: numbers.next().unwrap_or(0),
            patch: numbers.next().unwrap_or(0),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
            Self::Other(name) => name,
        })
    }
}

impl fmt::Display for ServerMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standalone => "standalone",
            Self::Cluster => "cluster",
            Self::Sentinel => "sentinel",
        })
    }
}

/// Returns a field of an INFO answer.
pub(crate) fn field_of<'a>(info: &'a str, field: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    #[test]
    fn a_server_is_known_by_its_own_name() {
        let read =
            |info: &str| ServerInfo::read(info).map(|info| (info.kind, info.version.to_string()));
        let valkey = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n";
        assert_eq!(read(valkey), Some((ServerKind::Valkey, "8.1.1".to_owned())));
        assert_eq!(
            read("redis_version:7.0.15\r\n"),
            Some((ServerKind::Redis, "7.0.15".to_owned()))
        );
        assert_eq!(
            read("redis_version:7.2.4\r\nserver_name:newdb\r\n"),
            Some((ServerKind::Other("newdb".to_owned()), "7.2.4".to_owned()))
        );
        assert_eq!(read("nothing:here\r\n"), None);
    }

    #[test]
    fn versions_compare_as_numbers() {
        let version = |text| Version::read(text).unwrap();
        assert_eq!(version("8.0.0-rc1").cmp(&version("8.0.0")), Ordering::Equal);
        assert!(version("7.10.0") > version("7.9.9"));
        assert_eq!(version("v7").to_string(), "7.0.0");
    }
}
