//! What the server answered, and what can be made of it.

use bytes::Bytes;
use fred::{
    error::{Error as FredError, ErrorKind as FredKind},
    interfaces::Resp3Frame,
    types::Value,
};

use super::sending::Outcome;
use crate::{
    Error, ErrorKind, Result,
    error::fred::{from_item, from_raised, from_script},
};

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
    /// An error inside a list, in the server's words: what `redis.pcall` returned, for instance. An error that is the
    /// whole answer is that of the call instead.
    Error(String),
}

/// What can be made of a [`Reply`].
///
/// `()` takes anything; `bool` takes 1 and 0, and nothing as `false`, as what Lua calls `true` and `false` comes; an `Option` takes nothing as `None`; a tuple takes a list that is no
/// longer than it, and what is missing counts as nothing; a `Result` takes an error inside a list, which otherwise is that
/// of the whole. A value that [`Conn::set`](crate::Conn::set) stored comes as
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
    /// The error for a reply of another type than `expected`, as `a number`: for your own [`FromReply`]. Where the reply
    /// is an error, it is that.
    #[must_use]
    pub fn unexpected(&self, expected: &str) -> Error {
        let found = match self {
            Self::Nil => "nothing",
            Self::Int(_) => "a number",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
            Self::Error(text) => return from_item(text),
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

/// Whole numbers of other sizes.
macro_rules! whole {
    ($($number:ty: $expected:literal),+ $(,)?) => {$(
        impl FromReply for $number {
            fn from_reply(reply: Reply) -> Result<Self> {
                whole(reply, $expected)
            }
        }
    )+};
}

whole! {
    i32: "a number from -2,147,483,648 to 2,147,483,647",
    u32: "a number from 0 to 4,294,967,295",
    u64: "a number from zero on",
    usize: "a number from zero on",
}

fn whole<T: TryFrom<i64>>(reply: Reply, expected: &str) -> Result<T> {
    match reply {
        Reply::Int(number) => {
            T::try_from(number).map_err(|_out| unexpected(expected, &Reply::Int(number)))
        }
        other => Err(unexpected(expected, &other)),
    }
}

/// Lua cuts off fractions: `return tostring(number)`.
impl FromReply for f64 {
    fn from_reply(reply: Reply) -> Result<Self> {
        let number = match &reply {
            Reply::Bytes(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
            _ => None,
        };
        number.ok_or_else(|| unexpected("a number as a text", &reply))
    }
}

impl FromReply for bool {
    fn from_reply(reply: Reply) -> Result<Self> {
        match reply {
            // What Lua's `false` comes as.
            Reply::Int(0) | Reply::Nil => Ok(false),
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

impl<T: FromReply> FromReply for Result<T> {
    fn from_reply(reply: Reply) -> Result<Self> {
        match reply {
            Reply::Error(text) => Ok(Err(from_item(&text))),
            other => T::from_reply(other).map(Ok),
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
    pub(super) fn from_fred(value: Value) -> Outcome {
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
                Self::List(values.into_iter().map(Self::from_fred).collect::<Result<_, _>>()?)
            }
            Value::Map(_) => return Err(FredError::new(FredKind::Parse, "a map")),
        })
    }

    /// Reads the server's answer as it was before fred's parser made `frame` of it. Lists of what users stored are
    /// read by this and never by fred.
    pub(crate) fn from_frame(frame: Resp3Frame) -> Outcome {
        match Self::within(frame)? {
            Self::Error(text) => Err(FredError::new(FredKind::Unknown, text)),
            reply => Ok(reply),
        }
    }

    fn within(frame: Resp3Frame) -> Outcome {
        let items = match frame {
            // What most answers are, read without a detour.
            Resp3Frame::BlobString { data, .. } => return Ok(Self::Bytes(data)),
            Resp3Frame::Number { data, .. } => return Ok(Self::Int(data)),
            Resp3Frame::Null => return Ok(Self::Nil),
            Resp3Frame::Array { data, .. } => data,
            // Links speak RESP2, where nothing is pushed: this was a list that begins with `message` or the like, and
            // the parser has put a word before it, at any depth.
            Resp3Frame::Push { mut data, .. } => {
                data.remove(0);
                data
            }
            Resp3Frame::SimpleError { data, .. } => return Ok(Self::Error(data.to_string())),
            other => return Self::from_fred(other.try_into()?),
        };
        items.into_iter().map(Self::within).collect::<Result<_, _>>().map(Self::List)
    }

    /// The result of the only caller that a batch script was run for, in the form in which a script returns it.
    pub(super) fn only(self) -> Self {
        match self {
            Self::List(mut whole) if whole.len() == 2 && whole[0] == Self::Int(0) => {
                whole.pop().unwrap_or_default()
            }
            other => other,
        }
    }

    /// Whether a script ended with an error, by which it comes in a list behind a number.
    pub(crate) fn is_raised(&self) -> bool {
        matches!(self, Self::List(whole) if matches!(**whole, [Self::Int(1 | 2), Self::Bytes(_)]))
    }

    /// What a script really returned: its lists and its errors come behind a number that core-conn puts before them.
    pub(crate) fn unwrapped(self) -> Result<Self> {
        if !matches!(self, Self::List(_)) {
            return Ok(self);
        }
        let [lead, reply] = take(self)?;
        match (lead, reply) {
            (Self::Int(0), list) => Ok(list),
            (Self::Int(1), Self::Bytes(text)) => Err(from_script(&String::from_utf8_lossy(&text))),
            (Self::Int(2), Self::Bytes(text)) => Err(from_raised(&String::from_utf8_lossy(&text))),
            (Self::Int(1), _) => Err(from_script("")),
            (other, _) => Err(unexpected("a list that begins with 0, 1 or 2", &other)),
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
        assert_eq!(
            <(bool, bool, i64)>::from_reply(Reply::List(vec![
                Reply::Int(0),
                Reply::Nil,
                Reply::Int(2)
            ]))
            .unwrap(),
            (false, false, 2)
        );
        <()>::from_reply(text()).unwrap();
    }

    #[test]
    fn an_error_inside_a_list_stays_with_its_item_where_that_is_asked_for() {
        let list = || Reply::List(vec![Reply::Int(1), Reply::Error("WRONGTYPE x".to_owned())]);
        let items = Vec::<Result<i64>>::from_reply(list()).unwrap();
        assert_eq!(*items[0].as_ref().unwrap(), 1);
        assert_eq!(items[1].as_ref().unwrap_err().kind(), ErrorKind::WrongType);
        let err = Vec::<i64>::from_reply(list()).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::WrongType);
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
