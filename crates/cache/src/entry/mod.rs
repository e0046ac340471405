//! What an entry looks like in Redis: a header, which says until when it is fresh and what its tags were, then the value as its
//! codec wrote it.
//!
//! ```text
//! byte  0     1        2..10  10..16       16..18  18     19..21  21…
//!       0xCA  version  mark   fresh until  cost    flags  tags    for each tag: length (1, or 255 and 4 more), name, version (8);
//!                                                                 then the value
//! ```
//!
//! The version is 3 and numbers are big-endian. The mark is random and tells two entries of one key apart. *Fresh until* is by the
//! server's clock, in milliseconds since 1970; where that is not known, all its bits are set. The cost is how long the load
//! took, in milliseconds; 65,535 stands for all above, and 0 for a value that was set. The flags say how the value is compressed: 0 not
//! at all, 1 by Zstandard, 2 by LZ4; and 128 more that it is not served when it is fresh no more.
//!
//! In its place can lie a lease: then somebody loads, and nothing is there yet.

pub(crate) mod age;
pub(crate) mod clock;
pub(crate) mod compress;
pub(crate) mod read;

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub use compress::Compression;

use compress::Packed;

const MAGIC: u8 = 0xCA;
const VERSION: u8 = 3;
/// What a lease begins with, and how long it is.
const LEASE: u8 = 0xCB;
const LEASE_LEN: usize = 18;
/// The flag of an entry whose life was shortened: it is over when it is fresh no more.
const ENDS: u8 = 0x80;
/// What is before it tells entries apart.
const MARK_END: usize = 10;
pub(crate) const MARK_LEN: usize = MARK_END - 2;
const FRESH_END: usize = 16;
const HEADER_LEN: usize = 21;
/// A tag whose name is as long or longer has its length in four bytes.
const LONG: usize = 255;

/// The moment that is never over.
pub(crate) const NEVER_OVER: u64 = (1 << 48) - 1;

/// The version of a tag: compared for being the same.
pub(crate) type Version = [u8; 8];

/// A tag by its name, and the version that it had.
pub(crate) type Tag = (Bytes, Version);

/// What is stored at the key of an entry.
#[derive(Debug)]
pub(crate) enum Stored {
    Entry(Entry),
    /// Somebody loads.
    Lease,
    /// What another program or another release wrote, and how that begins.
    Foreign(Bytes),
}

/// An entry that was read.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) head: Head,
    /// How its value is compressed.
    flags: u8,
    stored: Bytes,
    value_at: usize,
}

/// What an entry says of its value.
#[derive(Debug)]
pub(crate) struct Head {
    /// By the server's clock, in milliseconds.
    pub(crate) fresh_until: u64,
    /// In milliseconds.
    pub(crate) cost: u16,
    /// Whether it is over when it is fresh no more.
    pub(crate) ends: bool,
    pub(crate) tags: Vec<Tag>,
}

impl Head {
    /// The same in memory of its own.
    pub(crate) fn detached(&self) -> Self {
        let tags = self.tags.iter().map(|(name, version)| (Bytes::copy_from_slice(name), *version));
        Self { tags: tags.collect(), ..*self }
    }
}

impl Entry {
    /// What its codec wrote, for somebody to read; nothing where that cannot be told here.
    pub(crate) fn encoded<T>(&self, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        if self.flags == 0 {
            return Some(read(&self.stored[self.value_at..]));
        }
        let encoded = compress::unpack(self.flags, &self.stored.slice(self.value_at..))?;
        Some(read(&encoded))
    }

    /// The same; it shares the memory of the entry.
    pub(crate) fn into_encoded(self) -> Option<Bytes> {
        compress::unpack(self.flags, &self.stored.slice(self.value_at..))
    }

    /// The entry in memory of its own.
    pub(crate) fn detached(self) -> Self {
        let (head, stored) = (self.head.detached(), Bytes::copy_from_slice(&self.stored));
        Self { head, stored, ..self }
    }

    /// How it begins, by which it is known again.
    pub(crate) fn beginning(&self) -> Bytes {
        beginning(&self.stored)
    }

    /// What tells it from others of its key.
    pub(crate) fn mark(&self) -> [u8; MARK_LEN] {
        self.stored.get(2..MARK_END).and_then(|mark| mark.try_into().ok()).unwrap_or_default()
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.stored.len()
    }
}

