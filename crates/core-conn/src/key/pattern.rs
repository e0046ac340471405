use std::fmt;

use bytes::Bytes;

use super::{Prefix, escape, wildcard::Wildcard};
use crate::Result;

/// Which keys are meant, where many are.
///
/// | in a pattern | means |
/// |---|---|
/// | `*` | any run of bytes, also an empty one |
/// | `\*` `\?` `\[` `\]` `\\` | that character |
/// | `?` `[` `]` alone | an error: only `*` is a wildcard |
/// | `\` before anything else or at the end | an error |
/// | everything else, `:` and braces too | itself |
///
/// [`Pattern::new`] matches the text of whole keys, as the application writes them. [`Prefix::pattern`] matches
/// the ids below a prefix, whatever they look like when escaped, and [`Prefix::all`] everything below it. In
/// none of them the prefix that is configured for the connection occurs.
///
/// ```
/// # fn main() -> Result<(), redbrick_core_conn::Error> {
/// use redbrick_core_conn::{ErrorKind, Pattern};
///
/// let users = Pattern::new("user:*")?;
/// assert!(users.matches(b"user:1"));
/// assert!(!users.matches(b"visits"));
///
/// let refused = Pattern::new("user:?").unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
/// # Ok(()) }
/// ```
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Pattern {
    scope: Scope,
    wildcard: Wildcard,
}

/// What the wildcard is matched against.
#[derive(Clone, Eq, Hash, PartialEq)]
enum Scope {
    /// The key.
    Key,
    /// The id below this prefix.
    Ids(Prefix),
    /// The id below this prefix, where it is the tag.
    Tags(Prefix),
}

impl Pattern {
    /// Reads a pattern for whole keys: those that the application names itself, as in `conn.set("user:1", …)`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for an unescaped `?`, `[` or `]` and for
    /// a backslash that escapes nothing, with its place and what to write instead.
    pub fn new(text: &str) -> Result<Self> {
        Ok(Self { scope: Scope::Key, wildcard: Wildcard::parse(text)? })
    }

    /// Returns whether `key` is meant. It is given without the prefix of the connection.
    ///
    /// Takes time in proportion to the lengths of the key and the pattern, however many stars there are.
    #[must_use]
    pub fn matches(&self, key: &[u8]) -> bool {
        match &self.scope {
            Scope::Key => self.wildcard.matches(key),
            Scope::Ids(prefix) => self.matches_id(prefix.untagged_id_of(key)),
            Scope::Tags(prefix) => self.matches_id(prefix.tagged_id_of(key)),
        }
    }

    pub(super) fn of_ids(prefix: Prefix, tagged: bool, text: &str) -> Result<Self> {
        let scope = if tagged { Scope::Tags(prefix) } else { Scope::Ids(prefix) };
        Ok(Self { scope, wildcard: Wildcard::parse(text)? })
    }

    pub(super) fn below(prefix: &Prefix) -> Self {
        let first = [prefix.as_bytes(), b":"].concat();
        let wildcard = Wildcard::Starred { first, middle: Vec::new(), last: Vec::new() };
        Self { scope: Scope::Key, wildcard }
    }

    fn matches_id(&self, id: Option<Vec<u8>>) -> bool {
        id.is_some_and(|id| self.wildcard.matches(&id))
    }

    /// The pattern for SCAN on a connection with this prefix. Every key that [matches](Self::matches) is found
    /// by it, but others can be too, so ask `matches` of each, without the prefix: Redis' star runs over
    /// colons, it can begin within an escape (`*A` finds the `:` that is written `%3A`), and there are at most
    /// [`MAX_STARS`] of them.
    pub(crate) fn glob(&self, conn_prefix: &str) -> Bytes {
        let mut out = Vec::new();
        push_literal(&mut out, conn_prefix.as_bytes());
        match &self.scope {
            Scope::Key => self.push_wildcard(&mut out, push_literal),
            // What is escaped holds no character that means something in a glob.
            Scope::Ids(prefix) => {
                out.extend_from_slice(prefix.as_bytes());
                out.push(b':');
                self.push_wildcard(&mut out, escape::push);
            }
            Scope::Tags(prefix) => {
                out.extend_from_slice(prefix.as_bytes());
                out.extend_from_slice(b":{");
                match &self.wildcard {
                    Wildcard::Exact(id) => escape::push_tag(&mut out, id),
                    Wildcard::Starred { .. } => self.push_wildcard(&mut out, escape::push),
                }
                out.push(b'}');
            }
        }
        out.into()
    }

