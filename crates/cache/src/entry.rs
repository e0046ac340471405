//! What an entry looks like in Redis: a header, which says until when it is fresh and what its tags were, then the value as its
//! codec wrote it.
//!
//! ```text
//! byte  0     1        2..10  10..16       16..18  18..20  20…
//!       0xCA  version  mark   fresh until  cost    tags    for each tag: length (1, or 255 and 4 more), name, version (8);
//!                                                          then the value
//! ```
//!
//! The version is 2 and numbers are big-endian. The mark is random and tells two entries of one key apart. *Fresh until* is
//! written by the script that stores the entry, by the server's clock, in milliseconds since 1970. The cost is how long the load
//! took, in milliseconds; 65,535 stands for all above, and 0 for a value that was set.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use redbrick_core_conn::Token;

const MAGIC: u8 = 0xCA;
const VERSION: u8 = 2;
/// What is before it tells entries apart, and is written here.
const MARK_END: usize = 10;
/// What is before it is written by the server.
const FRESH_END: usize = 16;
/// A tag whose name is as long or longer has its length in four bytes.
const LONG: usize = 255;

/// The version of a tag: random, and compared for being the same.
pub(crate) type Version = [u8; 8];

/// A tag by its name, and the version that it had.
pub(crate) type Tag = (Bytes, Version);

/// An entry that was read.
#[derive(Debug)]
pub(crate) struct Entry {
    /// By the server's clock, in milliseconds.
    pub(crate) fresh_until: u64,
    /// In milliseconds.
    pub(crate) cost: u16,
    pub(crate) tags: Vec<Tag>,
    stored: Bytes,
    value_at: usize,
}

impl Entry {
    /// What its codec wrote.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.stored[self.value_at..]
    }

    /// The same, to keep.
    pub(crate) fn into_encoded(mut self) -> Bytes {
        self.stored.split_off(self.value_at)
    }

    /// How it begins, by which it is known again.
    pub(crate) fn mark(&self) -> Bytes {
        mark(&self.stored)
    }
}

/// An entry that is to be stored: what comes before the moment until which it is fresh, and what comes behind.
pub(crate) struct Parts {
    pub(crate) before: Bytes,
    pub(crate) behind: Bytes,
}

/// Puts an entry together, under a mark of its own.
pub(crate) fn encode(cost: u16, tags: &[Tag], value: &[u8]) -> Parts {
    let names: usize = tags.iter().map(|(name, _)| name.len() + 13).sum();
    let mut behind = BytesMut::with_capacity(4 + names + value.len());
    behind.put_slice(&middle(cost, tags.len()));
    for (name, version) in tags {
        put_name(&mut behind, name);
        behind.put_slice(version);
    }
    behind.put_slice(value);
    Parts { before: beginning(), behind: behind.freeze() }
}

/// How an entry begins, under a mark of its own, up to the moment until which it is fresh.
pub(crate) fn beginning() -> Bytes {
    let mut beginning = BytesMut::with_capacity(MARK_END);
    beginning.put_slice(&[MAGIC, VERSION]);
    beginning.put_slice(Token::<8>::random().as_bytes());
    beginning.freeze()
}

/// What stands between that moment and the tags.
pub(crate) fn middle(cost: u16, tags: usize) -> [u8; 4] {
    // More tags than fit are refused where they are named.
    let tags = u16::try_from(tags).unwrap_or(u16::MAX);
    let ([a, b], [c, d]) = (cost.to_be_bytes(), tags.to_be_bytes());
    [a, b, c, d]
}

/// The name of a tag as it stands before its version.
pub(crate) fn name(name: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(name.len() + 5);
    put_name(&mut out, name);
    out.freeze()
}

fn put_name(out: &mut BytesMut, name: &[u8]) {
    match u8::try_from(name.len()) {
        Ok(length) if name.len() < LONG => out.put_u8(length),
        _ => {
            out.put_u8(u8::MAX);
            out.put_u32(u32::try_from(name.len()).unwrap_or(u32::MAX));
        }
    }
    out.put_slice(name);
}

