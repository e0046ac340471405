use std::{
    fmt,
    ops::{Bound, RangeBounds},
    time::Duration,
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{Call, FromReply, reply::Reply, request::Request, values};
use crate::{Codec, Conn, Result, conn::Blocking, telemetry};

/// One of the two ends of a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ListEnd {
    Front,
    Back,
}

impl ListEnd {
    /// The command that waits for an item there.
    pub(super) fn pops_within(self) -> &'static str {
        match self {
            Self::Front => "BLPOP",
            Self::Back => "BRPOP",
        }
    }
}

/// What a server took from a list: by itself, or behind the key that it took it from.
fn taken(reply: Reply) -> Result<Reply> {
    match reply {
        Reply::List(_) => <(Reply, Reply)>::from_reply(reply).map(|(_, taken)| taken),
        taken => Ok(taken),
    }
}

/// The list at a key.
///
/// Items are encoded as by [`Conn::set`]. One round trip per call, unless it says otherwise. Pushes and pops are never
/// sent twice after they may have run.
///
/// ```no_run
/// # async fn f(conn: redbrick_core_conn::Conn) -> Result<(), redbrick_core_conn::Error> {
/// let latest = conn.list("latest");
/// latest.push_front("hello").await?;
/// latest.trim(..100).await?;
/// let newest: Vec<String> = latest.range(..10).await?;
/// # Ok(()) }
/// ```
///
/// Positions count from 0 at the front, or from -1 at the back, as in Redis: `-3..` are the last three.
///
/// # Errors
///
/// [`ErrorKind::WrongType`](crate::ErrorKind::WrongType) when the key holds something else;
/// [`ErrorKind::Codec`](crate::ErrorKind::Codec) as for [`Conn::get`] and [`Conn::set`]; those of [every
/// call](Conn#errors-of-every-call).
pub struct List<'a> {
    conn: &'a Conn,
    key: Bytes,
}

impl Conn {
    /// Names the list at `key`; nothing is sent.
    pub fn list(&self, key: impl AsRef<[u8]>) -> List<'_> {
        List { conn: self, key: self.wire_key(key) }
    }
}

