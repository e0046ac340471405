use std::{
    env,
    io::{self, Write},
    sync::OnceLock,
};

use crate::{Error, Reply, Server, external::External};

/// The server of this test binary: the first call gets it, all later ones give the same.
///
/// Tests that share it keep apart by [`unique`](crate::unique) keys. With `REDIS_URL` in the environment it is the
/// server named there, which is announced on stderr.
///
/// # Panics
///
/// When no server can be had, with the reasons and what to install.
pub fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| match Shared::get() {
        Ok(shared) => shared,
        Err(err) => panic!("tests need a server. {err}"),
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
    /// One server.
    #[default]
    Standalone,
}

#[derive(Debug)]
enum Inner {
    External(External),
    Server(Server),
}

impl Shared {
    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How the servers hang together.
    #[must_use]
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// The server itself, for what needs more than commands; `None` when somebody else runs it.
    #[must_use]
    pub fn server(&self) -> Option<&Server> {
        match &self.inner {
            Inner::Server(server) => Some(server),
            Inner::External(_) => None,
        }
    }

    /// Sends a command as an administrator; on a connection of its own.
    ///
    /// # Errors
    ///
    /// As [`Server::command`]; [`Error::Config`] when `REDIS_URL` is a URL that this crate cannot speak to, as
    /// `rediss://`.
    pub fn command<A: AsRef<[u8]>>(
        &self,
        command: impl IntoIterator<Item = A>,
    ) -> Result<Reply, Error> {
        let command: Vec<_> = command.into_iter().collect();
        match &self.inner {
            Inner::External(external) => external.command(&command),
            Inner::Server(server) => server.command(command),
        }
    }

    fn get() -> Result<Self, Error> {
        if let Some(url) = env::var("REDIS_URL").ok().filter(|url| !url.is_empty()) {
            let external = External::new(url);
            let _ = writeln!(
                io::stderr(),
                "redbrick-testkit: REDIS_URL is set: these tests use {}, and leave their keys there",
                external.place()
            );
            let url = external.url().to_owned();
            return Ok(Self {
                url,
                topology: Topology::Standalone,
                inner: Inner::External(external),
            });
        }
        let server = Server::start()?;
        Ok(Self { url: server.url(), topology: Topology::Standalone, inner: Inner::Server(server) })
    }
}
