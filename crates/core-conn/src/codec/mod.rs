//! What a value looks like in Redis: four bytes of header, then the value itself; or, by choice, the value
//! alone.
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

#[cfg(test)]
mod blob;
mod depth;
mod plain;

use bytes::Bytes;
use rmp_serde::decode;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

use self::depth::Limited;
use crate::{Error, ErrorKind, Result};
#[cfg(test)]
pub(crate) use blob::Blob;

/// How values are written, and whether those of other programs are read.
///
/// MessagePack and JSON carry a header. Reading with either takes both, and refuses what has no header.
/// [`Plain`](Self::Plain) has none, so it is for both sides to choose. A value that nests deeper than 127
/// levels can be written but not read, with any of them.
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
    /// No header: data shared with other programs. In a configuration file: `plain`.
    ///
    /// | the type | what is stored |
    /// |---|---|
    /// | a text, a `char` | its UTF-8, without quotes |
    /// | what serde calls bytes (not `Vec<u8>`, which is a list to it) | the bytes |
    /// | a newtype, `Some` | what is in it |
    /// | `None`, `()` | `null` |
    /// | a number, a `bool` | `12`, `0.5`, `true` |
    /// | everything else: structs, enums, lists, maps | JSON; within it, texts are quoted as usual |
    ///
    /// The type asked for decides how a value is read, its first bytes decide nothing: the same `12` is a
    /// number to `i64` and a text to `String`, and a value with a header is not recognized. Two values come
    /// back as others: `Some("null")` as `None`, and a number that is infinite or none is written as `null`.
    /// Types that ask what is there (`serde_json::Value`, untagged enums) are given JSON, so they do not get
    /// bare texts back.
    #[serde(alias = "Plain")]
    Plain,
}

impl Codec {
    /// Encodes `value` as [`Conn::set`](crate::Conn::set) would, with its header where the codec has one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`](crate::ErrorKind::Codec) when it cannot be encoded.
    pub fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Bytes> {
        let out = match self {
            Self::MessagePack => {
                let mut out = header(MESSAGEPACK);
                rmp_serde::encode::write_named(&mut out, value).map_err(unencodable)?;
                out
            }
            Self::Json => {
                let mut out = header(JSON);
                serde_json::to_writer(&mut out, value).map_err(unencodable)?;
                out
            }
            Self::Plain => plain::to_bytes(value).map_err(unencodable)?,
        };
        Ok(out.into())
    }

    /// Decodes what [`encode`](Self::encode) wrote: a value with a header whichever codec wrote it, one
    /// without when this codec is [`Plain`](Self::Plain).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`](crate::ErrorKind::Codec) when it was written by another program, by a newer release, or does not
    /// have the shape of `T`.
    pub fn decode<T: DeserializeOwned>(self, stored: &[u8]) -> Result<T> {
        match self {
            Self::MessagePack | Self::Json => decode_by_header(stored),
            Self::Plain => plain::from_slice(stored).map_err(undecodable),
        }
    }
}

const MAGIC: u8 = 0xB5;
const VERSION: u8 = 1;
const HEADER_LEN: usize = 4;
const MESSAGEPACK: u8 = 1;
const JSON: u8 = 2;

fn header(codec: u8) -> Vec<u8> {
    vec![MAGIC, VERSION, codec, 0]
}

fn decode_by_header<T: DeserializeOwned>(stored: &[u8]) -> Result<T> {
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
        MESSAGEPACK => decode_messagepack(value).map_err(undecodable),
        JSON => serde_json::from_slice(value).map_err(undecodable),
        _ => Err(newer()),
    }
}

/// As `rmp_serde::from_slice`, but for values that nest too deep or have something behind them.
fn decode_messagepack<T: DeserializeOwned>(value: &[u8]) -> Result<T, decode::Error> {
    let mut messagepack = rmp_serde::Deserializer::from_read_ref(value);
    let decoded = T::deserialize(Limited::new(&mut messagepack))?;
    match IgnoredAny::deserialize(Limited::new(&mut messagepack)) {
        Err(decode::Error::InvalidMarkerRead(_)) => Ok(decoded),
        _ => Err(decode::Error::Syntax("bytes behind the value".to_owned())),
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
        "the stored value has no redbrick header: another program wrote it (read it with `Codec::Plain`), or it is a counter (`Conn::count`)",
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
    fn a_configuration_file_names_them() {
        for (name, codec) in
            [("messagepack", Codec::MessagePack), ("json", Codec::Json), ("plain", Codec::Plain)]
        {
            let named = serde_json::from_value::<Codec>(name.into()).unwrap();
            assert_eq!(named, codec);
        }
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
        for codec in [Codec::MessagePack, Codec::Json, Codec::Plain] {
            let newer = Newer { id: 7, name: "Ada".to_owned(), email: Some("a@b".to_owned()) };
            assert_eq!(codec.decode::<User>(&codec.encode(&newer).unwrap()).unwrap(), ada());
            assert_eq!(codec.decode::<Newer>(&codec.encode(&ada()).unwrap()).unwrap().email, None);
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
            (b"plain text", "`Codec::Plain`"),
            (newer, "newer release"),
            (flagged, "newer release"),
            (codec, "newer release"),
            (b"\xB5\x01\x01\x00", "shape"),
            (b"\xB5\x01\x01\x00\x82\xa2id\x07\xa4name\xa3Ada\xc0", "shape"),
            (b"\xB5\x01\x02\x00{\"id\":7,\"name\":\"Ada\"}{}", "shape"),
            (b"\xB5\x01\x02\x00{\"id\":", "shape"),
        ] {
            let err = Codec::default().decode::<User>(stored).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Codec);
            assert!(err.to_string().contains(says), "{stored:?}: {err}");
        }
    }
}
