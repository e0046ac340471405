//! A key that nobody can have set, whose value leads the answer to `MGET`.

use std::{
    hash::{BuildHasher, RandomState},
    sync::OnceLock,
};

use bytes::Bytes;
use fred::util::redis_keyslot;

use super::Reply;
use crate::{Error, ErrorKind, Result, conn::SLOTS};

/// A key that is never set, because nobody outside this process can know it; in `slot`, where that matters.
///
/// It begins as `first` does, so that whoever may read keys that begin so may read it too; in a slot there is only the
/// prefix to begin with.
fn never_set(prefix: &str, slot: Option<u16>, first: &[u8]) -> Bytes {
    static SECRET: OnceLock<String> = OnceLock::new();
    // The hashers' keys come from the operating system's random source.
    let secret = SECRET.get_or_init(|| {
        let [a, b] = [(); 2].map(|()| RandomState::new().hash_one("never set"));
        format!("{a:016x}{b:016x}")
    });
    match slot {
        Some(slot) => format!("{prefix}{{{}}}never-set:{secret}", tags()[usize::from(slot)]).into(),
        None => [first, b":never-set:", secret.as_bytes()].concat().into(),
    }
}

/// Puts the key that nobody can have set before `keys`, of which there is one at least.
pub(crate) fn behind_never_set(prefix: &str, slot: Option<u16>, keys: Vec<Bytes>) -> Vec<Bytes> {
    let first = keys.first().map(|key| &**key).unwrap_or_default();
    std::iter::once(never_set(prefix, slot, first)).chain(keys).collect()
}

/// The values of `count` keys, behind the one that leads them.
pub(crate) fn values_behind(mut replies: Vec<Reply>, count: usize) -> Result<Vec<Reply>> {
    if replies.len() != count + 1 || replies.remove(0) != Reply::Nil {
        let what = "the server answered MGET with another list than was asked for";
        return Err(Error::new(ErrorKind::Protocol, what));
    }
    Ok(replies)
}

/// A hash tag for each slot: the smallest number whose digits lie in it.
fn tags() -> &'static [u32] {
    static TAGS: OnceLock<Vec<u32>> = OnceLock::new();
    TAGS.get_or_init(|| {
        let mut tags = vec![None; SLOTS];
        let mut missing = SLOTS;
        for number in 0_u32.. {
            let tag = &mut tags[usize::from(redis_keyslot(number.to_string().as_bytes()))];
            if tag.is_none() {
                *tag = Some(number);
                missing -= 1;
                if missing == 0 {
                    break;
                }
            }
        }
        tags.into_iter().flatten().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_key_that_nobody_knows_in_every_slot() {
        for slot in (0..16_384).step_by(97).chain([16_383]) {
            let key = never_set("shop:", Some(slot), b"shop:a");
            assert!(key.starts_with(b"shop:{"));
            assert_eq!(redis_keyslot(&key), slot);
        }
        let key = never_set("shop:", None, b"shop:a");
        assert!(key.starts_with(b"shop:a:never-set:"));
        assert_eq!(key.len(), "shop:a:never-set:".len() + 32);
    }
}
