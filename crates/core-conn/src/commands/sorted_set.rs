use std::{
    fmt,
    ops::{Bound, RangeBounds},
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{Call, FromReply, list::ends, reply::Reply, request::Request};
use crate::{Codec, Conn, Error, ErrorKind, Result};

/// The sorted set at a key: members, each there once, in the order of their scores.
///
/// Members are encoded as by [`Conn::set`], and are the same when their bytes are: use one type and one [`Codec`] for a
/// set. Members of one score are in the order of their bytes. One round trip per call.
///
/// ```no_run
/// # async fn f(conn: redbrick_core_conn::Conn) -> Result<(), redbrick_core_conn::Error> {
/// let points = conn.sorted_set("points");
/// points.increment("ada", 10.0).await?;
/// let last_three: Vec<(String, f64)> = points.range(-3..).await?;
/// let winners: Vec<(String, f64)> = points.range_by_score(100.0..).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// [`ErrorKind::InvalidArgument`] for a score that is not a number, before anything is sent;
/// [`ErrorKind::WrongType`] when the key holds something else; [`ErrorKind::Codec`] as for [`Conn::get`] and
/// [`Conn::set`]; those of [every call](Conn#errors-of-every-call).
pub struct SortedSet<'a> {
    conn: &'a Conn,
    key: Bytes,
}

impl Conn {
    /// Names the sorted set at `key`; nothing is sent.
    pub fn sorted_set(&self, key: impl AsRef<[u8]>) -> SortedSet<'_> {
        SortedSet { conn: self, key: self.wire_key(key) }
    }
}

impl<'a> SortedSet<'a> {
    /// Adds `member` with `score`, or gives it that score, and returns whether it is new (`ZADD`).
    #[doc(alias = "zadd")]
    pub fn add<T: Serialize + ?Sized>(&self, member: &T, score: f64) -> Call<'a, bool> {
        let request = checked(score).and_then(|score| {
            Ok(Request::SortedAdd(self.key.clone(), vec![(score, self.encode(member)?)]))
        });
        Call::reading(self.conn, request)
    }

    /// Adds `members` with their scores, or gives them those scores, and returns how many are new (`ZADD`). Without any it
    /// asks nothing.
    pub fn extend<T: Serialize>(
        &self,
        members: impl IntoIterator<Item = (T, f64)>,
    ) -> Call<'a, u64> {
        let members =
            members.into_iter().map(|(member, score)| Ok((checked(score)?, self.encode(&member)?)));
        let request = members.collect::<Result<Vec<_>>>().map(|members| match members.is_empty() {
            true => Request::Known(Reply::Int(0)),
            false => Request::SortedAdd(self.key.clone(), members),
        });
        Call::reading(self.conn, request)
    }

    /// Adds `by` to the score of `member`, from 0 when it is new, and returns the new score (`ZINCRBY`). It is never
    /// sent twice after it may have run.
    #[doc(alias = "zincrby")]
    pub fn increment<T: Serialize + ?Sized>(&self, member: &T, by: f64) -> Call<'a, f64> {
        let request = checked(by).and_then(|by| {
            Ok(Request::SortedIncrement(self.key.clone(), by, self.encode(member)?))
        });
        Call::new(self.conn, request, |_, reply| score(reply))
    }

    /// Removes `member`, and returns whether it was there (`ZREM`).
    #[doc(alias = "zrem")]
    pub fn remove<T: Serialize + ?Sized>(&self, member: &T) -> Call<'a, bool> {
        let member = self.encode(member);
        let request = member.map(|member| Request::SortedRemove(self.key.clone(), vec![member]));
        Call::reading(self.conn, request)
    }

    /// Removes `members`, and returns how many were there (`ZREM`). Without any it asks nothing.
    pub fn remove_many<T: Serialize>(&self, members: impl IntoIterator<Item = T>) -> Call<'a, u64> {
        let members = members.into_iter().map(|member| self.encode(&member));
        let request = members.collect::<Result<Vec<_>>>().map(|members| match members.is_empty() {
            true => Request::Known(Reply::Int(0)),
            false => Request::SortedRemove(self.key.clone(), members),
        });
        Call::reading(self.conn, request)
    }

    /// Returns the score of `member` (`ZSCORE`).
    #[doc(alias = "zscore")]
    pub fn score<T: Serialize + ?Sized>(&self, member: &T) -> Call<'a, Option<f64>> {
        let member = self.encode(member);
        let request = member.map(|member| Request::SortedScore(self.key.clone(), member));
        Call::new(self.conn, request, |_, reply| match reply {
            Reply::Nil => Ok(None),
            some => score(some).map(Some),
        })
    }

    /// Returns the members at the places in `range` with their scores, lowest first (`ZRANGE`). Places count from 0,
    /// or from -1 at the back: `-3..` are the three with the highest scores.
    #[doc(alias = "zrange")]
    pub fn range<T: DeserializeOwned>(
        &self,
        range: impl RangeBounds<i64>,
    ) -> Call<'a, Vec<(T, f64)>> {
        let request = match ends(&range) {
            Some((first, last)) => Request::Nested {
                name: "ZRANGE",
                key: self.key.clone(),
                args: vec![first.to_string().into(), last.to_string().into(), WITHSCORES],
            },
            None => Request::Known(Reply::List(Vec::new())),
        };
        Call::new(self.conn, Ok(request), with_scores)
    }

    /// Returns the `count` members with the highest scores, with their scores, highest first (`ZREVRANGE`).
    #[doc(alias = "zrevrange")]
    pub fn highest<T: DeserializeOwned>(&self, count: u32) -> Call<'a, Vec<(T, f64)>> {
        let request = match count.checked_sub(1) {
            Some(last) => Request::Nested {
                name: "ZREVRANGE",
                key: self.key.clone(),
                args: vec![Bytes::from_static(b"0"), last.to_string().into(), WITHSCORES],
            },
            None => Request::Known(Reply::List(Vec::new())),
        };
        Call::new(self.conn, Ok(request), with_scores)
    }

    /// Returns the members whose scores lie in `range`, with their scores, lowest first (`ZRANGEBYSCORE`).
    #[doc(alias = "zrangebyscore")]
    pub fn range_by_score<T: DeserializeOwned>(
        &self,
        range: impl RangeBounds<f64>,
    ) -> Call<'a, Vec<(T, f64)>> {
        let request = bounds(&range).map(|[min, max]| Request::Nested {
            name: "ZRANGEBYSCORE",
            key: self.key.clone(),
            args: vec![min, max, WITHSCORES],
        });
        Call::new(self.conn, request, with_scores)
    }

    /// Removes the members whose scores lie in `range`, and returns how many (`ZREMRANGEBYSCORE`).
    #[doc(alias = "zremrangebyscore")]
    pub fn remove_by_score(&self, range: impl RangeBounds<f64>) -> Call<'a, u64> {
        let request = bounds(&range)
            .map(|ends| Request::SortedRemoveByScore(self.key.clone(), Box::new(ends)));
        Call::reading(self.conn, request)
    }

    /// Returns how many members there are (`ZCARD`).
    #[doc(alias = "zcard")]
    pub fn len(&self) -> Call<'a, u64> {
        let request = Request::SortedLen(self.key.clone());
        Call::reading(self.conn, Ok(request))
    }

    fn encode<T: Serialize + ?Sized>(&self, member: &T) -> Result<Bytes> {
        self.conn.codec().encode(member)
    }
}

