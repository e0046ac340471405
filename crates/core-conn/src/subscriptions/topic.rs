//! What can be subscribed to, and what a server says about it.

use bytes::Bytes;
use fred::util::redis_keyslot;

use crate::listen::Frame;

/// What is subscribed to, as the server knows it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Topic {
    pub(super) kind: Kind,
    pub(super) name: Bytes,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    Channel,
    Pattern,
    /// A channel that belongs to a slot.
    Sharded,
}

impl Kind {
    pub(super) fn subscribe(self) -> &'static str {
        match self {
            Self::Channel => "SUBSCRIBE",
            Self::Pattern => "PSUBSCRIBE",
            Self::Sharded => "SSUBSCRIBE",
        }
    }

    pub(super) fn unsubscribe(self) -> &'static str {
        match self {
            Self::Channel => "UNSUBSCRIBE",
            Self::Pattern => "PUNSUBSCRIBE",
            Self::Sharded => "SUNSUBSCRIBE",
        }
    }
}

impl Topic {
    pub(super) fn slot(&self) -> u16 {
        redis_keyslot(&self.name)
    }
}

/// What a server says on a link with subscriptions.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Heard {
    /// Something was published on `channel`. Both share the memory that they were read into.
    Message {
        topic: Topic,
        channel: Bytes,
        payload: Bytes,
    },
    Subscribed(Topic),
    Unsubscribed(Topic),
    Pong(Bytes),
    Refused(String),
}

/// Reads a frame; none when it is nothing that belongs here.
pub(super) fn read(frame: Frame) -> Option<Heard> {
    let items = match frame {
        Frame::List(items) => items,
        Frame::Error(text) => return Some(Heard::Refused(text)),
        // The answer to PING while there is no subscription.
        Frame::Bytes(word) => return Some(Heard::Pong(word)),
        Frame::Nil | Frame::Int(_) => return None,
    };
    let mut items = items.into_iter();
    let what = items.next()?.into_bytes()?;
    let mut text = || items.next()?.into_bytes();
    let topic = |kind, name| Topic { kind, name };
    Some(match &*what {
        b"message" => message(Kind::Channel, text()?, text()?),
        b"smessage" => message(Kind::Sharded, text()?, text()?),
        b"pmessage" => {
            let (pattern, channel) = (text()?, text()?);
            Heard::Message { topic: topic(Kind::Pattern, pattern), channel, payload: text()? }
        }
        b"subscribe" => Heard::Subscribed(topic(Kind::Channel, text()?)),
        b"psubscribe" => Heard::Subscribed(topic(Kind::Pattern, text()?)),
        b"ssubscribe" => Heard::Subscribed(topic(Kind::Sharded, text()?)),
        b"unsubscribe" => Heard::Unsubscribed(topic(Kind::Channel, text()?)),
        b"punsubscribe" => Heard::Unsubscribed(topic(Kind::Pattern, text()?)),
        b"sunsubscribe" => Heard::Unsubscribed(topic(Kind::Sharded, text()?)),
        b"pong" => Heard::Pong(text()?),
        _ => return None,
    })
}

fn message(kind: Kind, channel: Bytes, payload: Bytes) -> Heard {
    Heard::Message { topic: Topic { kind, name: channel.clone() }, channel, payload }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn said(words: &[&'static str]) -> Frame {
        Frame::List(words.iter().map(|word| Frame::Bytes(bytes(word))).collect())
    }

    #[test]
    fn whatever_is_published_is_told_from_what_the_server_says() {
        for word in ["message", "subscribe", "pong", "unsubscribe", ""] {
            for (frame, kind, name) in [
                (said(&["message", word, "subscribe"]), Kind::Channel, word),
                (said(&["smessage", word, "subscribe"]), Kind::Sharded, word),
                (said(&["pmessage", "p", word, "subscribe"]), Kind::Pattern, "p"),
            ] {
                let topic = Topic { kind, name: bytes(name) };
                let (channel, payload) = (bytes(word), bytes("subscribe"));
                assert_eq!(read(frame), Some(Heard::Message { topic, channel, payload }));
            }
        }
    }

    #[test]
    fn confirmations_answers_and_refusals_are_read() {
        let topic = |kind| Topic { kind, name: bytes("a") };
        for (word, kind) in [
            ("subscribe", Kind::Channel),
            ("psubscribe", Kind::Pattern),
            ("ssubscribe", Kind::Sharded),
        ] {
            let confirmed = |word| {
                let words = [Frame::Bytes(word), Frame::Bytes(bytes("a")), Frame::Int(1)];
                read(Frame::List(words.into()))
            };
            assert_eq!(confirmed(bytes(word)), Some(Heard::Subscribed(topic(kind))));
            let undone = Bytes::from(kind.unsubscribe().to_ascii_lowercase());
            assert_eq!(confirmed(undone), Some(Heard::Unsubscribed(topic(kind))));
        }
        assert_eq!(read(said(&["pong", "w"])), Some(Heard::Pong(bytes("w"))));
        assert_eq!(read(Frame::Bytes(bytes("w"))), Some(Heard::Pong(bytes("w"))));
        assert_eq!(read(Frame::Error("NOPERM".into())), Some(Heard::Refused("NOPERM".into())));
    }

    #[test]
    fn what_belongs_nowhere_is_not_read() {
        let invalidated = Frame::List(vec![
            Frame::Bytes(bytes("message")),
            Frame::Bytes(bytes("__redis__:invalidate")),
            Frame::List(vec![Frame::Bytes(bytes("key"))]),
        ]);
        let nothing = Frame::List(Vec::new());
        for frame in [Frame::Nil, Frame::Int(1), nothing, said(&["message", "a"]), invalidated] {
            assert_eq!(read(frame), None);
        }
    }
}
