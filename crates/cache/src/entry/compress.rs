//! Values that are stored smaller than they are: their length (4 bytes, big-endian), then what the algorithm made of them.

use bytes::Bytes;
#[cfg(any(feature = "zstd", feature = "lz4"))]
use bytes::{BufMut, BytesMut};

/// What is shorter is left alone.
#[cfg(any(feature = "zstd", feature = "lz4"))]
const SHORTEST: usize = 1024;
/// Redis keeps no longer value, so nothing longer was stored.
#[cfg(any(feature = "zstd", feature = "lz4"))]
const LONGEST: usize = 512 << 20;

/// The flag of an entry whose value is as its codec wrote it, and of those whose values are not.
const PLAIN: u8 = 0;
#[cfg(feature = "zstd")]
const ZSTD: u8 = 1;
#[cfg(feature = "lz4")]
const LZ4: u8 = 2;

/// How values of a kibibyte and more are stored; see [`CacheBuilder::compression`](crate::CacheBuilder::compression).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// Compressed by Zstandard (RFC 8878) at its default level: smaller than by LZ4, and slower.
    #[cfg(feature = "zstd")]
    Zstd,
    /// Compressed as a block of LZ4.
    #[cfg(feature = "lz4")]
    Lz4,
}

/// A value as it stands in an entry, and the entry's flags that say how to read it.
pub(crate) struct Packed {
    pub(crate) flags: u8,
    pub(crate) value: Bytes,
}

impl Compression {
    /// Compresses what a codec wrote, where that makes it smaller.
    pub(crate) fn pack(self, encoded: Bytes) -> Packed {
        let smaller = match self {
            Self::None => None,
            #[cfg(feature = "zstd")]
            Self::Zstd => packed(ZSTD, &encoded, |it| zstd::bulk::compress(it, 0).ok()),
            #[cfg(feature = "lz4")]
            Self::Lz4 => packed(LZ4, &encoded, |it| Some(lz4_flex::block::compress(it))),
        };
        smaller.unwrap_or(Packed { flags: PLAIN, value: encoded })
    }
}

#[cfg(any(feature = "zstd", feature = "lz4"))]
fn packed(
    flags: u8,
    encoded: &[u8],
    compress: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Option<Packed> {
    if encoded.len() < SHORTEST || encoded.len() > LONGEST {
        return None;
    }
    let length = u32::try_from(encoded.len()).ok()?;
    let compressed = compress(encoded)?;
    let mut value = BytesMut::with_capacity(4 + compressed.len());
    value.put_u32(length);
    value.put_slice(&compressed);
    (value.len() < encoded.len()).then(|| Packed { flags, value: value.freeze() })
}

/// Whether values with these flags can be read here.
pub(crate) fn is_known(flags: u8) -> bool {
    match flags {
        PLAIN => true,
        #[cfg(feature = "zstd")]
        ZSTD => true,
        #[cfg(feature = "lz4")]
        LZ4 => true,
        _ => false,
    }
}

/// What a codec wrote, of a value that stands in an entry with these flags; `None` where that cannot be told here.
pub(crate) fn unpack(flags: u8, value: &Bytes) -> Option<Bytes> {
    match flags {
        PLAIN => Some(value.clone()),
        #[cfg(feature = "zstd")]
        ZSTD => {
            unpacked(value, |compressed, length| zstd::bulk::decompress(compressed, length).ok())
        }
        #[cfg(feature = "lz4")]
        LZ4 => unpacked(value, |compressed, length| {
            // It makes at most 255 bytes of one, so nobody is made to reserve more by a length alone.
            let fits = length <= compressed.len().saturating_mul(255);
            fits.then(|| lz4_flex::block::decompress(compressed, length).ok()).flatten()
        }),
        _ => None,
    }
}

#[cfg(any(feature = "zstd", feature = "lz4"))]
fn unpacked(value: &[u8], decompress: impl Fn(&[u8], usize) -> Option<Vec<u8>>) -> Option<Bytes> {
    let (length, compressed) = value.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok().filter(|it| *it <= LONGEST)?;
    decompress(compressed, length).filter(|it| it.len() == length).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_compressed_stays_as_it_is_and_unknown_flags_are_not_read() {
        let value = Bytes::from(vec![b'x'; 4096]);
        let Packed { flags, value: stored } = Compression::None.pack(value.clone());
        assert_eq!((flags, &stored), (PLAIN, &value));
        assert_eq!(unpack(PLAIN, &value), Some(value.clone()));
        assert_eq!(unpack(0x80, &value), None);
    }

    #[cfg(all(feature = "zstd", feature = "lz4"))]
    mod compressed {
        use super::*;

        const ALL: [Compression; 2] = [Compression::Zstd, Compression::Lz4];

        #[test]
        fn what_becomes_smaller_is_compressed_and_read() {
            let value = Bytes::from(b"many words, ".repeat(1000));
            for compression in ALL {
                let Packed { flags, value: stored } = compression.pack(value.clone());
                assert!(flags != PLAIN && stored.len() < value.len() / 10, "{compression:?}");
                assert_eq!(unpack(flags, &stored).as_ref(), Some(&value));
            }
        }

        #[test]
        fn what_is_short_or_would_not_become_smaller_is_left_alone() {
            let short = Bytes::from(vec![b'x'; SHORTEST - 1]);
            let random = Bytes::from((0..4096).map(|_| fastrand::u8(..)).collect::<Vec<_>>());
            for compression in ALL {
                for value in [&short, &random] {
                    assert_eq!(compression.pack(value.clone()).flags, PLAIN, "{compression:?}");
                }
            }
        }

        #[test]
        fn what_is_damaged_or_lies_about_its_length_is_not_read() {
            let value = Bytes::from(vec![b'x'; 4096]);
            for compression in ALL {
                let Packed { flags, value: stored } = compression.pack(value.clone());
                for length in 0..stored.len() {
                    assert_eq!(unpack(flags, &stored.slice(..length)), None, "{length}");
                }
                for length in [0_u32, 4095, 4097, 1 << 29, u32::MAX] {
                    let lying = [&length.to_be_bytes(), &stored[4..]].concat();
                    assert_eq!(unpack(flags, &lying.into()), None, "{length}");
                }
            }
        }
    }
}
