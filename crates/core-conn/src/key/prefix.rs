use std::{fmt, num::NonZeroU16};

use bytes::Bytes;
use fred::util::redis_keyslot;

use super::{Key, Pattern, escape};
use crate::Result;

/// The fixed beginning that a brick's keys share, such as `cache:users`.
///
/// Its parts are escaped as those of a [`Key`], so a colon does not part them: that is what
/// [`join`](Self::join) is for. Cheap to clone.
///
/// ```
/// use redbrick_core_conn::Prefix;
///
/// let users = Prefix::new("cache").join("users");
/// let key = users.key("ada@example.com");
/// assert_eq!(key.to_string(), "cache:users:ada@example.com");
/// assert_eq!(users.id_of(&key).as_deref(), Some(b"ada@example.com".as_slice()));
///
/// assert_eq!(Prefix::new("cache:users").to_string(), "cache%3Ausers");
/// ```
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Prefix(Bytes);

impl Prefix {
    /// Begins with one part.
    #[must_use]
    pub fn new(part: impl AsRef<[u8]>) -> Self {
        Self(escape::part(part.as_ref()))
    }

    /// Returns the prefix with one more part.
    #[must_use]
    pub fn join(&self, part: impl AsRef<[u8]>) -> Self {
        Self(escape::join(&self.0, part.as_ref()))
    }

    /// Returns the key `prefix:id`.
    #[must_use]
    pub fn key(&self, id: impl AsRef<[u8]>) -> Key {
        Key(escape::join(&self.0, id.as_ref()))
    }

    /// Returns the key `prefix:{id}`, whose id is the hash tag: what is [joined](Key::join) to it lives on the
    /// same node of a cluster. It is another key than [`key`](Self::key)'s.
    #[must_use]
    pub fn tagged(&self, id: impl AsRef<[u8]>) -> Key {
        Key(escape::join_tagged(&self.0, id.as_ref()))
    }

    /// Returns the prefix `prefix:{n}`, where `n` is one of `partitions` numbers that `id` decides, by the hash that Cluster
    /// uses: all keys below it lie in one slot, so that one script reaches those of many ids, and what they share is kept once for each
    /// partition.
    ///
    /// ```
    /// use redbrick_core_conn::Prefix;
    ///
    /// let partitions = std::num::NonZeroU16::new(256).expect("it is not zero");
    /// let partition = Prefix::new("lock").partition("mail", partitions);
    /// assert_eq!(partition.key("mail").to_string(), "lock:{151}:mail");
    /// ```
    #[must_use]
    pub fn partition(&self, id: impl AsRef<[u8]>, partitions: NonZeroU16) -> Self {
        let number = redis_keyslot(id.as_ref()) % partitions;
        Self(escape::join_tagged(&self.0, number.to_string().as_bytes()))
    }

    /// Returns the [partition](Self::partition) below which a key lies; `None` for every other key. It is not compared with the number of
    /// partitions, and [`tagged`](Self::tagged) with a number looks the same.
    #[must_use]
    pub fn partition_of(&self, key: impl AsRef<[u8]>) -> Option<Self> {
        let key = key.as_ref();
        let rest = self.rest_of(key)?.strip_prefix(b"{")?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let is_one = digits > 0 && rest[digits..].starts_with(b"}");
        is_one.then(|| Self(Bytes::copy_from_slice(&key[..key.len() - rest.len() + digits + 1])))
    }

    /// Returns the key that is the prefix itself, for what there is one of.
    #[must_use]
    pub fn to_key(&self) -> Key {
        Key(self.0.clone())
    }

    /// Returns the id of which [`key`](Self::key) or [`tagged`](Self::tagged) makes this key.
    ///
    /// `None` for every other key: one below another prefix, one with further parts, one that is escaped
    /// otherwise. The key is given without the prefix of the connection.
    #[must_use]
    pub fn id_of(&self, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        self.untagged_id_of(key.as_ref()).or_else(|| self.tagged_id_of(key.as_ref()))
    }

    /// Returns the pattern for the [keys](Self::key) whose id matches `text`; its language is described at
    /// [`Pattern`].
    ///
    /// The id is matched as it was given, not as it is escaped: `a:*` finds the ids that begin with `a:`.
    /// [Tagged](Self::tagged) keys and those with further parts are not among them.
    ///
    /// ```
    /// # fn main() -> Result<(), redbrick_core_conn::Error> {
    /// use redbrick_core_conn::Prefix;
    ///
    /// let users = Prefix::new("cache").join("users");
    /// let of_tenant = users.pattern("tenant:7:*")?;
    /// assert!(of_tenant.matches(users.key("tenant:7:ada").as_ref()));
    /// assert!(!of_tenant.matches(users.key("tenant:77:bob").as_ref()));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument), as [`Pattern::new`].
    pub fn pattern(&self, text: &str) -> Result<Pattern> {
        Pattern::of_ids(self.clone(), false, text)
    }