/// Reads an entry; `None` for what another program or another release wrote. Nearly all have no tags, and nothing of them is copied.
pub(crate) fn decode(stored: &Bytes) -> Option<Entry> {
    let mut rest = &**stored;
    if *take(&mut rest, 2)? != [MAGIC, VERSION] {
        return None;
    }
    take(&mut rest, MARK_END - 2)?;
    let fresh_until = take(&mut rest, FRESH_END - MARK_END)?.get_uint(FRESH_END - MARK_END);
    let cost = rest.try_get_u16().ok()?;
    let count = rest.try_get_u16().ok()?;
    let mut tags = Vec::new();
    for _ in 0..count {
        let length = match rest.try_get_u8().ok()? {
            u8::MAX => usize::try_from(rest.try_get_u32().ok()?).ok()?,
            length => usize::from(length),
        };
        let name = stored.slice_ref(take(&mut rest, length)?);
        tags.push((name, take(&mut rest, 8)?.try_into().ok()?));
    }
    let value_at = stored.len() - rest.len();
    Some(Entry { fresh_until, cost, tags, stored: stored.clone(), value_at })
}

/// Returns how an entry begins, by which it is known again.
pub(crate) fn mark(stored: &Bytes) -> Bytes {
    stored.slice(..stored.len().min(MARK_END))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    rest.split_off(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server makes of an entry's parts.
    fn stored(cost: u16, tags: &[Tag], value: &[u8]) -> Bytes {
        let Parts { before, behind } = encode(cost, tags, value);
        [&*before, &[0, 0, 0, 0, 1, 2], &*behind].concat().into()
    }

    #[test]
    fn what_was_put_together_is_read() {
        let named = |length: usize| (Bytes::from(vec![b'x'; length]), [7; 8]);
        let tags = [0, 1, 254, 255, 256, 70_000].map(named).to_vec();
        for tags in [Vec::new(), tags] {
            let entry = decode(&stored(9, &tags, b"value")).unwrap();
            assert_eq!((entry.fresh_until, entry.cost, entry.encoded()), (258, 9, &b"value"[..]));
            assert_eq!(entry.tags, tags);
            assert_eq!(entry.into_encoded(), b"value".as_slice());
        }
    }

    #[test]
    fn two_tags_of_usual_names_cost_32_bytes_at_most_and_the_header_20() {
        let tags =
            [(Bytes::from_static(b"user:7"), [0; 8]), (Bytes::from_static(b"lamps"), [1; 8])];
        let plain = stored(0, &[], b"").len();
        assert!(plain == 20 && stored(0, &tags, b"").len() - plain <= 32);
    }

    #[test]
    fn what_is_cut_off_or_from_elsewhere_is_no_entry() {
        let stored = stored(0, &[(Bytes::from_static(b"tag"), [1; 8])], b"");
        for length in 0..stored.len() {
            assert!(decode(&stored.slice(..length)).is_none(), "{length}");
        }
        let mut newer = stored.to_vec();
        newer[1] = 3;
        for other in [newer, b"hello, this is another program".to_vec(), vec![0xFF; 40]] {
            assert!(decode(&other.into()).is_none());
        }
    }

    #[test]
    fn golden_bytes_are_read() {
        let stored = Bytes::from_static(
            b"\xCA\x02markmark\x01\x9A\x00\x00\x00\x01\x00\x32\x00\x01\x03tagversion!\xB5\x01\x01\x00\x07",
        );
        let entry = decode(&stored).unwrap();
        assert_eq!((entry.fresh_until, entry.cost), (0x019A_0000_0001, 50));
        assert_eq!(entry.tags, [(Bytes::from_static(b"tag"), *b"version!")]);
        assert_eq!(entry.encoded(), b"\xB5\x01\x01\x00\x07");
        assert_eq!(mark(&stored), b"\xCA\x02markmark".as_slice());
    }

    #[test]
    fn two_entries_of_one_value_have_two_marks() {
        assert_ne!(mark(&stored(0, &[], b"a")), mark(&stored(0, &[], b"a")));
    }
}
