mod fault;
mod link;
mod pump;
mod thread;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

pub use fault::Fault;

use self::thread::{Order, ProxyThread};
use crate::{Error, ports::Port};

/// Stands before a server and does to its connections what networks do.
///
/// It has a thread of its own, so that it works beside any runtime and any test harness. All methods block until what
/// they ask for has happened, which takes a moment; none waits for a client or the server. When this is dropped the
/// port refuses and all its connections are reset.
#[derive(Debug)]
pub struct Proxy {
    // Before the port, which another may have only when this one's thread has ended.
    thread: ProxyThread,
    port: Port,
    scheme: &'static str,
    gauges: Arc<Gauges>,
}

impl Proxy {
    /// Puts a proxy before the server at an address, on a loopback port of its own.
    ///
    /// The server is dialed for each connection when that is accepted; where nobody answers, the client's connection
    /// is reset.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the address cannot be resolved, or no port or thread can be had.
    pub fn to(server: impl ToSocketAddrs) -> Result<Self, Error> {
        let resolved = server.to_socket_addrs().and_then(|mut found| {
            found.next().ok_or_else(|| io::Error::other("the name has no address"))
        });
        Self::with_scheme(resolved.map_err(Error::io("resolving the server's address"))?, "redis")
    }

    pub(crate) fn with_scheme(server: SocketAddr, scheme: &'static str) -> Result<Self, Error> {
        Port::with(|port| {
            let gauges = Arc::<Gauges>::default();
            match ProxyThread::start(port.number(), server, Arc::clone(&gauges)) {
                Ok(thread) => Ok(Some(Self { thread, port, scheme, gauges })),
                Err(err) if err.kind() == io::ErrorKind::AddrInUse => Ok(None),
                Err(source) => Err(Error::Io { what: "starting a proxy".into(), source }),
            }
        })
    }

    /// The port to connect to instead of the server's. The same for the proxy's life.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Address and port to connect to instead of the server's.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// `redis://127.0.0.1:PORT`; `rediss://…` when it was made by [`Server::proxy`](crate::Server::proxy) of a server
    /// that speaks TLS.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address())
    }

    /// Sets the fault that all connections have from now on, those that are open and those to come, instead of the one
    /// before. What the proxy reads after this returns is subject to it.
    pub fn set(&self, fault: Fault) {
        self.thread.set(Some(fault), None);
    }

    /// Sets a fault that only the connections of this moment have, instead of the one before; those to come have none.
    /// So does a network in which the path of one connection breaks, while a new one finds another path.
    pub fn set_for_open(&self, fault: Fault) {
        self.thread.order(Order::Admit);
        self.thread.set(Some(fault), Some(0..self.connections()));
    }

    /// Sets a fault that only the connection has which was accepted last, instead of the one before.
    pub fn set_for_newest(&self, fault: Fault) {
        self.thread.order(Order::Admit);
        let count = self.connections();
        self.thread.set(Some(fault), Some(count.saturating_sub(1)..count));
    }

    /// Ends the fault. What was held back goes on; connections that lost bytes by [`Fault::DropReplies`] are reset,
    /// for after a hole no network goes on either.
    pub fn clear(&self) {
        self.thread.set(None, None);
    }

    /// Resets all connections (RST), on both sides. What was on its way is lost. New ones are accepted.
    pub fn reset(&self) {
        self.thread.order(Order::Reset);
    }

    /// Closes all connections (FIN), on both sides, as a server does that ends them in good order. What was on its way
    /// is lost. New ones are accepted.
    pub fn close(&self) {
        self.thread.order(Order::Close);
    }

    /// Refuses new connections (`ECONNREFUSED`) until [`accept`](Self::accept). Those that are open go on; follow with
    /// [`reset`](Self::reset) to end them too.
    pub fn refuse(&self) {
        self.thread.order(Order::Refuse);
    }

    /// Accepts connections again, on the same port. Does nothing when it does so already.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when another process took the port meanwhile; it goes on refusing then.
    pub fn accept(&self) -> Result<(), Error> {
        self.thread
            .try_order(Order::Accept)
            .map_err(Error::io("listening on the proxy's port again"))
    }

    /// How many connections it accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.gauges.accepted.load(Ordering::Relaxed)
    }

    /// How many connections are open.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.gauges.open.load(Ordering::Relaxed)
    }

    /// How many bytes of requests it handed to the server so far.
    #[must_use]
    pub fn request_bytes(&self) -> u64 {
        self.gauges.request_bytes.load(Ordering::Relaxed)
    }

    /// How many bytes of replies it handed to clients so far.
    #[must_use]
    pub fn reply_bytes(&self) -> u64 {
        self.gauges.reply_bytes.load(Ordering::Relaxed)
    }

    /// How many bytes of replies it threw away so far.
    #[must_use]
    pub fn dropped_bytes(&self) -> u64 {
        self.gauges.dropped_bytes.load(Ordering::Relaxed)
    }
}

/// What a proxy counts.
#[derive(Debug, Default)]
struct Gauges {
    accepted: AtomicU64,
    open: AtomicU64,
    request_bytes: AtomicU64,
    reply_bytes: AtomicU64,
    dropped_bytes: AtomicU64,
}