/// Puts an entry together, under a mark of its own.
pub(crate) fn encode(fresh_until: u64, cost: u16, tags: &[Tag], packed: &Packed) -> Bytes {
    let names: usize = tags.iter().map(|(name, _)| name.len() + 13).sum();
    let mut out = BytesMut::with_capacity(HEADER_LEN + names + packed.value.len());
    out.put_slice(&header(fresh_until, cost, packed.flags, tags.len()));
    for (name, version) in tags {
        put_name(&mut out, name);
        out.put_slice(version);
    }
    out.put_slice(&packed.value);
    out.freeze()
}

/// What stands before the tags of an entry, under a mark of its own.
pub(crate) fn header(fresh_until: u64, cost: u16, flags: u8, tags: usize) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    let mut rest = &mut header[..];
    rest.put_slice(&[MAGIC, VERSION]);
    // Nobody is to be kept from guessing it.
    rest.put_u64(fastrand::u64(..));
    rest.put_slice(&moment(fresh_until));
    rest.put_u16(cost);
    rest.put_u8(flags);
    // More tags than fit are refused where they are named.
    rest.put_u16(u16::try_from(tags).unwrap_or(u16::MAX));
    header
}

/// A moment as it stands in an entry.
fn moment(moment: u64) -> [u8; FRESH_END - MARK_END] {
    let [_, _, moment @ ..] = moment.min(NEVER_OVER).to_be_bytes();
    moment
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

/// Tells what is stored; nothing of it is copied.
pub(crate) fn decode(stored: Bytes) -> Stored {
    if is_lease(&stored) {
        return Stored::Lease;
    }
    let Some(Parsed { fresh_until, cost, flags, tags, value_at }) = parsed(&stored) else {
        return Stored::Foreign(beginning(&stored));
    };
    let (ends, flags) = (flags & ENDS != 0, flags & !ENDS);
    if !compress::is_known(flags) {
        return Stored::Foreign(beginning(&stored));
    }
    let head = Head { fresh_until, cost, ends, tags };
    Stored::Entry(Entry { head, flags, stored, value_at })
}

/// What stands before the value.
struct Parsed {
    fresh_until: u64,
    cost: u16,
    flags: u8,
    tags: Vec<Tag>,
    value_at: usize,
}

fn parsed(stored: &Bytes) -> Option<Parsed> {
    let mut rest = &**stored;
    if *take(&mut rest, 2)? != [MAGIC, VERSION] {
        return None;
    }
    take(&mut rest, MARK_END - 2)?;
    let fresh_until = take(&mut rest, FRESH_END - MARK_END)?.get_uint(FRESH_END - MARK_END);
    let cost = rest.try_get_u16().ok()?;
    let flags = rest.try_get_u8().ok()?;
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
    Some(Parsed { fresh_until, cost, flags, tags, value_at: stored.len() - rest.len() })
}

/// Until when an entry is fresh that begins so; nothing where that is none.
pub(crate) fn fresh_until(beginning: &[u8]) -> Option<u64> {
    let (head, mut moment) = beginning.get(..FRESH_END)?.split_at(MARK_END);
    head.starts_with(&[MAGIC, VERSION]).then(|| moment.get_uint(FRESH_END - MARK_END))
}

/// Whether what is stored is a lease.
fn is_lease(stored: &[u8]) -> bool {
    matches!(stored, [LEASE, b'0'..=b'2', ..] if stored.len() == LEASE_LEN)
}

/// Returns how an entry begins, by which it is known again; a copy, so that the entry need not be kept for it.
pub(crate) fn beginning(stored: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&stored[..stored.len().min(MARK_END)])
}

