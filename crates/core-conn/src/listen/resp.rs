//! What a server says, in the second version of its protocol.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use redis_protocol::resp2::{decode::decode_bytes_mut, types::BytesFrame};
use tokio_util::codec::Decoder;

/// One thing that a server said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Frame {
    Nil,
    Int(i64),
    /// A text or other bytes. They share the memory that they were read into: what is kept has to be copied.
    Bytes(Bytes),
    List(Vec<Self>),
    /// A refusal, in the server's words.
    Error(String),
}

/// How deep lists are nested in what a server says of its own accord, and in answers to what is asked here.
const DEEPEST: usize = 4;

/// Whether lists begin within lists, deeper than that. The parser would follow them down to the end of its stack.
fn nests_deeper_than(deepest: usize, mut arrived: &[u8]) -> bool {
    // For each list that has begun, how many of its items are to come.
    let mut open: Vec<usize> = Vec::new();
    while let Some(end) = arrived.windows(2).position(|two| two == b"\r\n") {
        let (line, rest) = (&arrived[..end], &arrived[end + 2..]);
        let number = || std::str::from_utf8(&line[1..]).ok()?.parse::<usize>().ok();
        arrived = rest;
        match line.first() {
            Some(b'*') => open.push(number().unwrap_or(0)),
            Some(b'$') => {
                let Some(len) = number() else { continue };
                let Some(rest) = arrived.get(len.saturating_add(2)..) else { return false };
                arrived = rest;
                complete(&mut open);
            }
            _ => complete(&mut open),
        }
        while open.last() == Some(&0) {
            open.pop();
            complete(&mut open);
        }
        if open.is_empty() {
            return false;
        }
        if open.len() > deepest {
            return true;
        }
    }
    false
}

/// An item has come to its end.
fn complete(open: &mut [usize]) {
    if let Some(items) = open.last_mut() {
        *items = items.saturating_sub(1);
    }
}

/// Cuts frames out of what arrives.
#[derive(Debug)]
pub(super) struct Resp;

impl Decoder for Resp {
    type Item = Frame;
    type Error = io::Error;

    fn decode(&mut self, arrived: &mut BytesMut) -> io::Result<Option<Frame>> {
        if arrived.first() == Some(&b'-') {
            // Servers quote bytes in refusals that are no UTF-8, which the parser does not take.
            let end = arrived.windows(2).position(|two| two == b"\r\n");
            return Ok(end.map(|end| {
                let line = arrived.split_to(end + 2);
                Frame::Error(String::from_utf8_lossy(&line[1..end]).into_owned())
            }));
        }
        if nests_deeper_than(DEEPEST, arrived) {
            let what = "lists within lists, deeper than a server says anything";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let decoded = decode_bytes_mut(arrived);
        let decoded = decoded.map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))?;
        Ok(decoded.map(|(frame, ..)| frame.into()))
    }
}

impl Frame {
    pub(crate) fn into_bytes(self) -> Option<Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl From<BytesFrame> for Frame {
    fn from(frame: BytesFrame) -> Self {
        match frame {
            BytesFrame::SimpleString(text) => Self::Bytes(text),
            BytesFrame::BulkString(bytes) => Self::Bytes(bytes),
            BytesFrame::Integer(number) => Self::Int(number),
            BytesFrame::Error(text) => Self::Error(text.to_string()),
            BytesFrame::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            BytesFrame::Null => Self::Nil,
        }
    }
}

/// Appends a command to what is to be sent.
pub(super) fn push_command(out: &mut BytesMut, parts: &[&[u8]]) {
    let number = |out: &mut BytesMut, mark, number: usize| {
        out.put_u8(mark);
        out.extend_from_slice(number.to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
    };
    number(out, b'*', parts.len());
    for part in parts {
        number(out, b'$', part.len());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Frame {
        Frame::Bytes(Bytes::from_static(text.as_bytes()))
    }

    /// What comes of `said` when it arrives piece by piece.
    fn decoded(said: &[u8], piece: usize) -> Vec<Frame> {
        let mut arrived = BytesMut::new();
        let mut frames = Vec::new();
        for piece in said.chunks(piece) {
            arrived.extend_from_slice(piece);
            while let Some(frame) = Resp.decode(&mut arrived).unwrap() {
                frames.push(frame);
            }
        }
        assert!(arrived.is_empty());
        frames
    }

    #[test]
    fn frames_are_the_same_however_they_arrive() {
        let said = b"*3\r\n$7\r\nmessage\r\n$2\r\n\xff\x00\r\n$0\r\n\r\n-ERR no \xff here\r\n+OK\r\n:-7\r\n$-1\r\n*-1\r\n\
            *3\r\n$7\r\nmessage\r\n$1\r\nc\r\n*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\ny\r\n";
        let expected = [
            Frame::List(vec![
                text("message"),
                Frame::Bytes(Bytes::from_static(b"\xff\0")),
                text(""),
            ]),
            Frame::Error("ERR no \u{fffd} here".to_owned()),
            text("OK"),
            Frame::Int(-7),
            Frame::Nil,
            Frame::Nil,
            // Keys that were written at once can be any words.
            Frame::List(vec![
                text("message"),
                text("c"),
                Frame::List(vec![text("message"), text("x"), text("y")]),
            ]),
        ];
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(decoded(said, piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        for said in ["hello there\r\n", "*x\r\n", "$x\r\n"] {
            let mut arrived = BytesMut::from(said);
            assert_eq!(Resp.decode(&mut arrived).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn what_nests_too_deep_is_refused_before_it_is_parsed() {
        for (said, refused) in [
            ("*1\r\n".repeat(100_000), true),
            ("*2\r\n:1\r\n".repeat(100_000), true),
            ("*2\r\n$3\r\n*1\r\r\n".repeat(6), true),
            (format!("{}:1\r\n", "*1\r\n".repeat(DEEPEST)), false),
            (format!("*100000\r\n{}", "*1\r\n:1\r\n".repeat(100_000)), false),
            (format!("*2\r\n$8\r\n*1\r\n*1\r\n\r\n{}", ":1\r\n*-1\r\n*0\r\n".repeat(9)), false),
        ] {
            let mut arrived = BytesMut::from(said.as_str());
            assert_eq!(Resp.decode(&mut arrived).is_err(), refused, "{}", &said[..20]);
        }
    }

    #[test]
    fn a_command_is_a_list_of_its_parts() {
        let mut out = BytesMut::new();
        push_command(&mut out, &[b"SUBSCRIBE", b"a\r\nb", b""]);
        assert_eq!(&out[..], b"*3\r\n$9\r\nSUBSCRIBE\r\n$4\r\na\r\nb\r\n$0\r\n\r\n");
    }
}
