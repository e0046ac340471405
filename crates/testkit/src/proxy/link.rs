use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;
use tokio::{net::TcpStream, sync::watch};

use super::{
    Gauges,
    fault::{Direction, Plan},
    pump::{End, Pump},
};

/// How the proxy's owner wants the connections of the moment to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ending {
    #[default]
    None,
    Reset,
    Close,
}

/// Serves one client until either side or the owner ends it.
pub(super) async fn serve(
    mut client: TcpStream,
    server: SocketAddr,
    plan: watch::Receiver<Plan>,
    mut ending: watch::Receiver<Ending>,
    open: Open,
) {
    let dialed = tokio::select! {
        dialed = TcpStream::connect(server) => dialed,
        _ = ending.changed() => return finish(client, None, *ending.borrow()),
    };
    let Ok(mut server) = dialed else {
        return finish(client, None, Ending::Reset);
    };
    // Requests are small and answered one by one: without this, each would wait for an acknowledgment.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ending = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = Pump::new(from_client, to_server, Direction::Requests, plan.clone(), &open);
        let down = Pump::new(from_server, to_client, Direction::Replies, plan, &open);
        tokio::select! {
            end = both(up.run(), down.run()) => match end {
                End::Finished => Ending::None,
                End::Broken => Ending::Reset,
            },
            _ = ending.changed() => *ending.borrow(),
        }
    };
    finish(client, Some(server), ending);
}

/// Runs both directions until both are finished or one is broken.
async fn both(up: impl Future<Output = End>, down: impl Future<Output = End>) -> End {
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    let first = tokio::select! {
        end = &mut up => (end, true),
        end = &mut down => (end, false),
    };
    match first {
        (End::Broken, _) => End::Broken,
        (End::Finished, true) => down.await,
        (End::Finished, false) => up.await,
    }
}

fn finish(client: TcpStream, server: Option<TcpStream>, ending: Ending) {
    for stream in [Some(client), server].into_iter().flatten() {
        match ending {
            Ending::Reset => {
                // Closed with this set, a socket sends RST and forgets what it had not sent.
                let _ = set_socket_linger(&stream, Some(Duration::ZERO));
            }
            Ending::Close => {
                // A socket that is closed with something unread sends RST instead of FIN.
                while stream.try_read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
            }
            Ending::None => {}
        }
    }
}

/// Counts a connection as open while this lives.
pub(super) struct Open {
    gauges: Arc<Gauges>,
    number: u64,
}

impl Open {
    pub(super) fn new(gauges: &Arc<Gauges>) -> Self {
        let number = gauges.accepted.fetch_add(1, Ordering::Relaxed);
        gauges.open.fetch_add(1, Ordering::Relaxed);
        Self { gauges: Arc::clone(gauges), number }
    }

    /// How many connections came before it.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn gauges(&self) -> &Gauges {
        &self.gauges
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gauges.open.fetch_sub(1, Ordering::Relaxed);
    }
}