impl<'a> List<'a> {
    /// Puts `item` before the others, and returns how many there are (`LPUSH`).
    #[doc(alias = "lpush")]
    pub fn push_front<T: Serialize + ?Sized>(&self, item: &T) -> Call<'a, u64> {
        let items = self.conn.codec().encode(item).map(|item| vec![item]);
        self.counting(items.map(|items| Request::ListPushFront(self.key.clone(), items)))
    }

    /// Puts `item` behind the others, and returns how many there are (`RPUSH`).
    #[doc(alias = "rpush")]
    pub fn push_back<T: Serialize + ?Sized>(&self, item: &T) -> Call<'a, u64> {
        let items = self.conn.codec().encode(item).map(|item| vec![item]);
        self.counting(items.map(|items| Request::ListPushBack(self.key.clone(), items)))
    }

    /// Puts `items` behind the others, in their order, and returns how many there are (`RPUSH`; `LLEN` when there are
    /// no items).
    pub fn extend<T: Serialize>(&self, items: impl IntoIterator<Item = T>) -> Call<'a, u64> {
        let codec = self.conn.codec();
        let items: Result<Vec<_>> = items.into_iter().map(|item| codec.encode(&item)).collect();
        self.counting(items.map(|items| match items.is_empty() {
            true => Request::ListLen(self.key.clone()),
            false => Request::ListPushBack(self.key.clone(), items),
        }))
    }

    /// Takes the first item (`LPOP`). One that cannot be decoded is gone too. After [an unknown
    /// outcome](crate::Error::is_outcome_unknown) it may be lost.
    #[doc(alias = "lpop")]
    pub fn pop_front<T: DeserializeOwned>(&self) -> Call<'a, Option<T>> {
        Call::new(self.conn, Ok(Request::ListPopFront(self.key.clone())), values::decode)
    }

    /// Takes the last item (`RPOP`). One that cannot be decoded is gone too. After [an unknown
    /// outcome](crate::Error::is_outcome_unknown) it may be lost.
    #[doc(alias = "rpop")]
    pub fn pop_back<T: DeserializeOwned>(&self) -> Call<'a, Option<T>> {
        Call::new(self.conn, Ok(Request::ListPopBack(self.key.clone())), values::decode)
    }

    /// Takes the first item, and waits for one at most for `wait`; `None` when none came (`LPOP`, then `BLPOP`).
    ///
    /// It looks once at the beginning, and needs no more when there is an item. Otherwise it waits at the server, on a
    /// link of its own, so that no other call waits behind it: at most as many calls at once as the config's
    /// [`blocking_links`](crate::ConfigBuilder::blocking_links), in turns of 5 seconds; the others wait for a turn, and look
    /// once more at the end. One round trip for each look and each turn, and those of connecting when a link is opened.
    /// A wait at the server takes 2 milliseconds at least, and servers look at its end ten times a second. Those who wait at the server for one key get its items in the order in which they came. The command timeout
    /// is about each answer, not about the wait.
    ///
    /// When the future is dropped, the server is told to stop, and an item that it has taken by then is put back where
    /// it was, in the background. [`Conn::close`] waits for that; a process that ends without it, or a link that breaks
    /// in that moment, loses the item. Without the right to `CLIENT UNBLOCK` a turn takes one second, and as long
    /// passes until then.
    ///
    /// Whoever has an item has taken it: when they end before its work is done, so does the item. An
    /// [optional](crate::ConfigBuilder::optional) connection without a server waits in vain.
    ///
    /// # Errors
    ///
    /// As [`pop_front`](Self::pop_front); one that cannot be decoded is gone too. After [an unknown
    /// outcome](crate::Error::is_outcome_unknown), as when the server restarts meanwhile, an item may be lost; ask
    /// again.
    #[doc(alias = "blpop")]
    pub async fn pop_front_within<T: DeserializeOwned>(&self, wait: Duration) -> Result<Option<T>> {
        self.pop_within(ListEnd::Front, wait).await
    }

    /// Takes the last item, and waits for one at most for `wait` (`BRPOP`); see
    /// [`pop_front_within`](Self::pop_front_within).
    ///
    /// # Errors
    ///
    /// As [`pop_front_within`](Self::pop_front_within).
    #[doc(alias = "brpop")]
    pub async fn pop_back_within<T: DeserializeOwned>(&self, wait: Duration) -> Result<Option<T>> {
        self.pop_within(ListEnd::Back, wait).await
    }

    async fn pop_within<T: DeserializeOwned>(
        &self,
        end: ListEnd,
        wait: Duration,
    ) -> Result<Option<T>> {
        let (key, again) = (self.key.clone(), self.key.clone());
        let blocking = Blocking {
            look: match end {
                ListEnd::Front => Request::ListPopFront(self.key.clone()),
                ListEnd::Back => Request::ListPopBack(self.key.clone()),
            },
            request: Box::new(move |wait| Request::ListPopWithin(key.clone(), end, wait)),
            undo: Box::new(move |reply| {
                let Ok(Reply::Bytes(item)) = taken(reply) else { return None };
                let items = vec![item];
                Some(match end {
                    ListEnd::Front => Request::ListPushFront(again.clone(), items),
                    ListEnd::Back => Request::ListPushBack(again.clone(), items),
                })
            }),
        };
        let blocked = self.conn.block(blocking, wait);
        let blocked = telemetry::within(telemetry::waiting(end.pops_within()), blocked);
        let item = blocked.await.and_then(|reply| match reply {
            Reply::Nil => Ok(None),
            reply => values::decode(self.conn.codec(), taken(reply)?),
        });
        item.map_err(|err| self.conn.located(end.pops_within(), err))
    }

    /// Returns the items in `range` (`LRANGE`), and fewer where the list is shorter.
    #[doc(alias = "lrange")]
    pub fn range<T: DeserializeOwned>(&self, range: impl RangeBounds<i64>) -> Call<'a, Vec<T>> {
        let request = match ends(&range) {
            Some((first, last)) => Request::Nested {
                name: "LRANGE",
                key: self.key.clone(),
                args: vec![first.to_string().into(), last.to_string().into()],
            },
            None => Request::Known(Reply::List(Vec::new())),
        };
        Call::new(self.conn, Ok(request), decode_all)
    }

    /// Keeps the items in `range` and deletes the others (`LTRIM`).
    #[doc(alias = "ltrim")]
    pub fn trim(&self, range: impl RangeBounds<i64>) -> Call<'a, ()> {
        // From the second item to the first one there is nothing.
        let (first, last) = ends(&range).unwrap_or((1, 0));
        let request = Request::ListTrim(self.key.clone(), first, last);
        Call::reading(self.conn, Ok(request))
    }

    /// Returns how many items there are (`LLEN`).
    #[doc(alias = "llen")]
    pub fn len(&self) -> Call<'a, u64> {
        self.counting(Ok(Request::ListLen(self.key.clone())))
    }

    fn counting(&self, request: Result<Request>) -> Call<'a, u64> {
        Call::reading(self.conn, request)
    }
}

impl fmt::Debug for List<'_> {
    /// Does not show the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List").finish_non_exhaustive()
    }
}

/// Reads a list of values.
pub(super) fn decode_all<T: DeserializeOwned>(codec: Codec, reply: Reply) -> Result<Vec<T>> {
    let items = Vec::<Bytes>::from_reply(reply)?;
    items.iter().map(|item| codec.decode(item)).collect()
}

/// A range as Redis takes it, both ends included; none when it holds nothing wherever the list ends.
pub(super) fn ends(range: &impl RangeBounds<i64>) -> Option<(i64, i64)> {
    let first = match range.start_bound() {
        Bound::Included(first) => *first,
        // The place after the last one would be the first one to Redis.
        Bound::Excluded(-1) => return None,
        Bound::Excluded(before) => before.checked_add(1)?,
        Bound::Unbounded => 0,
    };
    let last = match range.end_bound() {
        Bound::Included(last) => *last,
        // The place before the first one would be the last one to Redis.
        Bound::Excluded(0) => return None,
        Bound::Excluded(after) => after.checked_sub(1)?,
        Bound::Unbounded => -1,
    };
    Some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_rust_with_places_from_the_back() {
        assert_eq!(ends(&(..)), Some((0, -1)));
        assert_eq!(ends(&(..100)), Some((0, 99)));
        assert_eq!(ends(&(2..=4)), Some((2, 4)));
        assert_eq!(ends(&(-3..)), Some((-3, -1)));
        assert_eq!(ends(&(..-1)), Some((0, -2)));
        assert_eq!(ends(&(0..0)), None);
        assert_eq!(ends(&(-5..0)), None);
        assert_eq!(ends(&(..i64::MIN)), None);
        let after = |place| (Bound::Excluded(place), Bound::Unbounded);
        assert_eq!(ends(&after(2)), Some((3, -1)));
        assert_eq!(ends(&after(-2)), Some((-1, -1)));
        assert_eq!(ends(&after(-1)), None);
        assert_eq!(ends(&after(i64::MAX)), None);
    }
}
