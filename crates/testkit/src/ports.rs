use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

use crate::unique::random;

/// A loopback port that nobody else in this process is given while this lives.
///
/// Ports come from below the range that systems take for outgoing connections, so that a port stays free while its
/// server is down and can be had again by the restarted one.
#[derive(Debug)]
pub(crate) struct Port(u16);

impl Port {
    /// Claims a port on which nobody listens, and nobody at its cluster bus either (10000 above).
    pub(crate) fn claim() -> io::Result<Self> {
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        let start = u16::try_from(random() % u64::from(COUNT)).unwrap_or(0);
        for step in 0..COUNT {
            let port = FIRST + (start + step) % COUNT;
            if !claimed.contains(&port) && is_free(port) && is_free(port + BUS) {
                claimed.insert(port);
                return Ok(Self(port));
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "no loopback port from 10000 to 19999 is free",
        ))
    }

    pub(crate) fn number(&self) -> u16 {
        self.0
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        CLAIMED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// How far above its port a cluster node's bus listens.
pub(crate) const BUS: u16 = 10_000;
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;
static CLAIMED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
