use std::{num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Deserializer};

use super::{ReadFrom, SentinelConfig, env};
#[cfg(feature = "tls")]
use crate::Tls;
use crate::{Codec, CredentialProvider, Error, Result, Secret};

/// Collects what makes a [`Config`](crate::Config); [`build`](Self::build) checks it.
///
/// With serde the fields have the names of the setters, but for `reconnect_delay_min` and
/// `reconnect_delay_max`. Durations are texts such as `"5s"` or `"250ms"`, `memory_threshold` is a number of
/// bytes or a text such as `"256mb"`, and an unknown field is an error. `tls_with` and `credential_provider`
/// have no text form.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigBuilder {
    pub(super) url: Option<Secret>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) unix_socket: Option<PathBuf>,
    pub(super) cluster: Option<Vec<String>>,
    pub(super) sentinel: Option<SentinelConfig>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    #[serde(skip)]
    pub(super) credential_provider: Option<Arc<dyn CredentialProvider>>,
    pub(super) database: Option<u8>,
    pub(super) tls: Option<bool>,
    #[cfg(feature = "tls")]
    #[serde(skip)]
    pub(super) tls_with: Option<Tls>,
    pub(super) key_prefix: Option<String>,
    pub(super) client_name: Option<String>,
    pub(super) codec: Codec,
    pub(super) command_links: Option<NonZeroUsize>,
    pub(super) blocking_links: Option<NonZeroUsize>,
    #[serde(with = "humantime_serde")]
    pub(super) connect_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) command_timeout: Option<Duration>,
    pub(super) retries: Option<u32>,
    #[serde(with = "humantime_serde")]
    pub(super) reconnect_delay_min: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) reconnect_delay_max: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) probe_interval: Option<Duration>,
    pub(super) retry_auth_errors: bool,
    pub(super) ready_check: Option<bool>,
    pub(super) lazy: bool,
    pub(super) read_from: ReadFrom,
    pub(super) optional: bool,
    pub(super) max_waiting: Option<NonZeroUsize>,
    #[serde(deserialize_with = "bytes")]
    pub(super) memory_threshold: Option<u64>,
    #[serde(with = "humantime_serde")]
    pub(super) slow_threshold: Option<Duration>,
    #[serde(skip)]
    pub(super) from_environment: bool,
}

impl ConfigBuilder {
    /// Begins with what the process's environment says; see [`Config::from_env`](crate::Config::from_env). What is set afterwards replaces it, but a
    /// URL and its parts must agree as ever.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the variable and what it should look like.
    pub fn from_env() -> Result<Self> {
        let mut vars = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with("REDIS_")) else {
                continue;
            };
            let Ok(value) = value.into_string() else {
                return Err(Error::config(format!("{name}: expected UTF-8")));
            };
            vars.push((name.to_owned(), value));
        }
        env::read(vars.into_iter())
    }

    /// Sets the URL; see [`Config`](crate::Config) for its forms.
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
        self.cluster = Some(nodes.into_iter().map(Into::into).collect());
        self
    }

    /// Connects to the master that Sentinel names, and follows it after a failover.
    ///
    /// Default: a single server.
    #[must_use]
    pub fn sentinel(mut self, sentinel: SentinelConfig) -> Self {
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
    #[doc(alias = "db")]
    #[must_use]
    pub fn database(mut self, database: u8) -> Self {
        self.database = Some(database);
        self
    }

    /// Turns TLS on or off; on means `Tls::new` with its defaults. Needs the feature `tls`.
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
    /// more help when single values are megabytes. At most a thousand.
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
    /// each attempt and is spread by up to 50 ms. At least a millisecond.
    ///
    /// Default: 50 milliseconds to 2 seconds.
    #[must_use]
    pub fn reconnect_delay(mut self, min: Duration, max: Duration) -> Self {
        self.reconnect_delay_min = Some(min);
        self.reconnect_delay_max = Some(max);
        self
    }

    /// Sets how many calls of this connection may wait at servers at once, as
    /// [`pop_front_within`](crate::List::pop_front_within) does: each on a link of its own, which is opened when it is
    /// needed and kept for the next one. More take turns of 5 seconds, so have as many as calls that wait. At most 1000.
    ///
    /// Default: 16.
    #[must_use]
    pub fn blocking_links(mut self, links: NonZeroUsize) -> Self {
        self.blocking_links = Some(links);
        self
    }

    /// Sets how often a link with subscriptions publishes a message to itself, to see whether messages arrive. One that
    /// does not work is noticed within two such intervals. At least 100 milliseconds.
    ///
    /// Default: 2 seconds.
    #[must_use]
    pub fn probe_interval(mut self, interval: Duration) -> Self {
        self.probe_interval = Some(interval);
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

    /// Sets whether only a PONG makes a new link count: the check waits for a server that is loading its data set, and fails
    /// without the right to PING. Off, any answer will do but one about credentials.
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

    /// Lets the application run without a server, as in development: connecting does not fail when none is there,
    /// and while none is, each call logs a warning, at most once in [`WARNING_INTERVAL`](crate::WARNING_INTERVAL), and
    /// returns the empty outcome: nothing read, `false`, zero, an empty list. As soon as a server is there it is used.
    /// A server that is there and fails is an error as ever; see [`Call::or_empty`](crate::Call::or_empty).
    ///
    /// Default: off.
    #[must_use]
    pub fn optional(mut self, optional: bool) -> Self {
        self.optional = optional;
        self
    }

    /// Says which servers answer reads: `get`, `exists`, and whatever else only reads one key. The replicas are
    /// those that the master, or the cluster, names.
    ///
    /// Default: [`ReadFrom::Master`]; [`Conn::with_read_from`](crate::Conn::with_read_from) for single calls,
    /// where this one is `Replica`.
    #[must_use]
    pub fn read_from(mut self, read_from: ReadFrom) -> Self {
        self.read_from = read_from;
        self
    }

    /// Sets how many calls may wait for a link or an answer at once, over all links; above that a call fails at
    /// once with [`ErrorKind::Busy`](crate::ErrorKind::Busy). At most a million.
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
    pub fn memory_threshold(mut self, bytes: u64) -> Self {
        self.memory_threshold = Some(bytes);
        self
    }

    /// Sets from when on an operation is slow: one that took at least so long, its wait for a link and its retries included,
    /// is logged as a warning with the name of the command or the script, and counted in
    /// [`Statistics`](crate::Statistics). A connection logs at most one such warning in a second, which says how many more
    /// there were (`more`). Calls that wait at the server, as [`pop_front_within`](crate::List::pop_front_within), are never
    /// slow.
    ///
    /// Zero turns it off, and so does a time that nothing takes, as `Duration::MAX`.
    ///
    /// Default: 1 second.
    #[must_use]
    pub fn slow_threshold(mut self, threshold: Duration) -> Self {
        self.slow_threshold = Some(threshold);
        self
    }
}

/// Reads a number of bytes, or a text as in the environment.
fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Size {
        Bytes(u64),
        Text(String),
    }
    match Option::<Size>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Size::Bytes(bytes)) => Ok(Some(bytes)),
        Some(Size::Text(text)) => {
            env::bytes("memory_threshold", &text).map(Some).map_err(serde::de::Error::custom)
        }
    }
}
