use std::{fmt, str::FromStr};

use crate::{Error, ErrorKind, Result};

/// A name that nobody can guess: `N` bytes from the operating system's random source, 128 bits unless said otherwise.
///
/// Who has one may act on what it stands for, so it shows in no log: `Debug` prints `Token(***)`. Redis is given the
/// bytes ([`as_bytes`](Self::as_bytes)); other processes and clients the text ([`expose`](Self::expose)), which
/// [`parse`](str::parse) reads.
///
/// ```
/// use redbrick_core_conn::Token;
///
/// # fn main() -> Result<(), redbrick_core_conn::Error> {
/// let token: Token = Token::random();
/// assert_eq!(token.expose().parse::<Token>()?, token);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Token<const N: usize = 16>([u8; N]);

impl<const N: usize> Token<N> {
    /// Makes a new one.
    ///
    /// # Panics
    ///
    /// Panics when the operating system has no random bytes to give.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; N];
        getrandom::getrandom(&mut bytes).expect("the operating system gives random bytes");
        Self(bytes)
    }

    /// Returns the bytes, as they are kept in Redis.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }

    /// Returns it as a text of `2 * N` lower-case hexadecimal digits.
    #[must_use]
    pub fn expose(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl<const N: usize> From<[u8; N]> for Token<N> {
    fn from(bytes: [u8; N]) -> Self {
        Self(bytes)
    }
}

impl<const N: usize> FromStr for Token<N> {
    type Err = Error;

    /// Reads what [`expose`](Self::expose) wrote, and nothing else: upper-case digits are refused.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`], which does not quote the text.
    fn from_str(text: &str) -> Result<Self> {
        let refused = || Error::new(ErrorKind::InvalidArgument, "the text is no token");
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(refused()),
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != N || !rest.is_empty() {
            return Err(refused());
        }
        let mut bytes = [0; N];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Ok(Self(bytes))
    }
}

impl<const N: usize> fmt::Debug for Token<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_text_is_read_and_no_other() {
        let token = Token::from([0x00, 0x7f, 0xa5, 0xff]);
        assert_eq!(token.expose(), "007fa5ff");
        assert_eq!("007fa5ff".parse::<Token<4>>().unwrap(), token);
        for text in [
            "",
            "007fa5f",
            "007fa5ff0",
            "007fa5ff00",
            "007FA5FF",
            "007fa5fg",
            "+07fa5ff",
            "é07fa5f",
        ] {
            let err = text.parse::<Token<4>>().unwrap_err();
            assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{text}");
            assert!(text.is_empty() || !err.to_string().contains(text), "{err}");
        }
    }

    #[test]
    fn no_two_are_alike_and_none_shows() {
        let (one, other) = (Token::<16>::random(), Token::<16>::random());
        assert_ne!(one, other);
        assert!(!format!("{one:?}").contains(&one.expose()));
    }
}