/// How an entry begins with this mark.
pub(crate) fn beginning_of(mark: [u8; MARK_LEN]) -> Bytes {
    [&[MAGIC, VERSION][..], &mark].concat().into()
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    rest.split_off(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(value: &[u8]) -> Packed {
        Packed { flags: 0, value: Bytes::copy_from_slice(value) }
    }

    fn stored(cost: u16, tags: &[Tag], value: &[u8]) -> Bytes {
        encode(258, cost, tags, &packed(value))
    }

    fn decoded(stored: Bytes) -> Entry {
        match decode(stored) {
            Stored::Entry(entry) => entry,
            other => panic!("no entry: {other:?}"),
        }
    }

    fn read(entry: &Entry) -> Vec<u8> {
        entry.encoded(<[u8]>::to_vec).expect("it is not compressed")
    }

    #[test]
    fn what_was_put_together_is_read() {
        let named = |length: usize| (Bytes::from(vec![b'x'; length]), [7; 8]);
        let tags = [0, 1, 254, 255, 256, 70_000].map(named).to_vec();
        for tags in [Vec::new(), tags] {
            let entry = decoded(stored(9, &tags, b"value"));
            assert_eq!((entry.head.fresh_until, entry.head.cost), (258, 9));
            assert_eq!((read(&entry), &entry.head.tags), (b"value".to_vec(), &tags));
            assert_eq!(entry.into_encoded().unwrap(), b"value".as_slice());
        }
    }

    #[test]
    fn parts_that_the_server_puts_together_are_read() {
        let whole = [&header(258, 0, 0, 1)[..], &name(b"tag"), b"version!", b"value"].concat();
        let entry = decoded(whole.into());
        assert_eq!(entry.head.tags, [(Bytes::from_static(b"tag"), *b"version!")]);
        assert_eq!(read(&entry), b"value");
    }

    #[test]
    fn a_moment_that_does_not_fit_is_never_over() {
        assert_eq!(decoded(encode(u64::MAX, 0, &[], &packed(b""))).head.fresh_until, NEVER_OVER);
    }

    #[test]
    fn two_tags_of_usual_names_cost_32_bytes_at_most_and_the_header_21() {
        let tags =
            [(Bytes::from_static(b"user:7"), [0; 8]), (Bytes::from_static(b"lamps"), [1; 8])];
        let plain = stored(0, &[], b"").len();
        assert!(plain == 21 && stored(0, &tags, b"").len() - plain <= 32);
    }

    #[test]
    fn what_is_cut_off_or_from_elsewhere_is_no_entry() {
        let stored = stored(0, &[(Bytes::from_static(b"tag"), [1; 8])], b"");
        for length in 0..stored.len() {
            assert!(matches!(decode(stored.slice(..length)), Stored::Foreign(_)), "{length}");
        }
        let (mut newer, mut flagged) = (stored.to_vec(), stored.to_vec());
        (newer[1], flagged[18]) = (4, 0x40);
        let text = b"hello, this is another program".to_vec();
        for other in [newer, flagged, text, vec![0xFF; 40]] {
            assert!(matches!(decode(other.into()), Stored::Foreign(_)));
        }
        for other in [&b"\xCB0"[..], b"\xCB3its token (16 B)", b"\xCB0its token is long"] {
            assert!(matches!(decode(Bytes::from_static(other)), Stored::Foreign(_)));
        }
        assert!(matches!(decode(Bytes::from_static(b"\xCB0its token (16 B)")), Stored::Lease));
    }

    #[test]
    fn one_whose_life_was_shortened_says_so() {
        let mut shortened = stored(0, &[], b"value").to_vec();
        assert!(!decoded(shortened.clone().into()).head.ends);
        shortened[18] |= ENDS;
        let entry = decoded(shortened.into());
        assert!(entry.head.ends && read(&entry) == b"value");
    }

    #[test]
    fn golden_bytes_are_read() {
        let stored = Bytes::from_static(
            b"\xCA\x03markmark\x01\x9A\x00\x00\x00\x01\x00\x32\x00\x00\x01\x03tagversion!\xB5\x01\x01\x00\x07",
        );
        let entry = decoded(stored.clone());
        assert_eq!((entry.head.fresh_until, entry.head.cost), (0x019A_0000_0001, 50));
        assert_eq!(entry.head.tags, [(Bytes::from_static(b"tag"), *b"version!")]);
        assert_eq!(read(&entry), b"\xB5\x01\x01\x00\x07");
        assert_eq!(beginning(&stored), b"\xCA\x03markmark".as_slice());
    }

    #[test]
    fn two_entries_of_one_value_have_two_marks() {
        assert_ne!(beginning(&stored(0, &[], b"a")), beginning(&stored(0, &[], b"a")));
    }
}
