use std::{
    env, fmt,
    io::{self, Write},
    str::FromStr,
    sync::OnceLock,
};

use crate::{Cluster, Error, Reply, Sentinel, Server, external::External};

/// The server of this test binary: the first call gets it, all later ones give the same.
///
/// Tests that share it keep apart by [`unique`](crate::unique) keys. It ends with the process.
///
/// `REDBRICK_TEST_TOPOLOGY` says how its servers hang together, so that one suite can be run on each:
/// `standalone` (which it is without the variable), `cluster`, `sentinel` or `tls`. With `REDIS_URL` it is the server
/// named there, which is announced on stderr, and no other topology goes with that.
///
/// # Panics
///
/// When no server can be had, with the reasons and what to install; when a variable has a value that is not accepted.
pub fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| match Shared::get() {
        Ok(shared) => shared,
        Err(err) => panic!("tests need a server: {err}"),
    })
}

/// What [`shared`] gives.
#[derive(Debug)]
pub struct Shared {
    url: String,
    topology: Topology,
    inner: Inner,
}

/// How the servers behind [`shared`] hang together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Topology {
    /// One server; also the one of `REDIS_URL`, whatever that is.
    #[default]
    Standalone,
    /// Three masters with a replica each.
    Cluster,
    /// A master, a replica and three sentinels.
    Sentinel,
    /// One server that speaks TLS only.
    Tls,
}

#[derive(Debug)]
enum Inner {
    External(External),
    Server(Box<Server>),
    Cluster(Box<Cluster>),
    Sentinel(Box<Sentinel>),
}

impl Shared {
    /// Where clients connect: `redis://…`, `redis-cluster://…`, `redis-sentinel://…` or `rediss://…`; what `REDIS_URL`
    /// says, when it is set.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How the servers hang together.
    #[must_use]
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// The server itself, for what needs more than commands; `None` when there are several, or when somebody else runs
    /// it.
    #[must_use]
    pub fn server(&self) -> Option<&Server> {
        match &self.inner {
            Inner::Server(server) => Some(server),
            _ => None,
        }
    }

    /// The cluster itself, when it is one.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster> {
        match &self.inner {
            Inner::Cluster(cluster) => Some(cluster),
            _ => None,
        }
    }

    /// The master, its replica and the sentinels themselves, when they are that.
    #[must_use]
    pub fn sentinel(&self) -> Option<&Sentinel> {
        match &self.inner {
            Inner::Sentinel(sentinel) => Some(sentinel),
            _ => None,
        }
    }

    /// The authority to trust and a client's certificate, when the server speaks TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(&self) -> Option<&crate::Tls> {
        self.server()?.tls()
    }

    /// Sends a command as an administrator, on a connection of its own: to the master of the moment, and on a cluster to
    /// the node that it belongs to. On the server of `REDIS_URL` it is sent as the user who is named there.
    ///
    /// # Errors
    ///
    /// As [`Server::command`]; [`Error::Config`] when `REDIS_URL` is a URL that this crate cannot speak to, as
    /// `rediss://`.
    pub fn command<A: AsRef<[u8]>>(
        &self,
        command: impl IntoIterator<Item = A>,
    ) -> Result<Reply, Error> {
        match &self.inner {
            Inner::External(external) => external.command(&command.into_iter().collect::<Vec<_>>()),
            Inner::Server(server) => server.command(command),
            Inner::Cluster(cluster) => cluster.command(command),
            Inner::Sentinel(sentinel) => sentinel.command(command),
        }
    }

    fn get() -> Result<Self, Error> {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let topology = variable(TOPOLOGY).map_or(Ok(Topology::default()), |name| name.parse())?;
        if let Some(url) = variable("REDIS_URL") {
            return Self::external(url, topology);
        }
        let (url, inner) = match topology {
            Topology::Standalone => {
                let server = Server::start()?;
                (server.url(), Inner::Server(Box::new(server)))
            }
            Topology::Tls => {
                let server = start_tls()?;
                (server.url(), Inner::Server(Box::new(server)))
            }
            Topology::Cluster => {
                let cluster = Cluster::start()?;
                (cluster.url(), Inner::Cluster(Box::new(cluster)))
            }
            Topology::Sentinel => {
                let sentinel = Sentinel::start()?;
                (sentinel.url(), Inner::Sentinel(Box::new(sentinel)))
            }
        };
        Ok(Self { url, topology, inner })
    }

    fn external(url: String, topology: Topology) -> Result<Self, Error> {
        let external = External::new(url);
        let place = external.place();
        if topology != Topology::Standalone {
            let reason = format!(
                "REDIS_URL={place} names one server, not a {topology}; unset one of the two"
            );
            return Err(Error::Config { what: format!("{TOPOLOGY}={topology}"), reason });
        }
        // Written past the capture of test output: whose server it is must be seen.
        let _ = writeln!(
            io::stderr(),
            "redbrick-testkit: REDIS_URL is set: these tests use {place} and leave keys there"
        );
        Ok(Self { url: external.url().to_owned(), topology, inner: Inner::External(external) })
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Standalone => "standalone",
            Self::Cluster => "cluster",
            Self::Sentinel => "sentinel",
            Self::Tls => "tls",
        })
    }
}

impl FromStr for Topology {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let all = [Self::Standalone, Self::Cluster, Self::Sentinel, Self::Tls];
        all.into_iter().find(|topology| topology.to_string() == text).ok_or_else(|| Error::Config {
            what: format!("{TOPOLOGY}={text}"),
            reason: "write standalone, cluster, sentinel or tls".into(),
        })
    }
}

#[cfg(feature = "tls")]
fn start_tls() -> Result<Server, Error> {
    Server::builder().tls().start()
}

#[cfg(not(feature = "tls"))]
fn start_tls() -> Result<Server, Error> {
    let reason = "switch the feature `tls` of redbrick-testkit on".into();
    Err(Error::Config { what: format!("{TOPOLOGY}=tls"), reason })
}

const TOPOLOGY: &str = "REDBRICK_TEST_TOPOLOGY";
