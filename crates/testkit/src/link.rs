//! The little of the protocol that administration needs.
//!
//! Written here and not taken from a client, for three reasons. A server's refusal may quote the bytes of a command,
//! which need not be UTF-8: the parsers of `redis` 1.8 and `redis-protocol` 6.0 then fail, where a test wants to see
//! [`Error::Reply`]. What tells a test what the server holds must not share a mistake with the client under test, and
//! these two are, or are within, what most code under test uses. And exactly the commands asked for are sent, with no
//! greeting that would show in the command counts.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
};

use crate::{Error, Reply, wait::PATIENCE};

/// One connection for a few commands, spoken to in RESP2.
pub(crate) struct Link {
    stream: BufReader<Box<dyn Stream>>,
}

impl Link {
    pub(crate) fn unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(Box::new(stream)) })
    }

    pub(crate) fn tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(Box::new(stream)) })
    }

    /// Sends a command and reads its answer; a refusal is a `Reply::Error`.
    pub(crate) fn call<A: AsRef<[u8]>>(&mut self, command: &[A]) -> io::Result<Reply> {
        let mut out = format!("*{}\r\n", command.len()).into_bytes();
        for arg in command.iter().map(A::as_ref) {
            out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            out.extend_from_slice(arg);
            out.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&out)?;
        self.read()
    }

    fn read(&mut self) -> io::Result<Reply> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        let line = line.strip_suffix(b"\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let text = String::from_utf8_lossy(line.get(1..).unwrap_or_default()).into_owned();
        let number = || {
            text.parse::<i64>().map_err(|source| io::Error::new(io::ErrorKind::InvalidData, source))
        };
        match line.first() {
            Some(b'+') => Ok(Reply::Status(text)),
            Some(b'-') => Ok(Reply::Error(text)),
            Some(b':') => number().map(Reply::Int),
            Some(b'$') => match usize::try_from(number()?) {
                Ok(len) => {
                    let mut bytes = vec![0; len + 2];
                    self.stream.read_exact(&mut bytes)?;
                    bytes.truncate(len);
                    Ok(Reply::Bulk(bytes))
                }
                // Minus one: no value.
                Err(_) => Ok(Reply::Nil),
            },
            Some(b'*') => match usize::try_from(number()?) {
                Ok(len) => {
                    (0..len).map(|_| self.read()).collect::<io::Result<_>>().map(Reply::Array)
                }
                Err(_) => Ok(Reply::Nil),
            },
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "what answers there is no Redis server",
            )),
        }
    }
}

/// Turns what a call gave into what a user sees.
pub(crate) fn answer<A: AsRef<[u8]>>(
    command: &[A],
    got: io::Result<Reply>,
) -> Result<Reply, Error> {
    let name = || String::from_utf8_lossy(command.first().map_or(b"", A::as_ref)).into_owned();
    match got {
        Ok(Reply::Error(message)) => Err(Error::Reply { command: name(), message }),
        Ok(reply) => Ok(reply),
        Err(source)
            if matches!(source.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
        {
            Err(Error::timeout(
                format!("the answer to {} (is the server paused or busy?)", name()),
                PATIENCE,
            ))
        }
        Err(source) => Err(Error::Io { what: format!("sending {}", name()), source }),
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_kind_of_answer() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut link = Link { stream: BufReader::new(Box::new(ours)) };
        theirs
            .write_all(b"*6\r\n+OK\r\n:-3\r\n$-1\r\n$2\r\n\r\n\r\n*-1\r\n*1\r\n-ERR no\r\n")
            .unwrap();
        let reply = link.call(&["PING"]).unwrap();
        let nested = Reply::Array(vec![Reply::Error("ERR no".into())]);
        let expected = [
            Reply::Status("OK".into()),
            Reply::Int(-3),
            Reply::Nil,
            Reply::Bulk(b"\r\n".into()),
            Reply::Nil,
            nested,
        ];
        assert_eq!(reply.as_array().unwrap(), expected);

        let mut sent = [0; 14];
        theirs.read_exact(&mut sent).unwrap();
        assert_eq!(&sent, b"*1\r\n$4\r\nPING\r\n");
    }
}
