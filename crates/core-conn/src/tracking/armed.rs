//! A link over which one server says what has changed.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use tokio::time::Instant;

use super::cover::Cover;
use crate::{
    Error, ErrorKind, Result,
    conn::{Address, Core, Link, Place, after},
    error::fred::{from_call, is_unknown_client},
    listen::{Frame, Wire, late},
};

/// Where a server says what has changed, to those who speak the second version of its protocol.
const CHANNEL: &[u8] = b"__redis__:invalidate";
/// A link to which one server redirects what it tracks. The link is its own tracker; or, where this connection's writes
/// are to be left out, the link that they go over is.
pub(super) struct Armed {
    wire: Wire,
    pub(super) cover: Cover,
    /// The link for commands that tracks in its place, because its writes are left out.
    writer: Option<Weak<Link>>,
    pings: u64,
    /// When the PINGs were sent that are not answered yet, with their numbers.
    owed: VecDeque<(u64, Instant)>,
    pub(super) heard_at: Instant,
    /// How much of a frame had arrived when that was last asked.
    buffered: usize,
}

/// What the server says.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Heard {
    Keys(Vec<Bytes>),
    Flushed,
    /// An answer to PING, which was sent at this moment: all that was done before it has been said.
    Pong(Instant),
    /// Nothing that matters.
    Other,
}

impl Armed {
    /// Connects, and has the server say what changes from now on below `cover`. Returns since when it does.
    pub(super) async fn open(
        core: &Core,
        place: &Place,
        address: &Address,
        cover: Cover,
        own_writes: bool,
    ) -> Result<(Self, Instant)> {
        let deadline = after(core.config.connect_timeout);
        let credentials = core.known_login(deadline).await?;
        let mut wire = Wire::open(&core.config, address, &credentials, deadline).await?;
        let arming = async {
            let Frame::Int(id) = wire.ask(&["CLIENT", "ID"]).await.map_err(unsupported)? else {
                return Err(wire.out_of_step());
            };
            let id = id.to_string();
            let since = Instant::now();
            let writer = if own_writes {
                wire.ask_bytes(&request(&id, &cover, false)).await.map_err(unsupported)?;
                None
            } else {
                let link = core.first_link_at(place).filter(|link| link.address == *address);
                Some(link.ok_or_else(|| wire.lost("no link to track with"))?)
            };
            let subscribed = wire.ask_bytes(&[b"SUBSCRIBE", CHANNEL]).await;
            if !matches!(subscribed.map_err(unsupported)?, Frame::List(_)) {
                return Err(wire.out_of_step());
            }
            if let Some(writer) = &writer {
                track(core, writer, &request(&id, &cover, true)).await.map_err(|err| {
                    match is_unknown_client(&err) {
                        // It has ended meanwhile.
                        true => wire.lost(err),
                        false => unsupported(err),
                    }
                })?;
            }
            let now = Instant::now();
            let writer = writer.as_ref().map(Arc::downgrade);
            Ok((
                Self {
                    wire,
                    cover,
                    writer,
                    pings: 0,
                    owed: VecDeque::new(),
                    heard_at: now,
                    buffered: 0,
                },
                since,
            ))
        };
        let armed = tokio::time::timeout_at(deadline, arming).await;
        let (mut armed, since) = armed.map_err(|_late| late(&core.config, address))??;
        armed.ping();
        Ok((armed, since))
    }

    /// Asks for a sign of life.
    pub(super) fn ping(&mut self) {
        self.pings += 1;
        self.wire.say(&[b"PING", self.pings.to_string().as_bytes()]);
        self.owed.push_back((self.pings, Instant::now()));
    }

    /// Since when an answer has been owed.
    pub(super) fn owed_since(&self) -> Option<Instant> {
        self.owed.front().map(|(_, sent)| *sent)
    }

