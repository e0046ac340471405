//! The one place that knows what a part looks like within a key.

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};

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

/// Appends a part to `out`.
pub(super) fn push(out: &mut Vec<u8>, part: &[u8]) {
    for piece in percent_encode(part, ESCAPED) {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// A part alone.
pub(super) fn part(part: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(part.len());
    push(&mut out, part);
    out.into()
}

/// `stem:part`.
pub(super) fn join(stem: &[u8], part: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(stem.len() + 1 + part.len());
    out.extend_from_slice(stem);
    out.push(b':');
    push(&mut out, part);
    out.into()
}

/// `stem:{part}`.
pub(super) fn join_tagged(stem: &[u8], part: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(stem.len() + 3 + part.len().max(1));
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
