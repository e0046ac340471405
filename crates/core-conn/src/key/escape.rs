//! The one place that knows what a part looks like within a key.

use std::sync::LazyLock;

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode, percent_encode_byte};

/// What is escaped beside the bytes that are not ASCII. `^` and `-` mean something between brackets alone,
/// and brackets are escaped; so UUIDs and dates stay readable.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'%')
    .add(b'\'')
    .add(b'*')
    .add(b':')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'{')
    .add(b'}');

/// What stands between the braces for the empty part; no other part is escaped to it.
const EMPTY_TAG: &[u8] = b"%";

/// Which bytes are escaped: keys are made all the time, and most parts have few of these or none.
static IS_ESCAPED: LazyLock<[bool; 256]> = LazyLock::new(|| {
    let mut is_escaped = [false; 256];
    for byte in 0..=u8::MAX {
        is_escaped[usize::from(byte)] =
            percent_encode(&[byte], ESCAPED).any(|piece| piece.len() > 1);
    }
    is_escaped
});

/// How long a part is within a key: what is exactly full becomes [`Bytes`] as it is.
fn len(part: &[u8]) -> usize {
    let is_escaped = &*IS_ESCAPED;
    part.len() + 2 * part.iter().filter(|byte| is_escaped[usize::from(**byte)]).count()
}

/// Appends a part to `out`.
pub(super) fn push(out: &mut Vec<u8>, part: &[u8]) {
    let (is_escaped, mut rest) = (&*IS_ESCAPED, part);
    while let Some(at) = rest.iter().position(|byte| is_escaped[usize::from(*byte)]) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(percent_encode_byte(rest[at]).as_bytes());
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// A part alone.
pub(super) fn part(part: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(len(part));
    push(&mut out, part);
    out.into()
}

/// `stem:part`.
pub(super) fn join(stem: &[u8], part: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(stem.len() + 1 + len(part));
    out.extend_from_slice(stem);
    out.push(b':');
    push(&mut out, part);
    out.into()
}

/// `stem:{part}`.
pub(super) fn join_tagged(stem: &[u8], part: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(stem.len() + 3 + len(part).max(1));
    out.extend_from_slice(stem);
    out.extend_from_slice(b":{");
    push_tag(&mut out, part);
    out.push(b'}');
    out.into()
}

/// Appends what stands between the braces.
pub(super) fn push_tag(out: &mut Vec<u8>, part: &[u8]) {
    if part.is_empty() {
        out.extend_from_slice(EMPTY_TAG);
    } else {
        push(out, part);
    }
}

/// The part that [`push`] appended, if it was one.
pub(super) fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let found: Vec<u8> = percent_decode(text).collect();
    // Only what would be written again is a part: a stray `%` or `%3a` belongs to somebody else.
    (part(&found) == text).then_some(found)
}

/// The part that [`push_tag`] appended, if it was one.
pub(super) fn unescape_tag(text: &[u8]) -> Option<Vec<u8>> {
    if text == EMPTY_TAG { Some(Vec::new()) } else { unescape(text).filter(|tag| !tag.is_empty()) }
}
