use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::process::Signal;

use crate::{
    CommandCounts, Error, Proxy, Reply, ServerBuilder, Version,
    config::Admin,
    counts::Ledger,
    launch::Readiness,
    link::{self, Link},
    ports::Port,
    process::Process,
    provision::Found,
    wait::{PATIENCE, poll},
};

/// A real server of its own: a process on a loopback port, in a temporary directory, without persistence.
///
/// It ends when this is dropped. When this is never dropped (a `static`, a panic that aborts, `kill -9`, Ctrl-C) a
/// watchdog ends it as soon as the process is gone, and removes its directory.
///
/// Its configuration is `bind 127.0.0.1`, its port, directory and Unix socket, `save ""`, `appendonly no`,
/// `repl-diskless-sync-delay 0`, DEBUG allowed, and what the builder adds.
#[derive(Debug)]
pub struct Server {
    // Before the port, which another server may have only when this one is gone.
    pub(crate) process: Process,
    pub(crate) port: Port,
    pub(crate) found: Found,
    pub(crate) socket: PathBuf,
    pub(crate) admin: Option<Admin>,
    pub(crate) ledger: Mutex<Ledger>,
    /// Held by who kills or restarts.
    pub(crate) turn: Mutex<()>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::Tls>,
}

impl Server {
    /// Starts a server with default settings, whichever can be had.
    ///
    /// # Errors
    ///
    /// As [`ServerBuilder::start`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// Settings for a server to be started.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// The address by name, `127.0.0.1`.
    #[must_use]
    pub fn host(&self) -> &str {
        "127.0.0.1"
    }

