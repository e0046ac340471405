mod builder;
mod check;
mod endpoint;
mod env;
mod file;
mod node;
mod read_from;
mod url;

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

#[cfg(feature = "tls")]
use crate::tls::ReadyTls;
use crate::{Codec, CredentialProvider, Error, Result, Secret};

pub use builder::ConfigBuilder;
pub use endpoint::SentinelConfig;
pub(crate) use endpoint::{Endpoint, Sentinels};
pub(crate) use node::Node;
pub use read_from::ReadFrom;

/// The host that is dialed when none is named.
pub const DEFAULT_HOST: &str = "localhost";
/// The port that is dialed when none is named.
pub const DEFAULT_PORT: u16 = 6379;
/// The port of a sentinel when none is named.
pub const DEFAULT_SENTINEL_PORT: u16 = 26379;
/// How long [`Conn::connect`](crate::Conn::connect) tries: 10 s.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a call may take, its retries included: 5 s.
pub const DEFAULT_COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a call is repeated where repeating is safe.
pub const DEFAULT_RETRIES: u32 = 3;
/// The shortest and the longest pause between two attempts to reconnect: 50 ms and 2 s.
pub const DEFAULT_RECONNECT_DELAY: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(2));
/// How many calls of a connection may wait at servers at once: 16.
pub const DEFAULT_BLOCKING_LINKS: NonZeroUsize = NonZeroUsize::new(16).expect("it is not zero");
/// How often a link with subscriptions is probed: every 2 s.
pub const DEFAULT_PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// From when on an operation is logged as slow: 1 s.
pub const DEFAULT_SLOW_THRESHOLD: Duration = Duration::from_secs(1);
/// How many calls may wait for a link or an answer at once: 10,000.
pub const DEFAULT_MAX_WAITING: NonZeroUsize = NonZeroUsize::new(10_000).expect("it is not zero");

/// Everything a [`Conn`](crate::Conn) needs to know, checked.
///
/// A `Config` comes from a [builder](Self::builder), a [URL](Self::from_url), the
/// [environment](Self::from_env) or, with serde, a configuration file: a URL as a text, or a table with the
/// [builder's field names](ConfigBuilder).
/// A wrong value is an error here, before any I/O; the error names the field or the variable and says
/// what is expected.
///
/// # URLs
///
/// ```text
/// redis://[[user]:password@]host[:port][/database]        valkey:// means the same
/// rediss://…  valkeys://…                                 with TLS
/// redis-cluster://host:port?node=host:port&node=…         rediss-, valkey-, valkeys-cluster too
/// redis-sentinel://host:port[/database]?service=mymaster&node=host:port
///                      [&sentinelUsername=…&sentinelPassword=…]    likewise
/// unix:///path/to/socket[?db=database]                    redis+unix, valkey+unix too
/// ```
///
/// User and password are percent-decoded. Any other scheme, and any other parameter, is refused.
///
/// # A URL and parts
///
/// What the URL leaves open, the parts fill in; what neither says has its default. Where both speak and
/// disagree, that is an error: neither silently wins.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) endpoint: Endpoint,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) credential_provider: Option<Arc<dyn CredentialProvider>>,
    pub(crate) database: u8,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<ReadyTls>,
    pub(crate) key_prefix: String,
    pub(crate) client_name: Option<String>,
    pub(crate) codec: Codec,
    pub(crate) command_links: NonZeroUsize,
    pub(crate) blocking_links: NonZeroUsize,
    pub(crate) connect_timeout: Duration,
    pub(crate) command_timeout: Duration,
    pub(crate) retries: u32,
    pub(crate) reconnect_delay: (Duration, Duration),
    pub(crate) probe_interval: Duration,
    pub(crate) retry_auth_errors: bool,
    pub(crate) ready_check: bool,
    pub(crate) lazy: bool,
    pub(crate) max_waiting: NonZeroUsize,
    pub(crate) read_from: ReadFrom,
    pub(crate) optional: bool,
    pub(crate) memory_threshold: Option<u64>,
    pub(crate) slow_threshold: Duration,
}

impl Config {
    /// Starts from the defaults: one plain TCP link to `localhost:6379`, database 0.
    #[must_use]
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// Reads a URL; see [the type's documentation](Self) for its forms.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the part of the URL that is wrong.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::builder().url(url).build()
    }

    /// Reads the process's environment.
    ///
    /// | variable | meaning | default |
    /// |---|---|---|
    /// | `REDIS_URL` | a URL, as above | none |
    /// | `REDIS_HOST`, `REDIS_PORT` | the server | `localhost`, 6379 |
    /// | `REDIS_USERNAME`, `REDIS_PASSWORD` | the credentials | none |
    /// | `REDIS_DB` | the database, 0 to 255 | 0 |
    /// | `REDIS_TLS` | `true` or `false` | `false` |
    /// | `REDIS_KEY_PREFIX` | put before every key; `myapp` and `myapp:` mean the same | none |
    /// | `REDIS_OPTIONAL` | `true`: without a server, calls answer with nothing | `false` |
    /// | `REDIS_MAX_MEMORY` | health warns above it: bytes, or with `kb`, `mb`, `gb` | none |
    ///
    /// A variable that is set to nothing counts as not set; so does a `REDIS_PORT` that Kubernetes sets for a service of
    /// that name (`tcp://…`). For what has no variable, see [`ConfigBuilder::from_env`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the variable and what it should look like.
    pub fn from_env() -> Result<Self> {
        ConfigBuilder::from_env()?.build()
    }

    /// Reads variables from anywhere, by the names of [`from_env`](Self::from_env); others are ignored.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_vars<K, V>(vars: impl IntoIterator<Item = (K, V)>) -> Result<Self>
    where
        K: AsRef<str>,
        V: Into<String>,
    {
        env::read(vars.into_iter().map(|(name, value)| (name, value.into())))?.build()
    }
}

impl TryFrom<&str> for Config {
    type Error = Error;

    /// Reads a URL.
    fn try_from(url: &str) -> Result<Self> {
        Self::from_url(url)
    }
}

impl TryFrom<String> for Config {
    type Error = Error;

    /// Reads a URL.
    fn try_from(url: String) -> Result<Self> {
        Self::from_url(&url)
    }
}

impl TryFrom<&String> for Config {
    type Error = Error;

    /// Reads a URL.
    fn try_from(url: &String) -> Result<Self> {
        Self::from_url(url)
    }
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = Error;

    fn try_from(builder: ConfigBuilder) -> Result<Self> {
        builder.build()
    }
}
