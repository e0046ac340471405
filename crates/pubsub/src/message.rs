use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redbrick_core_conn::{Bytes, Codec, Token};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

use crate::Error;

/// A message with what its publisher said about it. Its `Debug` shows neither channel nor payload.
#[derive(Clone)]
#[non_exhaustive]
pub struct Message<T> {
    /// 128 random bits as 32 hexadecimal digits; the same for all channels of one
    /// [`publish_many`](crate::PubSub::publish_many).
    pub id: String,
    /// What kind of message it is: `type` on the wire.
    pub kind: String,
    /// What was published.
    pub payload: T,
    /// When, by the wall clock of the publisher, to the millisecond. For people to read: clocks differ, so it orders nothing
    /// and decides nothing.
    pub timestamp: SystemTime,
    /// The service that published it.
    pub source: String,
    /// What it belongs to, where the publisher said so.
    pub correlation_id: Option<String>,
    /// The channel it came over, without the connection's prefix.
    pub channel: Vec<u8>,
}

impl<T> Message<T> {
    /// Returns the channel as a text; what is no UTF-8 in it is replaced.
    #[must_use]
    pub fn channel_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.channel)
    }
}

impl<T: DeserializeOwned> Message<T> {
    /// Reads a message that came over `channel`; `Ok(None)` when it is of another kind than the one that is wanted, whatever
    /// its payload is.
    pub(crate) fn read(
        codec: Codec,
        channel: &[u8],
        bytes: &[u8],
        wanted: Option<&str>,
    ) -> Result<Option<Self>, Error> {
        if let Some(wanted) = wanted {
            let envelope: Incoming<IgnoredAny> = codec.decode(bytes).map_err(Error::Undecodable)?;
            if envelope.kind != wanted {
                return Ok(None);
            }
        }
        let envelope: Incoming<T> = codec.decode(bytes).map_err(Error::Undecodable)?;
        let Incoming { id, kind, payload, timestamp, source, correlation_id } = envelope;
        let timestamp = UNIX_EPOCH.checked_add(Duration::from_millis(timestamp));
        Ok(Some(Self {
            id,
            kind,
            payload,
            timestamp: timestamp.unwrap_or(UNIX_EPOCH),
            source,
            correlation_id,
            channel: channel.to_vec(),
        }))
    }
}

impl<T> fmt::Debug for Message<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Encodes a message that is published now.
pub(crate) fn encode<T: Serialize + ?Sized>(
    codec: Codec,
    source: &str,
    kind: &str,
    correlation_id: Option<&str>,
    payload: &T,
) -> Result<Bytes, Error> {
    let id = Token::<16>::random().expose();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let timestamp = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let envelope = Outgoing { id: &id, kind, payload, timestamp, source, correlation_id };
    codec.encode(&envelope).map_err(Error::Unencodable)
}

/// A message on the wire, as it is written.
#[derive(Serialize)]
struct Outgoing<'a, T: ?Sized> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    payload: &'a T,
    timestamp: u64,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
}

/// A message on the wire, as it is read: with more fields than these too, and without those that not every publisher knows.
#[derive(Deserialize)]
struct Incoming<T> {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    payload: T,
    #[serde(default)]
    timestamp: u64,
    #[serde(default)]
    source: String,
    #[serde(default)]
    correlation_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the first release writes; it must be read for ever.
    const GOLDEN: &[u8] = b"\xb5\x01\x01\x00\x86\
        \xa2id\xd9\x2000112233445566778899aabbccddeeff\
        \xa4type\xa7created\
        \xa7payload\x92\x07\xa3cup\
        \xa9timestamp\xcf\x00\x00\x01\x8b\xcf\xe5\x68\x00\
        \xa6source\xa6orders\
        \xaecorrelation_id\xa5req-1";

    #[test]
    fn a_message_is_written_as_the_golden_bytes_are() {
        let envelope = Outgoing {
            id: "00112233445566778899aabbccddeeff",
            kind: "created",
            payload: &(7, "cup"),
            timestamp: 1_700_000_000_000,
            source: "orders",
            correlation_id: Some("req-1"),
        };
        assert_eq!(Codec::MessagePack.encode(&envelope).unwrap().as_ref(), GOLDEN);
    }

    #[test]
    fn the_golden_bytes_are_read() {
        let read = Message::<(u8, String)>::read(Codec::MessagePack, b"c", GOLDEN, Some("created"));
        let message = read.unwrap().expect("it is of that kind");
        assert_eq!(message.id, "00112233445566778899aabbccddeeff");
        assert_eq!(message.kind, "created");
        assert_eq!(message.payload, (7, "cup".to_owned()));
        assert_eq!(message.timestamp, UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        assert_eq!(message.source, "orders");
        assert_eq!(message.correlation_id.as_deref(), Some("req-1"));
        assert_eq!(message.channel, b"c");
    }

    #[test]
    fn new_fields_are_passed_over_and_missing_ones_are_empty() {
        #[derive(Serialize)]
        struct Newer {
            priority: u8,
            id: &'static str,
            r#type: &'static str,
            payload: u8,
        }
        let newer = Newer { priority: 3, id: "i", r#type: "k", payload: 9 };
        for codec in [Codec::MessagePack, Codec::Json, Codec::Plain] {
            let bytes = codec.encode(&newer).unwrap();
            let message = Message::<u8>::read(codec, b"", &bytes, None).unwrap().expect("any kind");
            assert_eq!((message.payload, message.timestamp), (9, UNIX_EPOCH));
            assert_eq!((message.source.as_str(), message.correlation_id), ("", None));
        }
    }

    #[test]
    fn another_kind_is_told_before_its_payload_is_read() {
        let other = Message::<Vec<String>>::read(Codec::MessagePack, b"", GOLDEN, Some("deleted"));
        assert!(other.unwrap().is_none());
        let same = Message::<Vec<String>>::read(Codec::MessagePack, b"", GOLDEN, Some("created"));
        assert!(matches!(same, Err(Error::Undecodable(_))));
    }

    #[test]
    fn no_message_is_made_of_other_bytes() {
        for bytes in [b"".as_slice(), b"garbage", b"\xb5\x01\x01\x00", b"\xb5\x01\x01\x00\x01"] {
            let read = Message::<u8>::read(Codec::MessagePack, b"", bytes, None);
            assert!(matches!(read, Err(Error::Undecodable(_))), "{bytes:?}");
        }
    }
}