    /// The TCP port; it speaks TLS when the builder asked for it. The same through all restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Address and port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// `redis://127.0.0.1:PORT`, or `rediss://…` with TLS; without credentials.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme(), self.address())
    }

    /// The Unix socket that the server listens on as well; in a directory that only this user can enter.
    #[must_use]
    pub fn unix_socket(&self) -> &Path {
        &self.socket
    }

    /// The number of the server's process; it changes with a restart.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What server it is.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.found.version
    }

    /// The program that was started and where it came from.
    #[must_use]
    pub fn program(&self) -> &Found {
        &self.found
    }

    /// The certificates, when the server speaks TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(&self) -> Option<&crate::Tls> {
        self.tls.as_ref()
    }

    /// Sends a command as an administrator who may do everything, over the Unix socket: whatever users, TLS or faults
    /// stand before the port. Each call has a connection of its own, so nothing is remembered (`SELECT`, `MULTI`).
    ///
    /// Blocks until the server answers, for at most 30 s.
    ///
    /// # Errors
    ///
    /// [`Error::Reply`] when the server refuses, [`Error::Down`] when it is not running, [`Error::Timeout`] when it is
    /// paused or busy and [`Error::Io`]; the command may or may not have run in the last two cases.
    pub fn command<A: AsRef<[u8]>>(
        &self,
        command: impl IntoIterator<Item = A>,
    ) -> Result<Reply, Error> {
        let command: Vec<_> = command.into_iter().collect();
        let mut replies = self.exchange(&[&command])?;
        link::answer(&command, Ok(replies.pop().unwrap_or(Reply::Nil)))
    }

    /// How often the server ran each command since it was ready (`INFO commandstats`); what [`command`](Self::command)
    /// and this crate itself sent is taken off (but for what another thread is sending that way just now).
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command).
    pub fn command_counts(&self) -> Result<CommandCounts, Error> {
        let info = self.exchange(&[&["INFO", "commandstats"]])?.pop();
        let text = info.as_ref().and_then(Reply::as_str).unwrap_or_default();
        let mut counts = CommandCounts::parse(text);
        // The server counts a command after it ran it, so this INFO is noted but not yet in its own answer.
        let mut earlier = self.ledger().clone();
        earlier.forget_one("info|commandstats");
        earlier.take_off(&mut counts);
        Ok(counts)
    }

    /// The commands that `calls` make the server run, as `get 2, set 1`, in alphabetical order; without those that clients
    /// send for themselves (see [`CommandCounts::of_calls`]).
    ///
    /// ```
    /// # use redbrick_testkit::{Error, Server};
    /// # async fn f(server: Server, visit: impl Future<Output = ()>) -> Result<(), Error> {
    /// assert_eq!(server.cost(visit).await?, "incr 1");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command).
    pub async fn cost(&self, calls: impl Future<Output = ()>) -> Result<String, Error> {
        let before = self.command_counts()?;
        calls.await;
        let used = self.command_counts()?.since(&before).of_calls();
        let used = used.iter().map(|(name, count)| format!("{name} {count}"));
        Ok(used.collect::<Vec<_>>().join(", "))
    }

    /// The bytes that a key and its value take in the server's memory, every element counted (`MEMORY USAGE key
    /// SAMPLES 0`); `None` when there is no such key.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command).
    pub fn memory_usage(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>, Error> {
        let command: [&[u8]; 5] = [b"MEMORY", b"USAGE", key.as_ref(), b"SAMPLES", b"0"];
        Ok(self.command(command)?.as_int().and_then(|bytes| u64::try_from(bytes).ok()))
    }

    /// What the server wrote to its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Whether the process runs; a paused one does.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Stops the process where it is (`SIGSTOP`): connections stay open, new ones are accepted by the kernel, nothing
    /// is answered, and what was sent meanwhile is executed when it goes on.
    ///
    /// It goes on (`SIGCONT`) when the returned guard is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Down`] when it is not running, [`Error::Io`] when it cannot be signalled.
    pub fn pause(&self) -> Result<Paused<'_>, Error> {
        if self.process.signal(Signal::STOP)? {
            Ok(Paused { server: self })
        } else {
            Err(self.down())
        }
    }

    /// Kills the process (`kill -9`) and waits until it is gone; its connections end, its port refuses. Does nothing
    /// when it is down already.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be signalled, [`Error::Timeout`] when it does not end within 30 s.
    pub fn kill(&self) -> Result<(), Error> {
        let _turn = self.turn();
        self.end()
    }

    /// Kills the process if it runs and starts it again on the same port, in the same directory, with the same
    /// settings, and waits until it answers. Data and scripts are gone unless the settings keep them
    /// (`config("appendonly", "yes")`); command counts start from zero when it answers.
    ///
    /// # Errors
    ///
    /// As [`kill`](Self::kill) and [`ServerBuilder::start`]. The server is down then; after [`Error::Timeout`] it may
    /// still be on its way.
    pub fn restart(&self) -> Result<(), Error> {
        let _turn = self.turn();
        self.end()?;
        // Somebody else may have taken the port meanwhile, and may give it back.
        let restarted = poll(PATIENCE, || {
            *self.ledger() = Ledger::default();
            let written = self.process.output().len();
            self.process.start_again()?;
            match self.await_ready(written)? {
                Readiness::Ready => Ok(Some(())),
                Readiness::PortTaken => Ok(None),
            }
        })?;
        restarted.ok_or_else(|| {
            Error::timeout(
                format!("the release of port {} by another process", self.port()),
                PATIENCE,
            )
        })
    }

    /// Puts a proxy before the server's TCP port, over which faults can be made.
    ///
    /// # Errors
    ///
    /// As [`Proxy::to`].
    pub fn proxy(&self) -> Result<Proxy, Error> {
        Proxy::with_scheme(self.address(), self.scheme())
    }

    pub(crate) fn scheme(&self) -> &'static str {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return "rediss";
        }
        "redis"
    }

    /// Sends commands over one connection of their own.
    pub(crate) fn exchange<A: AsRef<[u8]>>(&self, commands: &[&[A]]) -> Result<Vec<Reply>, Error> {
        if !self.process.is_running() {
            return Err(self.down());
        }
        let mut link = Link::unix(&self.socket)
            .map_err(Error::io("connecting to the server's Unix socket"))?;
        if let Some(Admin { name, password }) = &self.admin {
            let auth = ["AUTH", name, password];
            let reply = link::answer(&auth, link.call(&auth))?;
            self.ledger().note(&["AUTH"], &reply);
        }
        let mut replies = Vec::with_capacity(commands.len());
        for command in commands {
            let reply = link.call(command);
            if let Ok(reply) = &reply {
                self.ledger().note(command, reply);
            }
            match reply {
                Ok(reply) => replies.push(reply),
                failed => return link::answer(command, failed).map(|_| Vec::new()),
            }
        }
        Ok(replies)
    }

    fn end(&self) -> Result<(), Error> {
        self.process.signal(Signal::KILL)?;
        self.process.await_end()
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn down(&self) -> Error {
        Error::Down { port: self.port() }
    }
}

/// A server that stands still until this is dropped.
#[derive(Debug)]
#[must_use = "the server goes on when this is dropped"]
pub struct Paused<'a> {
    server: &'a Server,
}

impl Paused<'_> {
    /// Lets the server go on.
    pub fn resume(self) {}
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        // Killed meanwhile, it has nothing to go on with.
        let _ = self.server.process.signal(Signal::CONT);
    }
}
