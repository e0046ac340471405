//! What a value looks like in Redis: four bytes of header, then the value itself.
//!
//! ```text
//! byte  0     1        2      3      4…
//!       0xB5  version  codec  flags  value
//! ```
//!
//! The version is 1. The codec is 1 for MessagePack (structs as maps, by field name) and 2 for JSON.
//! No flag is defined yet; a set one means that a newer release wrote the value. The first byte starts
//! no UTF-8 text, no JSON and no number, so a value of another program is told apart, unless it is binary
//! and happens to begin alike.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Error, ErrorKind, Result};

const MAGIC: u8 = 0xB5;
const VERSION: u8 = 1;
const HEADER_LEN: usize = 4;

/// How values are written. Reading needs no choice: the value says how it was written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Codec {
    /// MessagePack with field names: compact, and a field can be added or left out between releases.
    /// In a configuration file: `messagepack`.
    #[default]
    #[serde(rename = "messagepack", alias = "MessagePack")]
    MessagePack,
    /// JSON: larger, readable by eye; other programs must skip the four bytes of header before it.
    /// In a configuration file: `json`.
    #[serde(alias = "JSON")]
    Json,
}

impl Codec {
    fn id(self) -> u8 {
        match self {
            Self::MessagePack => 1,
            Self::Json => 2,
        }
    }

    /// Encodes `value` with its header.
    pub(crate) fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Bytes> {
        let mut out = vec![MAGIC, VERSION, self.id(), 0];
        match self {
            Self::MessagePack => {
                rmp_serde::encode::write_named(&mut out, value).map_err(unencodable)
            }
            Self::Json => serde_json::to_writer(&mut out, value).map_err(unencodable),
        }?;
        Ok(out.into())
    }
}

/// Decodes what [`Codec::encode`] wrote, whichever codec it was.
pub(crate) fn decode<T: DeserializeOwned>(stored: &[u8]) -> Result<T> {
    let Some((&[magic, version, codec, flags], value)) = stored.split_first_chunk::<HEADER_LEN>()
    else {
        return Err(foreign());
    };
    if magic != MAGIC {
        return Err(foreign());
    }
    if version != VERSION || flags != 0 {
        return Err(newer());
    }
    match codec {
        1 => rmp_serde::from_slice(value).map_err(undecodable),
        2 => serde_json::from_slice(value).map_err(undecodable),
        _ => Err(newer()),
    }
}

fn unencodable(err: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Codec, "the value could not be encoded").with_source(err)
}

/// Keeps the decoder's words out of the message: they can quote the value.
fn undecodable(err: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Codec, "the stored value does not have the shape asked for")
        .with_source(err)
}

fn foreign() -> Error {
    Error::new(
        ErrorKind::Codec,
        "the stored value has no redbrick header: another program wrote it, or it is a counter (`Conn::count`)",
    )
}

fn newer() -> Error {
    Error::new(ErrorKind::Codec, "the stored value was written by a newer release of redbrick")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct User {
        id: u32,
        name: String,
    }

    fn ada() -> User {
        User { id: 7, name: "Ada".to_owned() }
    }

    #[test]
    fn bytes_stay_as_they_are_between_releases() {
        let messagepack = b"\xB5\x01\x01\x00\x82\xa2id\x07\xa4name\xa3Ada";
        let json = b"\xB5\x01\x02\x00{\"id\":7,\"name\":\"Ada\"}";
        assert_eq!(Codec::MessagePack.encode(&ada()).unwrap(), messagepack.as_slice());
        assert_eq!(Codec::Json.encode(&ada()).unwrap(), json.as_slice());
        assert_eq!(decode::<User>(messagepack).unwrap(), ada());
        assert_eq!(decode::<User>(json).unwrap(), ada());
    }

    #[test]
    fn old_readers_meet_new_fields_and_new_readers_old_values() {
        #[derive(Deserialize, Serialize)]
        struct Newer {
            id: u32,
            name: String,
            #[serde(default)]
            email: Option<String>,
        }
        for codec in [Codec::MessagePack, Codec::Json] {
            let newer = Newer { id: 7, name: "Ada".to_owned(), email: Some("a@b".to_owned()) };
            assert_eq!(decode::<User>(&codec.encode(&newer).unwrap()).unwrap(), ada());
            assert_eq!(decode::<Newer>(&codec.encode(&ada()).unwrap()).unwrap().email, None);
        }
    }

    #[test]
    fn whatever_it_cannot_read_is_an_error_that_says_why() {
        let newer = b"\xB5\x02\x01\x00\xc0".as_slice();
        let flagged = b"\xB5\x01\x01\x01\xc0".as_slice();
        let codec = b"\xB5\x01\x09\x00\xc0".as_slice();
        for (stored, says) in [
            (b"".as_slice(), "no redbrick header"),
            (b"\xB5\x01", "no redbrick header"),
            (b"plain text", "no redbrick header"),
            (newer, "newer release"),
            (flagged, "newer release"),
            (codec, "newer release"),
            (b"\xB5\x01\x01\x00", "shape"),
            (b"\xB5\x01\x02\x00{\"id\":", "shape"),
        ] {
            let err = decode::<User>(stored).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Codec);
            assert!(err.to_string().contains(says), "{stored:?}: {err}");
        }
    }
}
