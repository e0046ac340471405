use std::{num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use serde::Deserialize;

use super::{
    Config, DEFAULT_COMMAND_TIMEOUT, DEFAULT_CONNECT_TIMEOUT, DEFAULT_HOST, DEFAULT_MAX_WAITING,
    DEFAULT_PORT, DEFAULT_RECONNECT_DELAY, DEFAULT_RETRIES, DEFAULT_SENTINEL_PORT, Endpoint, Node,
    node::is_host,
    url::{self, Form, UrlParts},
};
#[cfg(feature = "tls")]
use crate::Tls;
use crate::{Codec, CredentialProvider, Error, Result, Secret};

/// Longer than anybody waits for a connection or an answer.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Collects what makes a [`Config`]; [`build`](Self::build) checks it.
///
/// With serde the fields have the names of the setters, durations are texts such as `"5s"` or
/// `"250ms"`, and an unknown field is an error. `tls_with` and `credential_provider` have no text form.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigBuilder {
    url: Option<Secret>,
    host: Option<String>,
    port: Option<u16>,
    unix_socket: Option<PathBuf>,
    cluster: Vec<String>,
    sentinel: Option<SentinelParts>,
    username: Option<String>,
    password: Option<Secret>,
    #[serde(skip)]
    credential_provider: Option<Arc<dyn CredentialProvider>>,
    database: Option<u8>,
    tls: Option<bool>,
    #[cfg(feature = "tls")]
    #[serde(skip)]
    tls_with: Option<Tls>,
    key_prefix: Option<String>,
    client_name: Option<String>,
    codec: Codec,
    command_links: Option<NonZeroUsize>,
    #[serde(with = "humantime_serde")]
    connect_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    command_timeout: Option<Duration>,
    retries: Option<u32>,
    #[serde(with = "humantime_serde")]
    reconnect_delay_min: Option<Duration>,
    #[serde(with = "humantime_serde")]
    reconnect_delay_max: Option<Duration>,
    retry_auth_errors: bool,
    ready_check: Option<bool>,
    lazy: bool,
    max_waiting: Option<NonZeroUsize>,
    max_memory: Option<u64>,
    #[serde(skip)]
    from_environment: bool,
}

/// A master that Sentinel looks after: its name, the sentinels, and their own credentials.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SentinelParts {
    /// The name the sentinels know the master by.
    pub service: String,
    /// The sentinels, each `host:port`; the port defaults to 26379.
    pub nodes: Vec<String>,
    /// The user at the sentinels, if they have one of their own.
    #[serde(default)]
    pub username: Option<String>,
    /// The password at the sentinels, if they want one.
    #[serde(default)]
    pub password: Option<Secret>,
}

impl SentinelParts {
    /// The master `service`, asked for at `nodes`.
    pub fn new<N: Into<String>>(
        service: impl Into<String>,
        nodes: impl IntoIterator<Item = N>,
    ) -> Self {
        Self {
            service: service.into(),
            nodes: nodes.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
}

impl ConfigBuilder {
    /// Sets the URL; see [`Config`] for its forms.
    ///
    /// Default: none.
    #[must_use]
    pub fn url(mut self, url: impl Into<Secret>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// Sets the host: a name or an address, without a port.
    ///
    /// Default: `localhost`.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Sets the port.
    ///
    /// Default: 6379.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Connects through a Unix socket instead of TCP.
    ///
    /// Default: TCP.
    #[must_use]
    pub fn unix_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.unix_socket = Some(path.into());
        self
    }

    /// Connects to a Cluster that any of `nodes`, each `host:port`, can describe.
    ///
    /// Default: a single server.
    #[must_use]
    pub fn cluster<N: Into<String>>(mut self, nodes: impl IntoIterator<Item = N>) -> Self {
        self.cluster = nodes.into_iter().map(Into::into).collect();
        self
    }

    /// Connects to the master that Sentinel names, and follows it after a failover.
    ///
    /// Default: a single server.
    #[must_use]
    pub fn sentinel(mut self, sentinel: SentinelParts) -> Self {
        self.sentinel = Some(sentinel);
        self
    }

    /// Sets the ACL user.
    ///
    /// Default: the server's default user.
    #[must_use]
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// Sets the password.
    ///
    /// Default: none.
    #[must_use]
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Asks `provider` for credentials that can change while the connection is in use.
    ///
    /// Default: the fixed user name and password.
    #[must_use]
    pub fn credential_provider(mut self, provider: impl CredentialProvider) -> Self {
        self.credential_provider = Some(Arc::new(provider));
        self
    }

    /// Sets the database. Cluster has only database 0.
    ///
    /// Default: 0.
    #[must_use]
    pub fn database(mut self, database: u8) -> Self {
        self.database = Some(database);
        self
    }

    /// Turns TLS on or off; on means [`Tls::new`](crate::Tls::new) with its defaults. Needs the feature
    /// `tls`.
    ///
    /// Default: off, or what the URL's scheme says.
    #[must_use]
    pub fn tls(mut self, tls: bool) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Turns TLS on with an authority, client certificate or server name of your own.
    ///
    /// Default: off, or what the URL's scheme says.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls_with(mut self, tls: Tls) -> Self {
        self.tls_with = Some(tls);
        self
    }

    /// Sets what is put before every key, followed by a colon: `myapp` and `myapp:` mean the same.
    ///
    /// Default: nothing.
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = Some(prefix.into());
        self
    }

