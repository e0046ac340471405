//! One listening link: a socket, what is to be sent over it, and what arrives.

use std::{future::poll_fn, io, pin::Pin};

use bytes::{Buf, BytesMut};
use futures_core::Stream;
use tokio::{
    io::{AsyncWriteExt, ReadHalf, WriteHalf, split},
    time::{Instant, timeout_at},
};
use tokio_util::codec::FramedRead;

use super::{
    resp::{Frame, Resp, push_command},
    socket::{self, Socket},
};
use crate::{
    Config, Credentials, Error, ErrorKind, Result, conn::Address, error::fred::from_refusal,
};

/// How much is read at once, at least.
const READ: usize = 32 << 10;

/// A socket to one server that logged in. It is closed when this is dropped, and never comes back.
pub(crate) struct Wire {
    reader: FramedRead<ReadHalf<Socket>, Resp>,
    writer: WriteHalf<Socket>,
    /// What waits to be written.
    out: BytesMut,
    /// Something waits, or was written and stands before the socket.
    unflushed: bool,
    pub(crate) address: Address,
}

impl Wire {
    /// Connects and logs in, until `deadline`.
    pub(crate) async fn open(
        config: &Config,
        address: &Address,
        credentials: &Credentials,
        deadline: Instant,
    ) -> Result<Self> {
        let opening = async {
            let (reader, writer) = split(socket::open(config, address).await?);
            let mut wire = Self {
                reader: FramedRead::with_capacity(reader, Resp, READ),
                writer,
                out: BytesMut::new(),
                unflushed: false,
                address: address.clone(),
            };
            wire.log_in(config, credentials).await?;
            Ok(wire)
        };
        timeout_at(deadline, opening).await.map_err(|_late| late(config, address))?
    }

    async fn log_in(&mut self, config: &Config, credentials: &Credentials) -> Result<()> {
        let Credentials { username, password, .. } = credentials;
        if let Some(password) = password {
            let login = match username {
                Some(username) => self.ask(&["AUTH", username, password.expose()]).await,
                None => self.ask(&["AUTH", password.expose()]).await,
            };
            login?;
        }
        if let Some(name) = &config.client_name {
            match self.ask(&["CLIENT", "SETNAME", name]).await {
                Err(err) if err.is_answer() => {
                    tracing::debug!(error = %err, "the server takes no name for a connection");
                }
                answer => answer.map(drop)?,
            }
        }
        Ok(())
    }

    /// Asks, and waits for the answer. For the time before the server says anything of its own accord.
    pub(crate) async fn ask(&mut self, parts: &[&str]) -> Result<Frame> {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        self.ask_bytes(&parts).await
    }

    /// The same with parts that are no text.
    pub(crate) async fn ask_bytes(&mut self, parts: &[&[u8]]) -> Result<Frame> {
        self.say(parts);
        match self.next().await? {
            Frame::Error(text) => Err(from_refusal(text, &self.address.to_string())),
            answer => Ok(answer),
        }
    }

    /// Puts a command behind those that wait to be written.
    pub(crate) fn say(&mut self, parts: &[&[u8]]) {
        push_command(&mut self.out, parts);
        self.unflushed = true;
    }

    /// How much has arrived of what is not complete yet.
    pub(crate) fn buffered(&self) -> usize {
        self.reader.read_buffer().len()
    }

    /// Returns what the server says next, and meanwhile writes what waits. Cancel safe.
    ///
    /// A server that takes nothing does not keep this from reading.
    pub(crate) async fn next(&mut self) -> Result<Frame> {
        loop {
            let Self { reader, writer, out, unflushed, .. } = self;
            let waits = *unflushed;
            let heard = tokio::select! {
                biased;
                sent = send(writer, out, unflushed), if waits => {
                    self.lost_if(sent)?;
                    continue;
                }
                heard = read(reader) => heard,
            };
            return match heard {
                Some(frame) => self.lost_if(frame),
                None => Err(self.lost("the server closed it")),
            };
        }
    }

    fn lost_if<T>(&self, outcome: io::Result<T>) -> Result<T> {
        outcome.map_err(|err| self.lost(err))
    }

    /// The error of a link whose answers do not belong to what was asked.
    pub(crate) fn out_of_step(&self) -> Error {
        self.lost("its answers do not belong to what was asked")
    }

    /// The error of a link that has ended.
    pub(crate) fn lost(&self, source: impl Into<crate::BoxError>) -> Error {
        let what = format!("{}: the connection was lost", self.address);
        Error::new(ErrorKind::Connect, what).with_source(source)
    }
}

/// The error of a link that was not set up in time.
pub(crate) fn late(config: &Config, address: &Address) -> Error {
    let what = format!("{address}: no answer within {:?}", config.connect_timeout);
    Error::new(ErrorKind::Timeout, what)
}

/// Reads the next frame; none when the server has closed the socket. Cancel safe.
async fn read(reader: &mut FramedRead<ReadHalf<Socket>, Resp>) -> Option<io::Result<Frame>> {
    poll_fn(|cx| Pin::new(&mut *reader).poll_next(cx)).await
}

/// Writes what waits. Cancel safe.
async fn send(
    writer: &mut WriteHalf<Socket>,
    out: &mut BytesMut,
    unflushed: &mut bool,
) -> io::Result<()> {
    while out.has_remaining() {
        if writer.write_buf(out).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    writer.flush().await?;
    *unflushed = false;
    Ok(())
}
