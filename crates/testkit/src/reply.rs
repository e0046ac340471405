/// A server's answer to [`Server::command`](crate::Server::command).
///
/// An answer that is an error as a whole is an [`Error::Reply`](crate::Error::Reply); `Reply::Error` occurs inside
/// arrays only, as in the answer to `EXEC`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// No value.
    Nil,
    /// A number.
    Int(i64),
    /// A short text such as `OK`.
    Status(String),
    /// A value.
    Bulk(Vec<u8>),
    /// Several answers.
    Array(Vec<Self>),
    /// An error within an array.
    Error(String),
}

impl Reply {
    /// Whether there is no value.
    #[must_use]
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    /// The text of a value or status; `None` for anything else and for bytes that are not UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Status(text) | Self::Error(text) => Some(text),
            Self::Bulk(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The bytes of a value or status.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Status(text) | Self::Error(text) => Some(text.as_bytes()),
            Self::Bulk(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The number; a value that holds decimal digits counts as one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => self.as_str()?.parse().ok(),
        }
    }

    /// The answers of an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The texts of an array, in order; `None` when it is no array or an item is no text.
    #[must_use]
    pub fn as_strings(&self) -> Option<Vec<&str>> {
        self.as_array()?.iter().map(Self::as_str).collect()
    }
}