    fn push_wildcard(&self, out: &mut Vec<u8>, push: impl Fn(&mut Vec<u8>, &[u8])) {
        match &self.wildcard {
            Wildcard::Exact(literal) => push(out, literal),
            Wildcard::Starred { first, middle, last } => {
                push(out, first);
                for needle in middle.iter().take(MAX_STARS - 1) {
                    out.push(b'*');
                    push(out, needle.as_bytes());
                }
                out.push(b'*');
                push(out, last);
            }
        }
    }
}

impl fmt::Debug for Pattern {
    /// Shows what a server is asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", String::from_utf8_lossy(&self.glob("")))
    }
}

/// How many stars a server is asked to match. Older ones take time that grows with the length of the key to
/// the power of their number, newer ones give up at a thousand and then find nothing.
const MAX_STARS: usize = 8;

/// Appends bytes so that a glob means just them.
fn push_literal(out: &mut Vec<u8>, literal: &[u8]) {
    for &byte in literal {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::random::Random, *};

    /// A pattern as a list: a byte, or a star.
    type Tokens = Vec<Option<u8>>;

    fn tokens(random: &mut Random, longest: usize) -> (String, Tokens) {
        let (mut text, mut tokens) = (String::new(), Vec::new());
        for _ in 0..random.below(longest + 1) {
            let chars =
                ['*', 'a', 'A', '2', '3', '%', ':', '{', '}', '?', '[', ']', '\\', '^', '\0', 'é'];
            match chars[random.below(chars.len() + 4).saturating_sub(4)] {
                '*' if random.below(8) > 0 => {
                    text.push('*');
                    tokens.push(None);
                }
                char => {
                    if "*?[]\\".contains(char) {
                        text.push('\\');
                    }
                    text.push(char);
                    tokens.extend(char.to_string().bytes().map(Some));
                }
            }
        }
        (text, tokens)
    }

    /// An id that has a good chance to match: the pattern with something for its stars, or anything.
    fn id_for(random: &mut Random, tokens: &Tokens) -> Vec<u8> {
        if random.below(4) == 0 {
            return random.hostile(8);
        }
        let mut id = Vec::new();
        for token in tokens {
            match token {
                Some(byte) => id.push(*byte),
                None => id.extend(random.hostile(3)),
            }
        }
        if !id.is_empty() && random.below(3) == 0 {
            id.remove(random.below(id.len()));
        }
        id
    }

    /// By the book: whether the pattern from each token on matches the text from each byte on.
    fn naive(tokens: &[Option<u8>], text: &[u8]) -> bool {
        match (tokens.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((None, rest)), None) => naive(rest, text),
            (Some((None, rest)), Some((_, tail))) => naive(rest, text) || naive(tokens, tail),
            (Some((Some(byte), rest)), Some((first, tail))) => byte == first && naive(rest, tail),
            (Some((Some(_), _)), None) | (None, Some(_)) => false,
        }
    }

    /// As Redis reads a glob, but for ranges, which no glob of ours may come to.
    fn redis(glob: &[u8], text: &[u8]) -> bool {
        match (glob, text) {
            ([], text) => text.is_empty(),
            ([b'*', rest @ ..], text) => (0..=text.len()).any(|at| redis(rest, &text[at..])),
            ([b'?', ..] | [b'[', ..], _) => panic!("unescaped: {glob:?}"),
            ([b'\\', byte, rest @ ..] | [byte, rest @ ..], [first, text @ ..]) => {
                byte == first && redis(rest, text)
            }
            _ => false,
        }
    }

    fn redis_finds(pattern: &Pattern, conn_prefix: &str, key: &[u8]) -> bool {
        redis(&pattern.glob(conn_prefix), &[conn_prefix.as_bytes(), key].concat())
    }

    #[test]
    fn whole_keys_match_as_the_naive_matcher_says_and_redis_agrees() {
        let mut random = Random::new();
        let mut matched = 0;
        for _ in 0..50_000 {
            let (text, tokens) = tokens(&mut random, 6);
            let key = id_for(&mut random, &tokens);
            let pattern = Pattern::new(&text).unwrap();
            let expected = naive(&tokens, &key);
            assert_eq!(pattern.matches(&key), expected, "{text:?} {key:?}");
            assert_eq!(redis_finds(&pattern, "a*[b]:", &key), expected, "{text:?} {key:?}");
            matched += usize::from(expected);
        }
        assert!((10_000..40_000).contains(&matched), "{matched}");
    }

    #[test]
    fn ids_match_as_the_naive_matcher_says_and_redis_finds_them() {
        let mut random = Random::new();
        let (mut matched, mut needless) = (0, 0);
        for _ in 0..50_000 {
            let prefix = Prefix::new(random.hostile(3)).join("p");
            let (text, tokens) = tokens(&mut random, 5);
            let id = id_for(&mut random, &tokens);
            let (key, tagged) = (prefix.key(&id), prefix.tagged(&id));
            let expected = naive(&tokens, &id);
            let untagged = prefix.pattern(&text).unwrap();
            let of_tags = prefix.tagged_pattern(&text).unwrap();
            for (pattern, key, other) in [(untagged, &key, &tagged), (of_tags, &tagged, &key)] {
                assert_eq!(pattern.matches(key.as_ref()), expected, "{text:?} {key}");
                assert!(!pattern.matches(other.as_ref()), "{text:?} {other}");
                assert!(!pattern.matches(key.join("x").as_ref()), "{text:?} {key}");
                assert!(!pattern.matches(prefix.join("q").key(&id).as_ref()), "{text:?} {key}");
                let found = redis_finds(&pattern, "my*app:", key.as_ref());
                assert!(found || !expected, "{text:?} {key}");
                needless += usize::from(found && !expected);
            }
            matched += usize::from(expected);
        }
        assert!((10_000..40_000).contains(&matched), "{matched}");
        assert!(needless < 1_000, "the glob hardly chooses: {needless}");
    }

    #[test]
    fn an_escape_is_not_matched_in_its_midst() {
        let prefix = Prefix::new("p");
        let pattern = prefix.pattern("*A").unwrap();
        assert!(pattern.matches(prefix.key(":A").as_ref()));
        assert!(!pattern.matches(prefix.key(":").as_ref()), "it is written %3A");
        assert!(redis_finds(&pattern, "", prefix.key(":").as_ref()), "or `glob` is exact now");
    }

    #[test]
    fn everything_below_is_below_that_prefix() {
        let prefix = Prefix::new("a*").join("b");
        let all = prefix.all();
        for key in [prefix.key(""), prefix.tagged("x"), prefix.key("x").join("y").join("{}")] {
            assert!(all.matches(key.as_ref()) && redis_finds(&all, "c?:", key.as_ref()), "{key}");
        }
        for key in
            [Prefix::new("a*").key("b"), Prefix::new("a*").key("bb"), Prefix::new("b").key("x")]
        {
            assert!(!all.matches(key.as_ref()) && !redis_finds(&all, "c?:", key.as_ref()), "{key}");
        }
        assert_eq!(all.glob("c?:"), br"c\?:a%2A:b:*".as_slice());
        assert_eq!(format!("{all:?}"), r#"Pattern("a%2A:b:*")"#);
    }

    #[test]
    fn the_server_is_asked_for_few_stars_and_finds_all_the_same() {
        let text = "a*".repeat(100) + "b";
        let (pattern, key) = (Pattern::new(&text).unwrap(), "a".repeat(100) + "b");
        assert_eq!(pattern.glob(""), b"a*a*a*a*a*a*a*a*b".as_slice());
        assert!(pattern.matches(key.as_bytes()) && redis_finds(&pattern, "", key.as_bytes()));
        assert!(!pattern.matches(&key.as_bytes()[1..]));
    }
}