impl fmt::Debug for SortedSet<'_> {
    /// Does not show the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SortedSet").finish_non_exhaustive()
    }
}

const WITHSCORES: Bytes = Bytes::from_static(b"WITHSCORES");

fn checked(score: f64) -> Result<f64> {
    if score.is_nan() {
        return Err(Error::new(ErrorKind::InvalidArgument, "a score is a number"));
    }
    Ok(score)
}

/// A score comes as a text.
fn score(reply: Reply) -> Result<f64> {
    let text = String::from_reply(reply)?;
    text.parse().map_err(|err| {
        Error::new(ErrorKind::Protocol, "the server answered with a score that is no number")
            .with_source(err)
    })
}

/// Reads members and scores in turn.
fn with_scores<T: DeserializeOwned>(codec: Codec, reply: Reply) -> Result<Vec<(T, f64)>> {
    let mut replies = Vec::<Reply>::from_reply(reply)?.into_iter();
    let mut all = Vec::with_capacity(replies.len() / 2);
    while let (Some(member), Some(of)) = (replies.next(), replies.next()) {
        all.push((codec.decode(&Bytes::from_reply(member)?)?, score(of)?));
    }
    Ok(all)
}

/// The ends of a range of scores as Redis takes them: `(` before one that is not included.
fn bounds(range: &impl RangeBounds<f64>) -> Result<[Bytes; 2]> {
    let bound = |bound: Bound<&f64>, open: &str| -> Result<Bytes> {
        let (mark, score) = match bound {
            Bound::Included(score) => ("", score),
            Bound::Excluded(score) => ("(", score),
            Bound::Unbounded => return Ok(open.to_owned().into()),
        };
        Ok(format!("{mark}{}", checked(*score)?).into())
    };
    Ok([bound(range.start_bound(), "-inf")?, bound(range.end_bound(), "+inf")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_scores_are_written_as_redis_takes_them() {
        assert_eq!(bounds(&(..)).unwrap(), ["-inf", "+inf"]);
        assert_eq!(bounds(&(1.5..2.0)).unwrap(), ["1.5", "(2"]);
        assert_eq!(bounds(&(1e300..=f64::INFINITY)).unwrap()[1], "inf");
        assert_eq!(bounds(&(f64::NAN..)).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}