    /// Returns the pattern for the [tagged](Self::tagged) keys whose id matches `text`; otherwise as
    /// [`pattern`](Self::pattern).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument), as [`Pattern::new`].
    pub fn tagged_pattern(&self, text: &str) -> Result<Pattern> {
        Pattern::of_ids(self.clone(), true, text)
    }

    /// Returns the pattern for everything below the prefix: each key that begins with `prefix:`.
    #[must_use]
    pub fn all(&self) -> Pattern {
        Pattern::below(self)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn untagged_id_of(&self, key: &[u8]) -> Option<Vec<u8>> {
        escape::unescape(self.rest_of(key)?)
    }

    pub(super) fn tagged_id_of(&self, key: &[u8]) -> Option<Vec<u8>> {
        escape::unescape_tag(self.rest_of(key)?.strip_prefix(b"{")?.strip_suffix(b"}")?)
    }

    fn rest_of<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        key.strip_prefix(&*self.0)?.strip_prefix(b":")
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefix({:?})", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::random::Random, *};

    #[test]
    fn a_partition_is_found_again_by_its_keys() {
        let mut random = Random::new();
        let group = Prefix::new("lock").join("group");
        for partitions in [1, 256, u16::MAX].map(|it| NonZeroU16::new(it).unwrap()) {
            for _ in 0..1000 {
                let id = random.hostile(10);
                let partition = group.partition(&id, partitions);
                let key = partition.key(&id);
                assert_eq!(group.partition_of(&key), Some(partition.clone()), "{key}");
                assert_eq!(partition.id_of(&key), Some(id));
                assert_eq!(group.partition_of(partition.to_key()), Some(partition));
            }
        }
        for other in
            [group.key("a"), group.tagged("a"), group.tagged(""), Prefix::new("lock").tagged("7")]
        {
            assert_eq!(group.partition_of(&other), None, "{other}");
        }
    }

    #[test]
    fn gives_the_id_back() {
        let mut random = Random::new();
        for _ in 0..50_000 {
            let prefix = Prefix::new(random.hostile(4)).join(random.hostile(4));
            let id = random.hostile(10);
            assert_eq!(prefix.id_of(prefix.key(&id)), Some(id.clone()));
            assert_eq!(prefix.id_of(prefix.tagged(&id)), Some(id.clone()));
            assert_eq!(prefix.id_of(prefix.key(&id).join("")), None);
            assert_eq!(prefix.id_of(prefix.tagged(&id).join("")), None);
            assert_eq!(prefix.join("x").id_of(prefix.key(&id)), None);
        }
    }

    #[test]
    fn an_id_is_of_one_key_or_of_none() {
        let mut random = Random::new();
        let prefix = Prefix::new("p");
        let mut found = 0;
        for _ in 0..200_000 {
            let key = [b"p:", random.bytes(b"{}%2Aa:*\xff", 6).as_slice()].concat();
            if let Some(id) = prefix.id_of(&key) {
                let (plain, tagged) = (prefix.key(&id), prefix.tagged(&id));
                assert!(key == plain.as_ref() || key == tagged.as_ref(), "{key:?}");
                found += 1;
            }
        }
        assert!(found > 1_000, "{found}");
    }

    #[test]
    fn what_is_of_another_shape_has_no_id() {
        let prefix = Prefix::new("p");
        for key in [
            "", "p", "p{}", "q:a", "pp:a", "p:{}", "p:{", "p:}", "p:{%}}", "p:{{a}}", "p:%",
            "p:%2", "p:%2a", "p:%61", "p:a b", "p:a:b", "p:{a}:b", "p:{a}b", "p:a*", "p:%%", "p:é",
        ] {
            assert_eq!(prefix.id_of(key), None, "{key}");
        }
        for (key, id) in [("p:", ""), ("p:{%}", ""), ("p:{%25}", "%"), ("p:%2A", "*")] {
            assert_eq!(prefix.id_of(key).as_deref(), Some(id.as_bytes()), "{key}");
        }
    }
}
