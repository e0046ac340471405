use std::{num::NonZeroUsize, time::Duration};

use super::{
    Config, ConfigBuilder, DEFAULT_BLOCKING_LINKS, DEFAULT_COMMAND_TIMEOUT,
    DEFAULT_CONNECT_TIMEOUT, DEFAULT_HOST, DEFAULT_MAX_WAITING, DEFAULT_PORT,
    DEFAULT_PROBE_INTERVAL, DEFAULT_RECONNECT_DELAY, DEFAULT_RETRIES, DEFAULT_SLOW_THRESHOLD,
    Endpoint, Node,
    node::is_host,
    url::{self, UrlParts},
};
#[cfg(feature = "tls")]
use crate::tls::ReadyTls;
use crate::{Error, Result};

/// Longer than anybody waits for a connection or an answer.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
const MOST_LINKS: usize = 1_000;
const MOST_WAITING: usize = 1_000_000;

impl ConfigBuilder {
    /// Checks everything and makes a [`Config`]. No I/O.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the field or variable that is wrong, or the
    /// two that contradict each other, and what is expected.
    pub fn build(self) -> Result<Config> {
        let url_name = self.name("url");
        let url = match &self.url {
            Some(url) => Some(url::read(url.expose(), &url_name)?),
            None => None,
        };
        let endpoint = self.endpoint(url.as_ref())?;
        let url = url.unwrap_or_default();

        let database = self.agree("database", url.database, self.database)?.unwrap_or(0);
        if database != 0 && matches!(endpoint, Endpoint::Cluster(_)) {
            return Err(self.wrong("database", "a cluster has only database 0"));
        }
        let username = self.agree("username", url.username.clone(), self.username.clone())?;
        let password = self.agree("password", url.password.clone(), self.password.clone())?;
        if username.is_some() && password.is_none() {
            return Err(self.wrong("username", "a user name needs a password; for a password alone, write `redis://:password@host`"));
        }
        if self.credential_provider.is_some() && password.is_some() {
            return Err(
                self.wrong("password", "give either fixed credentials or a credential provider")
            );
        }
        let (min, max) = DEFAULT_RECONNECT_DELAY;
        let min = self.duration("reconnect_delay_min", self.reconnect_delay_min, min)?;
        let max = self.duration("reconnect_delay_max", self.reconnect_delay_max, max.max(min))?;
        if min < Duration::from_millis(1) {
            return Err(self.wrong("reconnect_delay_min", "expected at least a millisecond"));
        }
        if min > max {
            return Err(
                self.wrong("reconnect_delay_min", "expected no more than reconnect_delay_max")
            );
        }
        let probe_interval =
            self.duration("probe_interval", self.probe_interval, DEFAULT_PROBE_INTERVAL)?;
        if probe_interval < Duration::from_millis(100) {
            return Err(self.wrong("probe_interval", "expected at least 100 milliseconds"));
        }
        if let Some(name) = &self.client_name
            && (name.is_empty() || !name.chars().all(|c| c.is_ascii_graphic()))
        {
            return Err(self.wrong("client_name", "expected printable ASCII without spaces"));
        }
        #[cfg(feature = "tls")]
        let tls = self.tls_settings(&url, &endpoint)?;
        #[cfg(not(feature = "tls"))]
        self.refuse_tls(&url)?;

        let command_links = self.at_most("command_links", self.command_links, MOST_LINKS)?;
        let command_links = command_links.unwrap_or(NonZeroUsize::MIN);
        let blocking_links = self.at_most("blocking_links", self.blocking_links, MOST_LINKS)?;
        let blocking_links = blocking_links.unwrap_or(DEFAULT_BLOCKING_LINKS);
        let max_waiting = self.at_most("max_waiting", self.max_waiting, MOST_WAITING)?;
        let max_waiting = max_waiting.unwrap_or(DEFAULT_MAX_WAITING);

        Ok(Config {
            database,
            username,
            password,
            #[cfg(feature = "tls")]
            tls,
            key_prefix: self.prefix()?,
            connect_timeout: self.duration(
                "connect_timeout",
                self.connect_timeout,
                DEFAULT_CONNECT_TIMEOUT,
            )?,
            command_timeout: self.duration(
                "command_timeout",
                self.command_timeout,
                DEFAULT_COMMAND_TIMEOUT,
            )?,
            reconnect_delay: (min, max),
            probe_interval,
            endpoint,
            credential_provider: self.credential_provider,
            client_name: self.client_name,
            codec: self.codec,
            command_links,
            blocking_links,
            retries: self.retries.unwrap_or(DEFAULT_RETRIES),
            retry_auth_errors: self.retry_auth_errors,
            ready_check: self.ready_check.unwrap_or(true),
            lazy: self.lazy,
            read_from: self.read_from,
            optional: self.optional,
            max_waiting,
            memory_threshold: self.memory_threshold,
            slow_threshold: self.slow_threshold.unwrap_or(DEFAULT_SLOW_THRESHOLD),
        })
    }

    /// An empty builder whose errors speak of variables instead of fields.
    pub(super) fn from_environment() -> Self {
        Self { from_environment: true, ..Self::default() }
    }

