//! Keys that are made of parts, so that no input of a user can leave its place.
//!
//! [`Prefix`] is what a brick begins its keys with, [`Key`] one key, [`Pattern`] the words for many. The
//! escaping itself is described at [`Key`].

mod escape;
mod pattern;
mod prefix;
mod wildcard;

use std::fmt;

use bytes::Bytes;

pub use pattern::Pattern;
pub use prefix::Prefix;

/// A key made of parts: `part:part:part`. A [`Prefix`] makes it.
///
/// Every sequence of bytes is a legal part, the empty one too, of any length. Parts are escaped, so that two
/// keys are the same only when their parts are:
///
/// | in a part | in the key |
/// |---|---|
/// | `%` | `%25` |
/// | `:`, which stands between parts | `%3A` |
/// | `{` `}`, which stand around a hash tag | `%7B` `%7D` |
/// | `*` `?` `[` `]` `\`, which mean something in a pattern | `%2A` `%3F` `%5B` `%5D` `%5C` |
/// | space, `"` and `'`, which end or quote a word at a prompt | `%20` `%22` `%27` |
/// | control characters and NUL, every byte that is not ASCII | `%0A`, `%00`, `%C3%A9` for `é` |
/// | everything else: letters, digits, `-` `_` `.` `@` `/` and so on | itself |
///
/// So a key is printable ASCII. It shows in `redis-cli` as it is, and can be given to it as one word.
///
/// One part can be the hash tag, written in braces: keys with the same tag live on the same node of a cluster,
/// where a script or a transaction can reach them together. Redis takes `{}` for no tag at all, so the empty
/// part has a form of its own there, `{%}`.
///
/// The prefix that is configured for the connection is not part of it; [`Conn`](crate::Conn) puts it before
/// the key.
///
/// ```
/// use redbrick_core_conn::Prefix;
///
/// let users = Prefix::new("cache").join("users");
/// assert_eq!(users.key("42").to_string(), "cache:users:42");
/// assert_eq!(users.key("42:*").to_string(), "cache:users:42%3A%2A");
///
/// let jobs = Prefix::new("jobs").tagged("mail");
/// assert_eq!(jobs.to_string(), "jobs:{mail}");
/// assert_eq!(jobs.join("queue").to_string(), "jobs:{mail}:queue");
/// ```
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key(Bytes);

impl Key {
    /// Returns the key with one more part, such as a role beside others of the same thing.
    ///
    /// It has the same hash tag, where there is one.
    #[must_use]
    pub fn join(&self, part: impl AsRef<[u8]>) -> Self {
        Self(escape::join(&self.0, part.as_ref()))
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod random;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use fred::util::redis_keyslot;

    use super::{random::Random, *};

    /// A list of parts, one of which may be the tag.
    fn make(parts: &[Vec<u8>], tag: Option<usize>) -> Key {
        let mut prefix = Prefix::new(&parts[0]);
        let last = parts.len() - 1;
        let stem = tag.unwrap_or(last);
        for part in &parts[1..stem] {
            prefix = prefix.join(part);
        }
        let key = match tag {
            Some(at) => prefix.tagged(&parts[at]),
            None => prefix.key(&parts[last]),
        };
        parts[stem + 1..].iter().fold(key, |key, part| key.join(part))
    }

    #[test]
    fn no_two_lists_of_parts_share_a_key() {
        let mut random = Random::new();
        let mut seen = HashMap::new();
        for _ in 0..200_000 {
            let parts: Vec<_> =
                (0..2 + random.below(3)).map(|_| random.bytes(b"%:{}2A5", 3)).collect();
            let tag = (random.below(2) == 1).then(|| 1 + random.below(parts.len() - 1));
            let key = make(&parts, tag);
            let made_of = (parts, tag);
            let earlier = seen.entry(key.clone()).or_insert_with(|| made_of.clone());
            assert_eq!(*earlier, made_of, "{key}");
        }
        assert!(seen.len() > 50_000, "{}", seen.len());
    }

    #[test]
    fn no_input_leaves_its_place_or_the_printable_characters() {
        for byte in 0..=u8::MAX {
            let key = Prefix::new("p").key([byte]).to_string();
            let part = key.strip_prefix("p:").expect("the prefix");
            let kept = byte.is_ascii_graphic() && !b"%:{}*?[]\\\"'".contains(&byte);
            let expected = if kept { char::from(byte).to_string() } else { format!("%{byte:02X}") };
            assert_eq!(part, expected, "{byte:#x}");
        }
    }

    #[test]
    fn parts_of_any_size_make_keys() {
        for size in [0, 1, 64 << 10, 1 << 20] {
            let id = vec![b':'; size];
            let prefix = Prefix::new("");
            let key = prefix.tagged(&id).join("");
            assert_eq!(key.as_ref().len(), 1 + 2 + (3 * size).max(1) + 1);
            assert_eq!(prefix.id_of(prefix.tagged(&id)), Some(id));
        }
    }

    #[test]
    fn keys_with_the_same_tag_share_a_slot_whatever_the_tag_is() {
        let mut random = Random::new();
        let mut slots = std::collections::HashSet::new();
        for _ in 0..20_000 {
            let (id, role) = (random.hostile(12), random.hostile(6));
            let prefix = Prefix::new(random.hostile(6)).join(random.hostile(6));
            let key = prefix.tagged(&id);
            let slot = redis_keyslot(key.as_ref());
            for other in [key.join(&role), key.join(&role).join("x"), Prefix::new("").tagged(&id)] {
                assert_eq!(redis_keyslot(other.as_ref()), slot, "{key} {other}");
                let behind_a_prefix = [b"my*app:", other.as_ref()].concat();
                assert_eq!(redis_keyslot(&behind_a_prefix), slot, "{other}");
            }
            slots.insert(slot);
        }
        assert!(slots.len() > 1_000, "one slot for all would pass too: {}", slots.len());
    }

    #[test]
    fn the_empty_tag_is_a_tag_too() {
        let empty = Prefix::new("p").tagged("");
        assert_eq!(empty.to_string(), "p:{%}");
        assert_eq!(redis_keyslot(empty.as_ref()), redis_keyslot(empty.join("queue").as_ref()));
        assert_ne!(empty, Prefix::new("p").tagged("%"));
        assert_ne!(
            redis_keyslot(b"p:{}"),
            redis_keyslot(b"p:{}:queue"),
            "Redis needs no such form"
        );
    }

    #[test]
    fn shows_itself_as_it_is() {
        let key = Prefix::new("p").key("a \"b\"");
        assert_eq!(key.to_string(), "p:a%20%22b%22");
        assert_eq!(format!("{key:?}"), r#"Key("p:a%20%22b%22")"#);
    }
}
