use std::{fmt, net::Ipv6Addr};

use crate::{Error, Result};

/// A host and a port. An IPv6 address is kept without brackets.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Node {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Node {
    pub(crate) fn new(host: &str, port: u16) -> Self {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Self { host: host.to_owned(), port }
    }

    /// Reads `host`, `host:port`, `[ipv6]:port` or a bare IPv6 address; `what` names it in the error.
    pub(crate) fn parse(text: &str, default_port: u16, what: &str) -> Result<Self> {
        let wrong =
            || Error::config(format!("{what}: expected `host:port` with a port from 1 to 65535"));
        let text = text.trim();
        if text.parse::<Ipv6Addr>().is_ok() {
            return Ok(Self::new(text, default_port));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => {
                (host, port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?)
            }
            _ => (text, default_port),
        };
        let node = Self::new(host, port);
        if !is_host(&node.host) {
            return Err(wrong());
        }
        Ok(node)
    }

    /// The host as it stands before a colon and a port.
    pub(crate) fn dialed_host(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.dialed_host(), self.port)
    }
}

/// Whether `host` can be a name or an address at all.
pub(crate) fn is_host(host: &str) -> bool {
    if host.contains(':') {
        return host.parse::<Ipv6Addr>().is_ok();
    }
    !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || "-._".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_addresses_with_and_without_a_port() {
        for (text, host, port) in [
            ("cache", "cache", 6379),
            ("cache.internal:7000", "cache.internal", 7000),
            ("10.0.0.7:1", "10.0.0.7", 1),
            ("::1", "::1", 6379),
            ("[::1]", "::1", 6379),
            ("[fe80::1]:7000", "fe80::1", 7000),
        ] {
            let node = Node::parse(text, 6379, "node").unwrap();
            assert_eq!((node.host.as_str(), node.port), (host, port), "{text}");
        }
        for text in
            ["", ":1", "a b:1", "host:", "host:0", "host:65536", "[::1", "host/x:1", "1:2:3"]
        {
            let err = Node::parse(text, 6379, "REDIS_HOST").unwrap_err();
            assert!(err.to_string().starts_with("REDIS_HOST: expected"), "{text}: {err}");
        }
    }
}
