//! A record as its fields, each with the MessagePack of its value: what the hash of a record holds.

use std::collections::HashSet;

use bytes::Bytes;
use redbrick_core_conn::Codec;
use rmp::Marker;
use serde::{Serialize, de::DeserializeOwned};

use crate::Error;

/// The field of the hash that holds the header of all values: core-conn's, which says what wrote them.
pub(crate) const FORMAT: &[u8] = b"\0";
/// How long that header is.
pub(crate) const HEADER: usize = 4;
/// Nil in MessagePack.
pub(crate) const NIL: &[u8] = b"\xc0";
/// How many levels a value may nest below the record, so that it can be read again.
const LEVELS: usize = 126;

/// The fields of a record or of a patch.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    pub(crate) header: Bytes,
    pub(crate) fields: Vec<(Bytes, Bytes)>,
}

impl Fields {
    /// Takes a value apart.
    pub(crate) fn split<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        let encoded = Codec::MessagePack.encode(value).map_err(Error::unwritable)?;
        let (header, mut rest) = (encoded.slice(..HEADER), encoded.slice(HEADER..));
        let head = head(&rest).filter(|head| is_map(head.marker));
        let head = head.ok_or_else(|| Error::misshaped("it is no struct and no map"))?;
        rest = rest.slice(head.len..);
        let mut fields = Vec::new();
        let mut names = HashSet::new();
        for _ in 0..head.items / 2 {
            let name = take(&mut rest)?;
            let name = text(&name).ok_or_else(|| Error::misshaped("a key of it is no text"))?;
            if name == FORMAT {
                return Err(Error::misshaped("the field named NUL is kept for its format"));
            }
            if !names.insert(name.clone()) {
                return Err(Error::misshaped("it has two fields of one name"));
            }
            fields.push((name, take(&mut rest)?));
        }
        Ok(Self { header, fields })
    }

    /// Reads what a hash holds: field, value, field, value.
    pub(crate) fn stored(found: Vec<Bytes>) -> Self {
        let (mut header, mut fields) = (Bytes::new(), Vec::with_capacity(found.len() / 2));
        let mut found = found.into_iter();
        while let (Some(name), Some(value)) = (found.next(), found.next()) {
            if name == FORMAT {
                header = value;
            } else {
                fields.push((name, value));
            }
        }
        Self { header, fields }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Bytes> {
        self.fields.iter().find(|(field, _)| field == name.as_bytes()).map(|(_, value)| value)
    }

    /// The MessagePack of them all, with as much room as more of them need.
    pub(crate) fn join(&self, more: usize) -> Result<Vec<u8>, Error> {
        let len =
            self.fields.iter().map(|(name, value)| name.len() + value.len() + 5).sum::<usize>();
        let mut out = Vec::with_capacity(len + HEADER + 5);
        let count = u32::try_from(self.fields.len() + more)
            .map_err(|_many| Error::misshaped("it has too many fields"))?;
        write_map_len(&mut out, count);
        for (name, value) in &self.fields {
            push_text(&mut out, name);
            out.extend_from_slice(value);
        }
        Ok(out)
    }

    /// Makes the value of them.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        if self.fields.iter().any(|(_, value)| extent(value) != Some(value.len())) {
            return Err(Error::misshaped("a field of it is not what redbrick writes"));
        }
        let encoded = [&self.header[..], &self.join(0)?].concat();
        Codec::MessagePack.decode(&encoded).map_err(Error::unreadable)
    }
}

