use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
};

use crate::{
    Error, Reply,
    link::{self, Link},
};

/// A server that somebody else runs, named by a URL.
pub(crate) struct External {
    url: String,
    target: Result<Target, String>,
}

struct Target {
    host: String,
    port: u16,
    /// What to send first: `AUTH`, `SELECT`.
    greeting: Vec<Vec<String>>,
}

impl External {
    pub(crate) fn new(url: String) -> Self {
        let target = Target::parse(&url);
        Self { url, target }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The URL without its credentials.
    pub(crate) fn place(&self) -> String {
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return "a text that is no URL".into();
        };
        // A query may hold a password too.
        let rest = rest.split('?').next().unwrap_or_default();
        format!("{scheme}://{}", rest.rsplit('@').next().unwrap_or_default())
    }

    pub(crate) fn command<A: AsRef<[u8]>>(&self, command: &[A]) -> Result<Reply, Error> {
        let target = self
            .target
            .as_ref()
            .map_err(|reason| Error::Config { what: "REDIS_URL".into(), reason: reason.clone() })?;
        let mut link =
            target.connect().map_err(Error::io(format!("connecting to {}", self.place())))?;
        for words in &target.greeting {
            link::answer(words, link.call(words))?;
        }
        link::answer(command, link.call(command))
    }
}

impl fmt::Debug for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("External").field("place", &self.place()).finish_non_exhaustive()
    }
}

impl Target {
    /// Reads `redis://[user][:password]@host[:port][/database]`.
    fn parse(url: &str) -> Result<Self, String> {
        let rest = url
            .strip_prefix("redis://")
            .ok_or("commands can be sent to redis://… only; without them, tests that look into the server fail")?;
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|err| format!("{port} is no port: {err}"))?)
            }
            _ => (place, 6379),
        };
        let mut greeting = Vec::new();
        if let Some((name, password)) = user.map(|user| user.split_once(':').unwrap_or((user, "")))
        {
            let words = ["AUTH".into(), decode(name), decode(password)];
            greeting.push(words.into_iter().filter(|word| !word.is_empty()).collect());
        }
        if !database.is_empty() {
            greeting.push(vec!["SELECT".into(), database.into()]);
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self { host: if host.is_empty() { "127.0.0.1" } else { host }.into(), port, greeting })
    }

    fn connect(&self) -> io::Result<Link> {
        let mut failed = io::ErrorKind::AddrNotAvailable.into();
        let addresses: Vec<SocketAddr> = (&*self.host, self.port).to_socket_addrs()?.collect();
        for address in addresses {
            match Link::tcp(address) {
                Ok(link) => return Ok(link),
                Err(err) => failed = err,
            }
        }
        Err(failed)
    }
}

/// Undoes percent-encoding.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'%').then(|| after.get(..2)).flatten();
        let code = code.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls() {
        let target = Target::parse("redis://app:p%40ss@[::1]:7000/3").unwrap();
        assert_eq!((&*target.host, target.port), ("::1", 7000));
        assert_eq!(target.greeting, [vec!["AUTH", "app", "p@ss"], vec!["SELECT", "3"]]);
        let target = Target::parse("redis://:secret@db").unwrap();
        assert_eq!((&*target.host, target.port), ("db", 6379));
        assert_eq!(target.greeting, [vec!["AUTH", "secret"]]);
        assert!(Target::parse("redis://host:many").is_err());
    }

    #[test]
    fn shows_no_credentials() {
        let external = External::new("rediss://app:secret@db:1/2?password=secret".into());
        assert_eq!(external.place(), "rediss://db:1/2");
        assert!(!format!("{external:?}").contains("secret"));
    }
}
