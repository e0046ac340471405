use std::{fmt, str::FromStr};

use redbrick_core_conn::Token;
use sha2::{Digest, Sha256};

use crate::Error;

/// What the client holds, and whoever holds it is logged in: 256 random bits, made by
/// [`create`](crate::Sessions::create) alone.
///
/// Redis is given a SHA-256 of it, so that a copy of the database opens no session. `Debug` does not show it and there is
/// no `Display`; the text for a cookie or a header is [`expose`](Self::expose)d by name and [read](str::parse) back.
///
/// Before the random bits stand 16 bits of a SHA-256 of the user's name, which say where the session is kept. To whoever
/// has the id they narrow down whose it is, by a factor of 65,536. An id in which they are forged belongs to no session.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct SessionId(Token<{ PARTITION + RANDOM }>);

/// What a session is named by where its id must not be: in the list that a user sees, or in a log.
///
/// The SHA-256 of the [id](SessionId), so it opens nothing; [`delete_key`](crate::Sessions::delete_key) ends the session
/// that it names. Its text, of 64 lower-case hexadecimal digits, is [read](str::parse) back.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionKey([u8; 32]);

/// Which sessions lie together: those whose users' hashes begin alike. Known from the user and from the id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Partition([u8; PARTITION]);

const PARTITION: usize = 2;
const RANDOM: usize = 32;

impl SessionId {
    pub(crate) fn random(partition: Partition) -> Self {
        let random: Token<RANDOM> = Token::random();
        let mut bytes = [0; PARTITION + RANDOM];
        let (head, tail) = bytes.split_at_mut(PARTITION);
        head.copy_from_slice(&partition.0);
        tail.copy_from_slice(random.as_bytes());
        Self(Token::from(bytes))
    }

    /// Returns the text to give to the client: 68 lower-case hexadecimal digits.
    ///
    /// Send it over TLS only, in a cookie that is `HttpOnly`, `Secure` and `SameSite`, or in an `Authorization` header.
    #[must_use]
    pub fn expose(&self) -> String {
        self.0.expose()
    }

    /// Returns what names this session without opening it.
    #[must_use]
    pub fn key(&self) -> SessionKey {
        SessionKey(Sha256::digest(self.0.as_bytes()).into())
    }

    pub(crate) fn partition(&self) -> Partition {
        let [first, second, ..] = *self.0.as_bytes();
        Partition([first, second])
    }
}

impl FromStr for SessionId {
    type Err = Error;

    /// Reads what [`expose`](Self::expose) wrote, and nothing else: upper-case digits are refused.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidId`], which does not quote the text.
    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse().map(Self).ok().ok_or(Error::InvalidId)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(***)")
    }
}

impl SessionKey {
    pub(crate) fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    pub(crate) fn as_digest(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for SessionKey {
    type Err = Error;

    /// Reads what `Display` wrote, and nothing else: upper-case digits are refused.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidKey`].
    fn from_str(text: &str) -> Result<Self, Error> {
        let token: Token<32> = text.parse().ok().ok_or(Error::InvalidKey)?;
        Ok(Self(*token.as_bytes()))
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Token::from(self.0).expose())
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({self})")
    }
}

impl Partition {
    pub(crate) fn of(user: &str) -> Self {
        let [first, second, ..]: [u8; 32] = Sha256::digest(user).into();
        Self([first, second])
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([first, second]) = self;
        write!(f, "{first:02x}{second:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_text_is_read_and_no_other() {
        let id = SessionId::random(Partition::of("ada"));
        let text = id.expose();
        assert_eq!(text.len(), 68);
        assert_eq!(text.parse::<SessionId>().unwrap(), id);
        assert_eq!(id.partition(), Partition::of("ada"));
        assert!(text.starts_with(&Partition::of("ada").to_string()));
        let long = format!("{text}0");
        for wrong in
            ["", " ", &text[1..], &text[2..], &long, &text.to_uppercase(), &"g".repeat(68), "é"]
        {
            let err = wrong.parse::<SessionId>().unwrap_err();
            assert!(matches!(err, Error::InvalidId), "{err:?}");
            assert!(wrong.trim().is_empty() || !err.to_string().contains(wrong), "{err}");
        }
    }

    #[test]
    fn its_key_says_nothing_of_it() {
        let id = SessionId::random(Partition::of("ada"));
        let key = id.key();
        assert_eq!(key.to_string().parse::<SessionKey>().unwrap(), key);
        assert!(matches!("abc".parse::<SessionKey>(), Err(Error::InvalidKey)));
        assert_ne!(key, SessionId::random(Partition::of("ada")).key());
        let shown = format!("{id:?} {key:?} {key}");
        assert!(!shown.contains(&id.expose()[4..20]), "{shown}");
    }

    /// Keys that two releases must agree on.
    #[test]
    fn places_stay_where_they_are() {
        assert_eq!(Partition::of("").to_string(), "e3b0");
        assert_eq!(Partition::of("ada").to_string(), "fdee");
        let id = SessionId(Token::from([7; 34]));
        assert_eq!(
            id.key().to_string(),
            "c6be98b1f8e874e8faa44075a19bbe5b6b1ee3f64be42c5e6ad6e7041f811452"
        );
    }
}