/// Appends a text.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        len @ 0..32 => out.push(0xa0 | u8::try_from(len).unwrap_or(0)),
        len @ 32..0x100 => out.extend([0xd9, u8::try_from(len).unwrap_or(0)]),
        len @ 0x100..0x1_0000 => {
            out.push(0xda);
            out.extend(u16::try_from(len).unwrap_or(0).to_be_bytes());
        }
        len => {
            out.push(0xdb);
            out.extend(u32::try_from(len).unwrap_or(0).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

fn write_map_len(out: &mut Vec<u8>, len: u32) {
    out.push(0xdf);
    out.extend(len.to_be_bytes());
}

/// Takes the first item off.
fn take(rest: &mut Bytes) -> Result<Bytes, Error> {
    let what = "a value of it nests deeper than 126 levels";
    let len = extent(rest).ok_or_else(|| Error::misshaped(what))?;
    Ok(rest.split_to(len))
}

/// What a text says.
fn text(item: &Bytes) -> Option<Bytes> {
    let head = head(item)?;
    let is_text =
        matches!(head.marker, Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32);
    is_text.then(|| item.slice(head.len..))
}

fn is_map(marker: Marker) -> bool {
    matches!(marker, Marker::FixMap(_) | Marker::Map16 | Marker::Map32)
}

/// How many bytes the first item has, with all that is in it; none when it is not whole, or nests too deep.
pub(crate) fn extent(bytes: &[u8]) -> Option<usize> {
    // How many items are still to come on each level.
    let mut levels = vec![1_u64];
    let mut at = 0_usize;
    while let Some(left) = levels.last_mut() {
        if *left == 0 {
            levels.pop();
            continue;
        }
        *left -= 1;
        let head = head(bytes.get(at..)?)?;
        at = at.checked_add(head.len)?.checked_add(head.body)?;
        if head.items > 0 {
            if levels.len() > LEVELS {
                return None;
            }
            levels.push(head.items);
        }
    }
    (at <= bytes.len()).then_some(at)
}

/// The beginning of an item.
struct Head {
    marker: Marker,
    len: usize,
    /// How many bytes follow.
    body: usize,
    /// How many items follow.
    items: u64,
}

fn head(bytes: &[u8]) -> Option<Head> {
    let marker = Marker::from_u8(*bytes.first()?);
    // How many bytes of a length stand behind the marker, and what it is of.
    let (len_bytes, fixed, extra, unit) = match marker {
        Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => {
            (0, 0, 0, 0)
        }
        Marker::Reserved => return None,
        Marker::U8 | Marker::I8 => (0, 1, 0, 0),
        Marker::U16 | Marker::I16 => (0, 2, 0, 0),
        Marker::U32 | Marker::I32 | Marker::F32 => (0, 4, 0, 0),
        Marker::U64 | Marker::I64 | Marker::F64 => (0, 8, 0, 0),
        Marker::FixStr(len) => (0, usize::from(len), 0, 0),
        Marker::Str8 | Marker::Bin8 => (1, 0, 0, 0),
        Marker::Str16 | Marker::Bin16 => (2, 0, 0, 0),
        Marker::Str32 | Marker::Bin32 => (4, 0, 0, 0),
        Marker::FixExt1 => (0, 2, 0, 0),
        Marker::FixExt2 => (0, 3, 0, 0),
        Marker::FixExt4 => (0, 5, 0, 0),
        Marker::FixExt8 => (0, 9, 0, 0),
        Marker::FixExt16 => (0, 17, 0, 0),
        Marker::Ext8 => (1, 0, 1, 0),
        Marker::Ext16 => (2, 0, 1, 0),
        Marker::Ext32 => (4, 0, 1, 0),
        Marker::FixArray(len) => (0, usize::from(len), 0, 1),
        Marker::Array16 => (2, 0, 0, 1),
        Marker::Array32 => (4, 0, 0, 1),
        Marker::FixMap(len) => (0, usize::from(len), 0, 2),
        Marker::Map16 => (2, 0, 0, 2),
        Marker::Map32 => (4, 0, 0, 2),
    };
    let len = bytes.get(1..1 + len_bytes)?;
    let stated = len.iter().fold(fixed, |sum, byte| (sum << 8) | usize::from(*byte));
    let (body, items) = if unit == 0 { (stated + extra, 0) } else { (0, stated as u64 * unit) };
    Some(Head { marker, len: 1 + len_bytes, body, items })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Everything {
        none: Option<u8>,
        small: i8,
        large: u64,
        float: f64,
        text: String,
        long: String,
        list: Vec<Vec<u16>>,
        map: BTreeMap<String, BTreeMap<u32, String>>,
        choice: Vec<Choice>,
        any: Value,
    }

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    enum Choice {
        Unit,
        One(u8),
        Named { a: i64 },
    }

    fn everything() -> Everything {
        let inner = (0..20).map(|n| (n * 5_000, "x".repeat(n as usize * 20))).collect();
        Everything {
            none: None,
            small: -100,
            large: u64::MAX,
            float: 0.1,
            text: "a".to_owned(),
            long: "b".repeat(70_000),
            list: vec![vec![]; 40],
            map: BTreeMap::from([(String::new(), inner)]),
            choice: vec![Choice::Unit, Choice::One(200), Choice::Named { a: -1 << 40 }],
            any: json!({"a": [1, 2.5, null, {"b": false}]}),
        }
    }

    #[test]
    fn what_is_taken_apart_is_put_together_again() {
        let split = Fields::split(&everything()).unwrap();
        assert_eq!(split.fields.len(), 10);
        let stored = split.fields.iter().flat_map(|(name, value)| [name.clone(), value.clone()]);
        let header = [Bytes::from_static(FORMAT), split.header.clone()];
        let found = Fields::stored(stored.chain(header).collect());
        assert_eq!(found.decode::<Everything>().unwrap(), everything());
    }

    #[test]
    fn the_bytes_of_a_field_stay_what_they_are() {
        let split = Fields::split(&json!({"name": "Ada", "age": 36, "at": null})).unwrap();
        assert_eq!(split.header, b"\xB5\x01\x01\x00".as_slice());
        assert_eq!(split.get("name").unwrap(), b"\xa3Ada".as_slice());
        assert_eq!(split.get("age").unwrap(), b"\x24".as_slice());
        assert_eq!(split.get("at").unwrap(), NIL);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let deep = (0..127).fold(json!(1), |inner, _| json!([inner]));
        let numbered = BTreeMap::from([(1, 1)]);
        for (refused, says) in [
            (Fields::split(&7), "no struct"),
            (Fields::split("text"), "no struct"),
            (Fields::split(&[1, 2]), "no struct"),
            (Fields::split(&numbered), "no text"),
            (Fields::split(&json!({"\0": 1})), "NUL"),
            (Fields::split(&json!({ "deep": deep })), "deeper"),
        ] {
            let said = refused.unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn garbage_in_a_field_is_not_taken_for_more_fields() {
        for garbage in [b"".as_slice(), b"\x01\x02", b"\xc1", b"\xa5abc", b"\xdf\xff\xff\xff\xff"] {
            let mut fields = Fields::split(&json!({"a": 1, "b": 2})).unwrap();
            fields.fields[0].1 = Bytes::from_static(garbage);
            fields.decode::<Value>().unwrap_err();
        }
    }

    #[test]
    fn cut_off_bytes_have_no_extent() {
        let whole = Codec::MessagePack.encode(&everything()).unwrap().slice(HEADER..);
        assert_eq!(extent(&whole), Some(whole.len()));
        for len in 0..whole.len().min(600) {
            assert_eq!(extent(&whole[..len]), None, "{len}");
        }
    }
}
