//! A socket to one server: plain, within TLS, or a file.

use std::io;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

#[cfg(feature = "tls")]
use crate::tls::ReadyTls;
use crate::{
    Config, Result,
    conn::Address,
    error::fred::{FredError, from_dial},
};

/// A way to a server and back.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(super) type Socket = Box<dyn Duplex>;

/// Opens a socket to the server at `address`.
pub(super) async fn open(config: &Config, address: &Address) -> Result<Socket> {
    let opened = match address {
        Address::Unix(path) => UnixStream::connect(path).await.map(|socket| Box::new(socket) as _),
        Address::Tcp(node) => match dial(&node.host, node.port).await {
            Ok(socket) => secured(config, &node.host, socket).await,
            Err(err) => Err(err),
        },
    };
    opened.map_err(|err| from_dial(FredError::from(err), &address.to_string()))
}

async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let socket = TcpStream::connect((host, port)).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

#[cfg(feature = "tls")]
async fn secured(config: &Config, host: &str, socket: TcpStream) -> io::Result<Socket> {
    use fred::types::config::TlsConnector;
    use rustls::pki_types::ServerName;

    let Some(ReadyTls { config, server_name }) = &config.tls else { return Ok(Box::new(socket)) };
    let name = server_name.as_deref().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let TlsConnector::Rustls(connector) = &config.connector;
    Ok(Box::new(connector.connect(name, socket).await?))
}

#[cfg(not(feature = "tls"))]
async fn secured(_: &Config, _: &str, socket: TcpStream) -> io::Result<Socket> {
    Ok(Box::new(socket))
}