    /// Finds out where the server is, and refuses parts that name two places.
    fn endpoint(&self, url: Option<&UrlParts>) -> Result<Endpoint> {
        let named: Vec<&str> = [
            (url.is_some(), "url"),
            (self.unix_socket.is_some(), "unix_socket"),
            (self.cluster.is_some(), "cluster"),
            (self.sentinel.is_some(), "sentinel"),
        ]
        .into_iter()
        .filter_map(|(given, field)| given.then_some(field))
        .collect();
        let ([] | [_]) = named[..] else {
            return Err(Error::config(format!("give only one of: {}", named.join(", "))));
        };

        if let Some(endpoint) = url.and_then(|url| url.endpoint.clone()) {
            self.refuse_host_and_port("url")?;
            return Ok(endpoint);
        }
        if let Some(path) = &self.unix_socket {
            self.refuse_host_and_port("unix_socket")?;
            if path.as_os_str().is_empty() {
                return Err(self.wrong("unix_socket", "expected a path"));
            }
            return Ok(Endpoint::Unix(path.clone()));
        }
        if let Some(nodes) = &self.cluster {
            self.refuse_host_and_port("cluster")?;
            if nodes.is_empty() {
                return Err(self.wrong("cluster", "expected at least one node"));
            }
            let nodes = nodes.iter().map(|node| Node::parse(node, DEFAULT_PORT, "cluster"));
            return nodes.collect::<Result<_>>().map(Endpoint::Cluster);
        }
        if let Some(sentinel) = &self.sentinel {
            self.refuse_host_and_port("sentinel")?;
            return sentinel.endpoint("sentinel");
        }

        let host = self.agree("host", url.and_then(|url| url.host.clone()), self.host.clone())?;
        let port =
            self.agree("port", url.and_then(|url| url.port), self.port)?.unwrap_or(DEFAULT_PORT);
        let node = Node::new(host.as_deref().unwrap_or(DEFAULT_HOST), port);
        if !is_host(&node.host) {
            return Err(self.wrong("host", "expected a name or an address without a port"));
        }
        if port == 0 {
            return Err(self.wrong("port", "expected a port from 1 to 65535"));
        }
        Ok(Endpoint::Tcp(node))
    }

    fn refuse_host_and_port(&self, place: &str) -> Result<()> {
        for (given, field) in [(self.host.is_some(), "host"), (self.port.is_some(), "port")] {
            if given {
                let place = self.name(place);
                return Err(
                    self.wrong(field, &format!("{place} says where the server is; leave this out"))
                );
            }
        }
        Ok(())
    }

    #[cfg(feature = "tls")]
    fn tls_settings(&self, url: &UrlParts, endpoint: &Endpoint) -> Result<Option<ReadyTls>> {
        let from_url = self.url.as_ref().map(|_| url.tls);
        let wanted = self.tls.or(self.tls_with.as_ref().map(|_| true));
        if self.tls == Some(false) && self.tls_with.is_some() {
            return Err(self.wrong("tls", "off, but there are TLS settings; leave one out"));
        }
        let on = self.agree("tls", from_url, wanted)?.unwrap_or(false);
        if on && matches!(endpoint, Endpoint::Unix(_)) {
            return Err(self.wrong("tls", "a Unix socket has no TLS"));
        }
        on.then(|| self.tls_with.clone().unwrap_or_default().ready()).transpose()
    }

    #[cfg(not(feature = "tls"))]
    fn refuse_tls(&self, url: &UrlParts) -> Result<()> {
        if url.tls || self.tls == Some(true) {
            let field = if url.tls { "url" } else { "tls" };
            return Err(self.wrong(field, "TLS is not compiled in; enable the feature `tls` of `redbrick` or `redbrick-core-conn`"));
        }
        Ok(())
    }

    fn prefix(&self) -> Result<String> {
        let prefix = self.key_prefix.as_deref().unwrap_or_default().trim_end_matches(':');
        if prefix.contains(['{', '}']) {
            return Err(
                self.wrong("key_prefix", "braces would send every key to one slot of a cluster")
            );
        }
        Ok(if prefix.is_empty() { String::new() } else { format!("{prefix}:") })
    }

    fn duration(
        &self,
        field: &str,
        given: Option<Duration>,
        default: Duration,
    ) -> Result<Duration> {
        let duration = given.unwrap_or(default);
        if duration.is_zero() || duration > LONGEST {
            return Err(self.wrong(field, "expected more than zero and at most a day"));
        }
        Ok(duration)
    }

    fn at_most(
        &self,
        field: &str,
        given: Option<NonZeroUsize>,
        most: usize,
    ) -> Result<Option<NonZeroUsize>> {
        match given {
            Some(given) if given.get() > most => {
                Err(self.wrong(field, &format!("expected at most {most}")))
            }
            given => Ok(given),
        }
    }

    /// Merges what the URL says with what a part says.
    fn agree<T: PartialEq>(
        &self,
        field: &str,
        url: Option<T>,
        part: Option<T>,
    ) -> Result<Option<T>> {
        match (url, part) {
            (Some(url), Some(part)) if url != part => {
                let url = self.name("url");
                Err(self
                    .wrong(field, &format!("{url} says something else; leave one of the two out")))
            }
            (url, part) => Ok(url.or(part)),
        }
    }

    fn wrong(&self, field: &str, what: &str) -> Error {
        Error::config(format!("{}: {what}", self.name(field)))
    }

    fn name(&self, field: &str) -> String {
        match (self.from_environment, field) {
            (false, _) => field.to_owned(),
            (true, "database") => "REDIS_DB".to_owned(),
            (true, "memory_threshold") => "REDIS_MAX_MEMORY".to_owned(),
            (true, _) => format!("REDIS_{}", field.to_ascii_uppercase()),
        }
    }
}
