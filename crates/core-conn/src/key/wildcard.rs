//! The language of patterns, whatever they are matched against.

use crate::{Error, ErrorKind, Result};

/// Literal bytes with stars between them.
#[derive(Clone, Eq, Hash, PartialEq)]
pub(super) enum Wildcard {
    /// No star.
    Exact(Vec<u8>),
    /// `first*middle*…*last`.
    Starred { first: Vec<u8>, middle: Vec<Needle>, last: Vec<u8> },
}

impl Wildcard {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut literal = Vec::new();
        let mut bytes = text.bytes().enumerate();
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'*' => done.push(std::mem::take(&mut literal)),
                b'\\' => match bytes.next() {
                    Some((_, byte @ (b'*' | b'?' | b'[' | b']' | b'\\'))) => literal.push(byte),
                    _ => return Err(stray_backslash(at)),
                },
                b'?' | b'[' | b']' => return Err(no_wildcard(char::from(byte), at)),
                byte => literal.push(byte),
            }
        }
        let mut done = done.into_iter();
        Ok(match done.next() {
            None => Self::Exact(literal),
            Some(first) => {
                // `**` is `*`.
                let middle = done.filter(|literal| !literal.is_empty()).map(Needle::new).collect();
                Self::Starred { first, middle, last: literal }
            }
        })
    }

    /// Linear in the length of `text`: each literal is taken where it comes first, which leaves the most for
    /// those after it.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(literal) => text == literal,
            Self::Starred { first, middle, last } => {
                let within =
                    text.strip_prefix(&**first).and_then(|text| text.strip_suffix(&**last));
                within.is_some_and(|text| {
                    middle.iter().try_fold(text, |text, needle| needle.skip(text)).is_some()
                })
            }
        }
    }
}

/// A literal to look for, with what Knuth, Morris and Pratt need to look at each byte once.
#[derive(Clone, Eq, Hash, PartialEq)]
pub(super) struct Needle {
    bytes: Vec<u8>,
    /// For each length, how many bytes at the end are at the beginning as well.
    borders: Vec<usize>,
}

impl Needle {
    fn new(bytes: Vec<u8>) -> Self {
        let mut needle = Self { borders: vec![0], bytes };
        let mut border = 0;
        for at in 1..needle.bytes.len() {
            border = needle.advance(border, needle.bytes[at]);
            needle.borders.push(border);
        }
        needle
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What is behind the first occurrence.
    fn skip<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        let mut matched = 0;
        for (at, &byte) in text.iter().enumerate() {
            matched = self.advance(matched, byte);
            if matched == self.bytes.len() {
                return Some(&text[at + 1..]);
            }
        }
        None
    }

    /// How much is matched after one more byte, where less than all was before it.
    fn advance(&self, mut matched: usize, byte: u8) -> usize {
        while self.bytes[matched] != byte {
            let Some(shorter) = matched.checked_sub(1) else { return 0 };
            matched = self.borders[shorter];
        }
        matched + 1
    }
}

fn no_wildcard(char: char, at: usize) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "the pattern has `{char}` at byte {at}, but only `*` is a wildcard; write `\\{char}` for the character itself"
        ),
    )
}

fn stray_backslash(at: usize) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "the pattern has a backslash at byte {at} that stands before none of `*`, `?`, `[`, `]` and `\\`; write `\\\\` for a backslash itself"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::{super::random::Random, *};

    #[test]
    fn a_star_is_any_run_of_bytes_and_nothing_else_is_special() {
        for (pattern, matching, others) in [
            ("", &[""][..], &["a"][..]),
            ("*", &["", "a", "a:b*\0"], &[]),
            ("**", &["", "ab"], &[]),
            ("a*", &["a", "a*", "aa"], &["", "ba"]),
            ("*a", &["a", "aa", "ba"], &["", "ab"]),
            ("a*a", &["aa", "aba"], &["a", "ab"]),
            ("*ab*ab*", &["abab", "xabxabx"], &["ab", "aab", "abba"]),
            ("*aab*", &["aaab", "aabaab"], &["abab", "aa"]),
            (r"a\*b", &["a*b"], &["ab", "axb", r"a\*b"]),
            (r"\\*", &[r"\", r"\a"], &["", "*"]),
            (r"\?\[\]", &["?[]"], &["a[]", r"\?\[\]"]),
            ("a^-{b}:%", &["a^-{b}:%"], &["b"]),
            ("é*", &["é", "éa"], &["e", "\u{c4}"]),
        ] {
            let wildcard = Wildcard::parse(pattern).unwrap();
            for text in matching {
                assert!(wildcard.matches(text.as_bytes()), "{pattern} {text}");
            }
            for text in others {
                assert!(!wildcard.matches(text.as_bytes()), "{pattern} {text}");
            }
        }
        assert!(Wildcard::parse("a*").unwrap().matches(b"a\xff\0"));
    }

    #[test]
    fn what_other_languages_make_special_is_refused_with_what_to_write() {
        for (pattern, says) in [
            ("a?", r"`?` at byte 1, but only `*` is a wildcard; write `\?`"),
            ("[ab]", r"`[` at byte 0, but only `*` is a wildcard; write `\[`"),
            ("ab]", r"write `\]`"),
            (r"a\", r"a backslash at byte 1 that stands before none of"),
            (r"\n", r"write `\\` for a backslash itself"),
            (r"\é", r"a backslash at byte 0"),
            (r"\\\", r"a backslash at byte 2"),
        ] {
            let err = Wildcard::parse(pattern).err().expect(pattern);
            assert_eq!(err.kind(), ErrorKind::InvalidArgument);
            assert!(err.to_string().contains(says), "{pattern}: {err}");
        }
    }

    #[test]
    fn a_literal_is_found_where_it_comes_first() {
        let mut random = Random::new();
        for _ in 0..50_000 {
            let (text, mut literal) = (random.bytes(b"ab", 12), random.bytes(b"ab", 5));
            literal.push(b'a');
            let first = text.windows(literal.len()).position(|window| window == literal);
            let behind = first.map(|at| &text[at + literal.len()..]);
            assert_eq!(Needle::new(literal.clone()).skip(&text), behind, "{literal:?} {text:?}");
        }
    }

    #[test]
    fn many_stars_and_long_literals_take_no_longer() {
        let text = vec![b'a'; 1 << 20];
        let many = format!("{}b", "*a".repeat(1_000));
        let long = format!("*{}b*", "a".repeat(1 << 19));
        // To look at each byte once takes milliseconds; in any other way, this does not end.
        for pattern in [many, long] {
            assert!(!Wildcard::parse(&pattern).unwrap().matches(&text));
        }
    }
}
