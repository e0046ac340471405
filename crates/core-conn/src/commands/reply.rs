//! What a script answered, in Rust's types.

use bytes::Bytes;
use fred::{error::Error as FredError, interfaces::Resp3Frame, types::Value};

use crate::{Error, ErrorKind, Result, error::fred::from_script};

/// What the server answered, as a script returns it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Reply {
    /// Nothing: `nil` and `false` in Lua.
    #[default]
    Nil,
    /// A whole number. Lua cuts off fractions, and is exact up to 2⁵³.
    Int(i64),
    /// A text or other bytes.
    Bytes(Bytes),
    /// A list. In Lua it ends before the first `nil`.
    List(Vec<Self>),
}

/// The server's answer of which fred's parser made `frame`, as it was. Lists of what users stored are read by this and
/// never by fred.
pub(crate) fn as_sent(frame: Resp3Frame) -> Result<Value, FredError> {
    let list = |frames: Vec<Resp3Frame>| {
        frames.into_iter().map(as_sent).collect::<Result<_, _>>().map(Value::Array)
    };
    match frame {
        Resp3Frame::Array { data, .. } => list(data),
        // Links speak RESP2, where nothing is pushed: this was a list that begins with `message` or the like, and the
        // parser has put a word before it, at any depth.
        Resp3Frame::Push { mut data, .. } => {
            data.remove(0);
            list(data)
        }
        other => other.try_into(),
    }
}

/// What can be made of a [`Reply`].
///
/// `()` takes anything; `bool` takes 1 and 0; an `Option` takes nothing as `None`; a tuple takes a list that is no
/// longer than it, and what is missing counts as nothing. A value that [`Conn::set`](crate::Conn::set) stored comes as
/// bytes; [`Codec::decode`](crate::Codec::decode) reads it.
///
/// [`ScriptCall::run`](crate::ScriptCall::run) wants a `Default` as well: the answer where nothing is enough.
pub trait FromReply: Sized {
    /// Reads `reply`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Protocol`] when it is of another type.
    fn from_reply(reply: Reply) -> Result<Self>;
}

impl Reply {
    /// The error for a reply of another type than `expected`, as `a number`: for your own [`FromReply`].
    #[must_use]
    pub fn unexpected(&self, expected: &str) -> Error {
        let found = match self {
            Self::Nil => "nothing",
            Self::Int(_) => "a number",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
        };
        let what = format!("the server answered with {found} where {expected} was expected");
        Error::new(ErrorKind::Protocol, what)
    }
}

fn unexpected(expected: &str, found: &Reply) -> Error {
    found.unexpected(expected)
}

impl FromReply for Reply {
    fn from_reply(reply: Reply) -> Result<Self> {
        Ok(reply)
    }
}

impl FromReply for () {
    fn from_reply(_: Reply) -> Result<Self> {
        Ok(())
    }
}

impl FromReply for i64 {
    fn from_reply(reply: Reply) -> Result<Self> {
        match reply {
            Reply::Int(number) => Ok(number),
            other => Err(unexpected("a number", &other)),
        }
    }
}

impl FromReply for u64 {
    fn from_reply(reply: Reply) -> Result<Self> {
        match reply {
            Reply::Int(number) if number >= 0 => Ok(number.unsigned_abs()),
            other => Err(unexpected("a number from zero on", &other)),
        }
    }
}

impl FromReply for bool {
    fn from_reply(reply: Reply) -> Result<Self> {
        match reply {
            Reply::Int(0) => Ok(false),
            Reply::Int(1) => Ok(true),
            other => Err(unexpected("1 or 0", &other)),
        }
    }
}

impl FromReply for Bytes {
    fn from_reply(reply: Reply) -> Result<Self> {
        match reply {
            // Copied, since the bytes as they came keep all that was read together with them in memory.
            Reply::Bytes(bytes) => Ok(Self::copy_from_slice(&bytes)),
            other => Err(unexpected("bytes", &other)),
        }
    }
}

impl FromReply for String {
    fn from_reply(reply: Reply) -> Result<Self> {
        match reply {
            Reply::Bytes(bytes) => Self::from_utf8(bytes.to_vec()).map_err(|err| {
                Error::new(ErrorKind::Protocol, "the server answered with a text that is not UTF-8")
                    .with_source(err.utf8_error())
            }),
            other => Err(unexpected("a text", &other)),
        }
    }
}

impl<T: FromReply> FromReply for Option<T> {
    fn from_reply(reply: Reply) -> Result<Self> {
        match reply {
            Reply::Nil => Ok(None),
            some => T::from_reply(some).map(Some),
        }
    }
}