    /// Returns what the server says next. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Heard> {
        let frame = self.wire.next().await?;
        self.heard_at = Instant::now();
        match read(frame) {
            Some(Ok(heard)) => Ok(heard),
            Some(Err(word)) => match self.owed.pop_front() {
                Some((number, sent)) if word == number.to_string() => Ok(Heard::Pong(sent)),
                _ => Err(self.wire.out_of_step()),
            },
            None => Ok(Heard::Other),
        }
    }

    /// The link for commands that tracks in its place, because its writes are left out.
    pub(super) fn writer(&self) -> Option<&Weak<Link>> {
        self.writer.as_ref()
    }

    /// Whether part of something big has arrived since this was last asked.
    pub(super) fn is_arriving(&mut self) -> bool {
        let buffered = self.wire.buffered();
        std::mem::replace(&mut self.buffered, buffered) < buffered
    }

    pub(super) fn address(&self) -> &Address {
        &self.wire.address
    }

    pub(super) fn lost(&self, why: &'static str) -> Error {
        self.wire.lost(why)
    }
}

/// The command that has a server redirect what changes to the client `id`.
fn request<'a>(id: &'a str, cover: &'a Cover, without_own: bool) -> Vec<&'a [u8]> {
    let mut parts: Vec<&[u8]> =
        vec![b"CLIENT", b"TRACKING", b"ON", b"REDIRECT", id.as_bytes(), b"BCAST"];
    if without_own {
        parts.push(b"NOLOOP");
    }
    for prefix in cover.iter() {
        parts.extend([&b"PREFIX"[..], prefix]);
    }
    parts
}

/// Has a link for commands track. What it tracked before, it tracks no more.
async fn track(core: &Core, link: &Link, request: &[&[u8]]) -> Result<()> {
    let timeout = core.config.command_timeout;
    let off = link.ask::<()>(timeout, "CLIENT", &["TRACKING", "OFF"]);
    off.await.map_err(from_call)?;
    let args = request[1..].iter().map(|part| Bytes::copy_from_slice(part)).collect();
    link.order(timeout, "CLIENT", args).await
}

/// A refusal without a kind of its own is about tracking, and for good.
fn unsupported(err: Error) -> Error {
    let is_refusal = matches!(err.kind(), ErrorKind::Server | ErrorKind::Unsupported);
    if !(err.is_answer() && is_refusal) {
        return err;
    }
    let what =
        "the server does not say what changes (CLIENT TRACKING): rely on times to live instead";
    Error::new(ErrorKind::Unsupported, what).with_source(err)
}

/// What a frame says; an answer to PING with its word.
fn read(frame: Frame) -> Option<Result<Heard, Bytes>> {
    let Frame::List(items) = frame else { return None };
    let mut items = items.into_iter();
    let what = items.next()?.into_bytes()?;
    let next = items.next()?.into_bytes()?;
    match &*what {
        b"pong" => Some(Err(next)),
        b"message" if next == CHANNEL => match items.next()? {
            Frame::Nil => Some(Ok(Heard::Flushed)),
            Frame::List(keys) => {
                let keys = keys.into_iter().filter_map(Frame::into_bytes);
                Some(Ok(Heard::Keys(keys.collect())))
            }
            // Anybody may publish there.
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Frame {
        Frame::Bytes(Bytes::from_static(text.as_bytes()))
    }

    fn pushed(payload: Frame) -> Frame {
        Frame::List(vec![bytes("message"), bytes("__redis__:invalidate"), payload])
    }

    #[test]
    fn keys_of_any_words_are_read_and_nothing_else_is_taken_for_one() {
        let words = ["message", "subscribe", "pong"];
        let keys = Frame::List(words.map(bytes).into());
        let expected = words.map(|word| Bytes::from_static(word.as_bytes())).into();
        assert_eq!(read(pushed(keys)), Some(Ok(Heard::Keys(expected))));
        assert_eq!(read(pushed(Frame::Nil)), Some(Ok(Heard::Flushed)));
        assert_eq!(read(pushed(bytes("published by somebody"))), None);
        let other = Frame::List(vec![bytes("message"), bytes("other"), Frame::Nil]);
        assert_eq!(read(other), None);
        let pong = Frame::List(vec![bytes("pong"), bytes("7")]);
        assert_eq!(read(pong), Some(Err(Bytes::from_static(b"7"))));
        assert_eq!(read(Frame::Error("ERR".into())), None);
    }
}
