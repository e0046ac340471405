//! What an entry looks like in Redis: a header with the versions of its tags, then the value as its codec wrote it.
//!
//! ```text
//! byte  0     1        2..10  10..12  12…
//!       0xCA  version  mark   tags    for each tag: length (4), name, version (8); then the value
//! ```
//!
//! The version is 1 and numbers are big-endian. The mark is random and tells two entries of one key apart.

use bytes::{BufMut, Bytes, BytesMut};
use redbrick_core_conn::Token;

const MAGIC: u8 = 0xCA;
const VERSION: u8 = 1;
/// Where the number of tags stands; what is before it tells entries apart.
const MARK_END: usize = 10;

/// The version of a tag: random, and compared for being the same.
pub(crate) type Version = [u8; 8];

/// A tag by its name, and the version that it had.
pub(crate) type Tag = (Bytes, Version);

/// An entry that was read.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) tags: Vec<Tag>,
    pub(crate) value: Bytes,
}

/// Puts an entry together, under a mark of its own.
pub(crate) fn encode(tags: &[Tag], value: &[u8]) -> Bytes {
    let names: usize = tags.iter().map(|(name, _)| name.len() + 12).sum();
    let mut out = BytesMut::with_capacity(MARK_END + 2 + names + value.len());
    out.put_slice(&[MAGIC, VERSION]);
    out.put_slice(Token::<8>::random().as_bytes());
    // More tags than fit are refused where they are named.
    out.put_u16(u16::try_from(tags.len()).unwrap_or(u16::MAX));
    for (name, version) in tags {
        out.put_u32(u32::try_from(name.len()).unwrap_or(u32::MAX));
        out.put_slice(name);
        out.put_slice(version);
    }
    out.put_slice(value);
    out.freeze()
}

/// Reads an entry; `None` for what another program or a newer release wrote.
pub(crate) fn decode(stored: &Bytes) -> Option<Entry> {
    let mut rest = Cursor { stored, at: 0 };
    if *rest.take(2)? != [MAGIC, VERSION] {
        return None;
    }
    rest.take(MARK_END - 2)?;
    let count = u16::from_be_bytes(rest.take(2)?.as_ref().try_into().ok()?);
    let mut tags = Vec::new();
    for _ in 0..count {
        let length = u32::from_be_bytes(rest.take(4)?.as_ref().try_into().ok()?);
        let name = rest.take(usize::try_from(length).ok()?)?;
        tags.push((name, rest.take(8)?.as_ref().try_into().ok()?));
    }
    Some(Entry { tags, value: stored.slice(rest.at..) })
}

/// Returns how an entry begins, by which it is known again.
pub(crate) fn mark(stored: &Bytes) -> Bytes {
    stored.slice(..stored.len().min(MARK_END))
}

struct Cursor<'a> {
    stored: &'a Bytes,
    at: usize,
}

impl Cursor<'_> {
    fn take(&mut self, length: usize) -> Option<Bytes> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.stored.len())?;
        let taken = self.stored.slice(self.at..end);
        self.at = end;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_together_is_read() {
        let tags = vec![(Bytes::new(), [0; 8]), (Bytes::from(vec![b'x'; 70_000]), [7; 8])];
        for tags in [Vec::new(), tags] {
            let stored = encode(&tags, b"value");
            let entry = decode(&stored).unwrap();
            assert_eq!(entry, Entry { tags, value: Bytes::from_static(b"value") });
        }
    }

    #[test]
    fn what_is_cut_off_or_from_elsewhere_is_no_entry() {
        let stored = encode(&[(Bytes::from_static(b"tag"), [1; 8])], b"");
        for length in 0..stored.len() {
            assert_eq!(decode(&stored.slice(..length)), None, "{length}");
        }
        let mut newer = stored.to_vec();
        newer[1] = 2;
        for other in [newer, b"hello, this is another program".to_vec(), vec![0xFF; 40]] {
            assert_eq!(decode(&other.into()), None);
        }
    }

    #[test]
    fn golden_bytes_of_the_first_release_are_read() {
        let stored = Bytes::from_static(
            b"\xCA\x01markmark\x00\x01\x00\x00\x00\x03tagversion!\xB5\x01\x01\x00\x07",
        );
        let entry = decode(&stored).unwrap();
        assert_eq!(entry.tags, [(Bytes::from_static(b"tag"), *b"version!")]);
        assert_eq!(entry.value, b"\xB5\x01\x01\x00\x07".as_slice());
        assert_eq!(mark(&stored), b"\xCA\x01markmark".as_slice());
    }

    #[test]
    fn two_entries_of_one_value_have_two_marks() {
        assert_ne!(mark(&encode(&[], b"a")), mark(&encode(&[], b"a")));
    }
}