impl<T: FromReply> FromReply for Vec<T> {
    fn from_reply(reply: Reply) -> Result<Self> {
        match reply {
            Reply::List(replies) => replies.into_iter().map(T::from_reply).collect(),
            other => Err(unexpected("a list", &other)),
        }
    }
}

/// Takes a list of at most `N` replies apart.
fn take<const N: usize>(reply: Reply) -> Result<[Reply; N]> {
    match reply {
        Reply::List(replies) if replies.len() <= N => {
            let mut replies = replies.into_iter();
            Ok(std::array::from_fn(|_| replies.next().unwrap_or(Reply::Nil)))
        }
        other => Err(unexpected(&format!("a list of at most {N}"), &other)),
    }
}

impl<A: FromReply, B: FromReply> FromReply for (A, B) {
    fn from_reply(reply: Reply) -> Result<Self> {
        let [a, b] = take(reply)?;
        Ok((A::from_reply(a)?, B::from_reply(b)?))
    }
}

impl<A: FromReply, B: FromReply, C: FromReply> FromReply for (A, B, C) {
    fn from_reply(reply: Reply) -> Result<Self> {
        let [a, b, c] = take(reply)?;
        Ok((A::from_reply(a)?, B::from_reply(b)?, C::from_reply(c)?))
    }
}

impl<A: FromReply, B: FromReply, C: FromReply, D: FromReply> FromReply for (A, B, C, D) {
    fn from_reply(reply: Reply) -> Result<Self> {
        let [a, b, c, d] = take(reply)?;
        Ok((A::from_reply(a)?, B::from_reply(b)?, C::from_reply(c)?, D::from_reply(d)?))
    }
}

impl Reply {
    /// Reads what fred made of the server's answer.
    pub(crate) fn from_fred(value: Value) -> Result<Self> {
        Ok(match value {
            Value::Null => Self::Nil,
            Value::Integer(number) => Self::Int(number),
            Value::Boolean(yes) => Self::Int(i64::from(yes)),
            Value::String(text) => Self::Bytes(text.into_inner()),
            Value::Bytes(bytes) => Self::Bytes(bytes),
            Value::Double(number) => Self::Bytes(number.to_string().into()),
            // So fred calls this word wherever it stands, in what users have stored too.
            Value::Queued => Self::Bytes(Bytes::from_static(b"QUEUED")),
            Value::Array(values) => {
                Self::List(values.into_iter().map(Self::from_fred).collect::<Result<_>>()?)
            }
            Value::Map(_) => {
                let what = "the server answered with an unexpected type";
                return Err(Error::new(ErrorKind::Protocol, what));
            }
        })
    }

    /// What a script really returned, from behind the number that core-conn has put before it.
    pub(crate) fn nested(self) -> Result<Self> {
        let [lead, reply] = take(self)?;
        match (lead, reply) {
            (Self::Int(0), reply) => Ok(reply),
            // Errors come as data too: fred closes the connection when it sees some of them.
            (Self::Int(1), Self::Bytes(text)) => Err(from_script(&String::from_utf8_lossy(&text))),
            (Self::Int(1), _) => Err(from_script("")),
            (other, _) => Err(unexpected("a leading zero", &other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_become_what_they_are_asked_to_be() {
        let text = || Reply::Bytes(Bytes::from_static(b"a"));
        assert_eq!(
            <(i64, Option<String>)>::from_reply(Reply::List(vec![Reply::Int(7), text()])).unwrap(),
            (7, Some("a".to_owned()))
        );
        assert_eq!(
            <(i64, Option<Bytes>)>::from_reply(Reply::List(vec![Reply::Int(7)])).unwrap(),
            (7, None)
        );
        assert_eq!(
            Vec::<String>::from_reply(Reply::List(vec![text(), text()])).unwrap(),
            ["a", "a"]
        );
        assert!(bool::from_reply(Reply::Int(1)).unwrap());
        <()>::from_reply(text()).unwrap();
    }

    #[test]
    fn another_type_is_refused_and_named() {
        for (err, says) in [
            (bool::from_reply(Reply::Int(2)).unwrap_err(), "1 or 0"),
            (i64::from_reply(Reply::Nil).unwrap_err(), "nothing where a number"),
            (u64::from_reply(Reply::Int(-1)).unwrap_err(), "from zero on"),
            (String::from_reply(Reply::Bytes(Bytes::from_static(b"\xff"))).unwrap_err(), "UTF-8"),
            (
                <(i64, i64)>::from_reply(Reply::List(vec![Reply::Int(1); 3])).unwrap_err(),
                "at most 2",
            ),
            (Vec::<i64>::from_reply(Reply::Int(1)).unwrap_err(), "a list"),
        ] {
            assert_eq!(err.kind(), ErrorKind::Protocol);
            assert!(err.to_string().contains(says), "{err}");
        }
    }
}
