use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

use crate::{Error, unique::random};

/// A loopback port that nobody else in this process is given while this lives.
///
/// Ports come from below the range that systems take for outgoing connections, so that a port stays free while its
/// server is down and can be had again by the restarted one.
#[derive(Debug)]
pub(crate) struct Port(u16);

impl Port {
    /// Claims a port and has `start` listen on it. It gives `None` when another process was faster at that port, and is
    /// then asked again with another one.
    pub(crate) fn with<T>(
        mut start: impl FnMut(Self) -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        for _ in 0..ATTEMPTS {
            if let Some(started) = start(Self::claim().map_err(Error::io(FINDING))?)? {
                return Ok(started);
            }
        }
        let what = format!("{FINDING}, {ATTEMPTS} times");
        Err(Error::Io { what, source: io::ErrorKind::AddrInUse.into() })
    }

    /// Claims a port on which nobody listens, and nobody at its cluster bus either (10000 above).
    fn claim() -> io::Result<Self> {
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

const FINDING: &str = "finding a free port";
/// How often another process may be faster at a port.
const ATTEMPTS: usize = 50;
/// How far above its port a cluster node's bus listens.
pub(crate) const BUS: u16 = 10_000;
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;
static CLAIMED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_another_port_until_one_is_free() {
        let mut tried = Vec::new();
        let kept = Port::with(|port| {
            tried.push(port.number());
            Ok((tried.len() == 3).then_some(port))
        });
        assert_eq!(tried.last(), Some(&kept.unwrap().number()));
    }

    #[test]
    fn gives_up_after_so_many_ports() {
        let mut tried = 0;
        let failed = Port::with(|_| {
            tried += 1;
            Ok(None::<()>)
        });
        assert_eq!(tried, ATTEMPTS);
        let Err(Error::Io { what, source }) = failed else { panic!("{failed:?}") };
        assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
        assert!(what.contains("50 times"), "{what}");
    }

    #[test]
    fn gives_up_at_once_when_another_port_would_not_help() {
        let mut tried = 0;
        let failed = Port::with(|port| {
            tried += 1;
            Err::<Option<()>, _>(Error::Down { port: port.number() })
        });
        assert!(matches!(failed, Err(Error::Down { .. })));
        assert_eq!(tried, 1);
    }
}
