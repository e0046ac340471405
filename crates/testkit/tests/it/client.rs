//! The plainest client there is: what it sees is what is on the wire.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a command, written as words on a line.
    pub(crate) fn send(&mut self, command: &str) -> io::Result<()> {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes())
    }

    /// Reads a line of an answer; an error when the connection ends first.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    pub(crate) fn ask(&mut self, command: &str) -> io::Result<String> {
        self.send(command)?;
        self.line()
    }

    /// Reads a value.
    pub(crate) fn bulk(&mut self) -> io::Result<Vec<u8>> {
        let len: usize = self.line()?.trim_start_matches('$').parse().map_err(io::Error::other)?;
        let mut bytes = vec![0; len + 2];
        self.0.read_exact(&mut bytes)?;
        bytes.truncate(len);
        Ok(bytes)
    }

    /// Whether nothing arrives for a while.
    pub(crate) fn is_silent(&mut self, patience: Duration) -> bool {
        let stream = self.0.get_mut();
        stream.set_read_timeout(Some(patience)).expect("a patience above zero");
        let silent = stream.peek(&mut [0]).is_err_and(|err| is_timeout(&err));
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a patience above zero");
        silent
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }
}

pub(crate) fn is_timeout(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