    /// Sets the name that `CLIENT LIST` shows. A server that refuses it (by ACL) is not an error.
    ///
    /// Default: none.
    #[must_use]
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = Some(name.into());
        self
    }

    /// Sets how values are written.
    ///
    /// Default: [`Codec::MessagePack`].
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Sets how many links carry commands. One is pipelined and serves thousands of calls at once;
    /// more help when single values are megabytes.
    ///
    /// Default: 1.
    #[must_use]
    pub fn command_links(mut self, links: NonZeroUsize) -> Self {
        self.command_links = Some(links);
        self
    }

    /// Sets how long connecting may take in all: name look-up, handshake, credentials, ready check.
    ///
    /// Default: 10 seconds.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// Sets how long a call may take in all: waiting for the link, the round trip, retries. See
    /// [`Conn::with_command_timeout`](crate::Conn::with_command_timeout) for single calls.
    ///
    /// Default: 5 seconds.
    #[must_use]
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.command_timeout = Some(timeout);
        self
    }

    /// Sets how often a call is repeated after a failure that may pass, where repeating is safe: reads,
    /// and writes that come to the same when done twice. An increment is repeated only when it surely
    /// did not run.
    ///
    /// Default: 3.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// Sets the shortest and the longest pause between attempts to reconnect; the pause doubles with
    /// each attempt and is spread by up to 50 ms.
    ///
    /// Default: 50 milliseconds to 2 seconds.
    #[must_use]
    pub fn reconnect_delay(mut self, min: Duration, max: Duration) -> Self {
        self.reconnect_delay_min = Some(min);
        self.reconnect_delay_max = Some(max);
        self
    }

    /// Goes on trying after the server has refused the credentials, instead of giving up.
    ///
    /// Default: false. The connection then goes to [`State::Error`](crate::State::Error), unless a
    /// credential provider has something new to offer.
    #[must_use]
    pub fn retry_auth_errors(mut self, retry: bool) -> Self {
        self.retry_auth_errors = retry;
        self
    }

    /// Sets whether a new link must answer a PING before it counts as connected. The check waits for a
    /// server that is loading its data set. It needs the right to PING.
    ///
    /// Default: true.
    #[must_use]
    pub fn ready_check(mut self, ready_check: bool) -> Self {
        self.ready_check = Some(ready_check);
        self
    }

    /// Makes [`Conn::connect`](crate::Conn::connect) return at once; the first call connects.
    ///
    /// Default: false.
    #[must_use]
    pub fn lazy(mut self, lazy: bool) -> Self {
        self.lazy = lazy;
        self
    }

    /// Sets how many calls may wait on one link; above that a call fails at once with
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy).
    ///
    /// Default: 10,000.
    #[must_use]
    pub fn max_waiting(mut self, calls: NonZeroUsize) -> Self {
        self.max_waiting = Some(calls);
        self
    }

    /// Sets the memory, in bytes, above which [`Health`](crate::Health) warns. The server is not
    /// configured.
    ///
    /// Default: no warning.
    #[must_use]
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = Some(bytes);
        self
    }

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
            return Err(self.wrong("username", "a user name needs a password"));
        }
        if self.credential_provider.is_some() && password.is_some() {
            return Err(
                self.wrong("password", "give either fixed credentials or a credential provider")
            );
        }
        let (min, max) = DEFAULT_RECONNECT_DELAY;
        let min = self.duration("reconnect_delay_min", self.reconnect_delay_min, min)?;
        let max = self.duration("reconnect_delay_max", self.reconnect_delay_max, max.max(min))?;
        if min > max {
            return Err(
                self.wrong("reconnect_delay_min", "expected no more than reconnect_delay_max")
            );
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
            endpoint,
            credential_provider: self.credential_provider,
            client_name: self.client_name,
            codec: self.codec,
            command_links: self.command_links.unwrap_or(NonZeroUsize::MIN),
            retries: self.retries.unwrap_or(DEFAULT_RETRIES),
            retry_auth_errors: self.retry_auth_errors,
            ready_check: self.ready_check.unwrap_or(true),
            lazy: self.lazy,
            max_waiting: self.max_waiting.map_or(DEFAULT_MAX_WAITING, NonZeroUsize::get),
            max_memory: self.max_memory,
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
            (!self.cluster.is_empty(), "cluster"),
            (self.sentinel.is_some(), "sentinel"),
        ]
        .into_iter()
        .filter_map(|(given, field)| given.then_some(field))
        .collect();
        let ([] | [_]) = named[..] else {
            return Err(Error::config(format!("give only one of: {}", named.join(", "))));
        };

        if let Some(url) = url.filter(|url| url.form != Form::Single) {
            self.refuse_host_and_port("url")?;
            return self.endpoint_of_url(url);
        }
        if let Some(path) = &self.unix_socket {
            self.refuse_host_and_port("unix_socket")?;
            return Ok(Endpoint::Unix(path.clone()));
        }
        if !self.cluster.is_empty() {
            self.refuse_host_and_port("cluster")?;
            let nodes = self.cluster.iter().map(|node| Node::parse(node, DEFAULT_PORT, "cluster"));
            return nodes.collect::<Result<_>>().map(Endpoint::Cluster);
        }
        if let Some(sentinel) = &self.sentinel {
            self.refuse_host_and_port("sentinel")?;
            let nodes = sentinel
                .nodes
                .iter()
                .map(|node| Node::parse(node, DEFAULT_SENTINEL_PORT, "sentinel"));
            return self.sentinel_endpoint(
                nodes.collect::<Result<_>>()?,
                Some(&sentinel.service),
                sentinel.username.clone(),
                sentinel.password.clone(),
            );
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

    fn endpoint_of_url(&self, url: &UrlParts) -> Result<Endpoint> {
        if let Some(path) = &url.socket {
            return Ok(Endpoint::Unix(path.clone()));
        }
        let default_port =
            if url.form == Form::Cluster { DEFAULT_PORT } else { DEFAULT_SENTINEL_PORT };
        let first = Node::new(
            url.host.as_deref().unwrap_or(DEFAULT_HOST),
            url.port.unwrap_or(default_port),
        );
        let nodes = std::iter::once(first).chain(url.nodes.iter().cloned()).collect();
        if url.form == Form::Cluster {
            return Ok(Endpoint::Cluster(nodes));
        }
        self.sentinel_endpoint(
            nodes,
            url.service.as_deref(),
            url.sentinel_username.clone(),
            url.sentinel_password.clone(),
        )
    }

    fn sentinel_endpoint(
        &self,
        nodes: Vec<Node>,
        service: Option<&str>,
        username: Option<String>,
        password: Option<Secret>,
    ) -> Result<Endpoint> {
        let field = if self.sentinel.is_some() { "sentinel" } else { "url" };
        let service = service.unwrap_or_default().to_owned();
        if service.is_empty() || nodes.is_empty() {
            return Err(self.wrong(field, "expected the service's name and at least one sentinel"));
        }
        if username.is_some() && password.is_none() {
            return Err(self.wrong(field, "a user name at the sentinels needs a password"));
        }
        Ok(Endpoint::Sentinel { nodes, service, username, password })
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
    fn tls_settings(&self, url: &UrlParts, endpoint: &Endpoint) -> Result<Option<Tls>> {
        let from_url = self.url.as_ref().map(|_| url.tls);
        let wanted = self.tls.or(self.tls_with.as_ref().map(|_| true));
        if self.tls == Some(false) && self.tls_with.is_some() {
            return Err(self.wrong("tls", "off, but there are TLS settings; leave one out"));
        }
        let on = self.agree("tls", from_url, wanted)?.unwrap_or(false);
        if on && matches!(endpoint, Endpoint::Unix(_)) {
            return Err(self.wrong("tls", "a Unix socket has no TLS"));
        }
        Ok(on.then(|| self.tls_with.clone().unwrap_or_default()))
    }

    #[cfg(not(feature = "tls"))]
    fn refuse_tls(&self, url: &UrlParts) -> Result<()> {
        if url.tls || self.tls == Some(true) {
            let field = if url.tls { "url" } else { "tls" };
            return Err(self.wrong(field, "TLS is not compiled in; enable the feature `tls`"));
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
            (true, _) => format!("REDIS_{}", field.to_ascii_uppercase()),
        }
    }
}
