//! Commands as data: what is asked, where it goes, whether it may be sent twice, and how fred is told.

use std::ops::Bound;

use bytes::Bytes;
use fred::{
    clients::{Client, WithOptions},
    error::{Error as FredError, ErrorKind as FredKind},
    interfaces::{
        ClientLike, HashesInterface, KeysInterface, ListInterface, SetsInterface,
        SortedSetsInterface,
    },
    types::{
        Expiration, SetOptions, Value,
        sorted_sets::{ZRange, ZRangeBound, ZRangeKind},
    },
    util::redis_keyslot,
};

use super::{
    reply::Reply,
    script::{self, Script},
    sending::Outcome,
};
use crate::{
    Result,
    conn::{Replay, Route, custom},
    error::fred::{from_call, is_no_script},
};

/// One command, ready to be sent any number of times.
///
/// None asks for a flat list whose first element a user can choose: fred would take some of them for pub/sub
/// messages, and give every later reply to the wrong caller. What would be answered so is either led by
/// something nobody can choose ([`GetMany`](Self::GetMany)) or comes nested ([`Nested`](Self::Nested)).
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// Answered without the server: there is nothing to ask.
    Known(Reply),
    Ping,
    Get(Bytes),
    /// Keys of one slot, behind one that nobody can have set.
    GetMany(Vec<Bytes>),
    Set {
        key: Bytes,
        value: Bytes,
        millis: Option<i64>,
        condition: Option<SetOptions>,
    },
    /// Keys of one slot.
    Delete(Vec<Bytes>),
    Exists(Bytes),
    Expire(Bytes, i64),
    Persist(Bytes),
    Ttl(Bytes),
    Increment(Bytes, i64),
    Decrement(Bytes, i64),
    HashGet(Bytes, Bytes),
    HashSet(Bytes, Vec<(Bytes, Bytes)>),
    HashDelete(Bytes, Vec<Bytes>),
    HashIncrement(Bytes, Bytes, i64),
    HashContains(Bytes, Bytes),
    HashLen(Bytes),
    ListPushFront(Bytes, Vec<Bytes>),
    ListPushBack(Bytes, Vec<Bytes>),
    ListPopFront(Bytes),
    ListPopBack(Bytes),
    ListTrim(Bytes, i64, i64),
    ListLen(Bytes),
    SetAdd(Bytes, Vec<Bytes>),
    SetRemove(Bytes, Vec<Bytes>),
    SetContains(Bytes, Bytes),
    SetLen(Bytes),
    SortedAdd(Bytes, Vec<(f64, Bytes)>),
    SortedIncrement(Bytes, f64, Bytes),
    SortedRemove(Bytes, Vec<Bytes>),
    SortedRemoveByScore(Bytes, Bound<f64>, Bound<f64>),
    SortedScore(Bytes, Bytes),
    SortedLen(Bytes),
    /// A command that only reads and answers with a list of what users stored.
    Nested {
        name: &'static str,
        key: Bytes,
        args: Vec<Bytes>,
    },
    /// One step through the keys of one server.
    Scan {
        cursor: Bytes,
        pattern: Bytes,
        count: u32,
    },
    /// Of one server.
    Flush,
    /// A question about a server, of which the answer holds nothing that a user chose.
    Raw {
        name: &'static str,
        args: Vec<&'static str>,
    },
    Script {
        script: &'static Script,
        keys: Vec<Bytes>,
        args: Vec<Bytes>,
    },
    /// A script that is sent as its text, which the server knows from then on.
    ScriptText {
        script: &'static Script,
        keys: Vec<Bytes>,
        args: Vec<Bytes>,
    },
}

impl Request {
    /// The command's name at the server.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Known(_) => "none",
            Self::Ping => "PING",
            Self::Get(_) => "GET",
            Self::GetMany(_) => "MGET",
            Self::Set { .. } => "SET",
            Self::Delete(_) => "UNLINK",
            Self::Exists(_) => "EXISTS",
            Self::Expire(..) => "PEXPIRE",
            Self::Persist(_) => "PERSIST",
            Self::Ttl(_) => "PTTL",
            Self::Increment(..) => "INCRBY",
            Self::Decrement(..) => "DECRBY",
            Self::HashGet(..) => "HGET",
            Self::HashSet(..) => "HSET",
            Self::HashDelete(..) => "HDEL",
            Self::HashIncrement(..) => "HINCRBY",
            Self::HashContains(..) => "HEXISTS",
            Self::HashLen(_) => "HLEN",
            Self::ListPushFront(..) => "LPUSH",
            Self::ListPushBack(..) => "RPUSH",
            Self::ListPopFront(_) => "LPOP",
            Self::ListPopBack(_) => "RPOP",
            Self::ListTrim(..) => "LTRIM",
            Self::ListLen(_) => "LLEN",
            Self::SetAdd(..) => "SADD",
            Self::SetRemove(..) => "SREM",
            Self::SetContains(..) => "SISMEMBER",
            Self::SetLen(_) => "SCARD",
            Self::SortedAdd(..) => "ZADD",
            Self::SortedIncrement(..) => "ZINCRBY",
            Self::SortedRemove(..) => "ZREM",
            Self::SortedRemoveByScore(..) => "ZREMRANGEBYSCORE",
            Self::SortedScore(..) => "ZSCORE",
            Self::SortedLen(_) => "ZCARD",
            Self::Nested { name, .. } => name,
            Self::Scan { .. } => "SCAN",
            Self::Flush => "FLUSHDB",
            Self::Raw { name, .. } => name,
            Self::Script { script, .. } | Self::ScriptText { script, .. } => script.name(),
        }
    }

    /// The key that decides where the command goes on a cluster.
    fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Known(_) | Self::Ping | Self::Scan { .. } | Self::Flush | Self::Raw { .. } => {
                None
            }
            Self::GetMany(keys)
            | Self::Delete(keys)
            | Self::Script { keys, .. }
            | Self::ScriptText { keys, .. } => keys.first(),
            Self::Set { key, .. } | Self::Nested { key, .. } => Some(key),
            Self::Get(key)
            | Self::Exists(key)
            | Self::Expire(key, _)
            | Self::Persist(key)
            | Self::Ttl(key)
            | Self::Increment(key, _)
            | Self::Decrement(key, _)
            | Self::HashGet(key, _)
            | Self::HashSet(key, _)
            | Self::HashDelete(key, _)
            | Self::HashIncrement(key, ..)
            | Self::HashContains(key, _)
            | Self::HashLen(key)
            | Self::ListPushFront(key, _)
            | Self::ListPushBack(key, _)
            | Self::ListPopFront(key)
            | Self::ListPopBack(key)
            | Self::ListTrim(key, ..)
            | Self::ListLen(key)
            | Self::SetAdd(key, _)
            | Self::SetRemove(key, _)
            | Self::SetContains(key, _)
            | Self::SetLen(key)
            | Self::SortedAdd(key, _)
            | Self::SortedIncrement(key, ..)
            | Self::SortedRemove(key, _)
            | Self::SortedRemoveByScore(key, ..)
            | Self::SortedScore(key, _)
            | Self::SortedLen(key) => Some(key),
        }
    }

    /// The keys that must lie in one slot with each other.
    pub(crate) fn keys(&self) -> &[Bytes] {
        match self {
            Self::GetMany(keys)
            | Self::Delete(keys)
            | Self::Script { keys, .. }
            | Self::ScriptText { keys, .. } => keys,
            _ => self.key().map(std::slice::from_ref).unwrap_or_default(),
        }
    }

    pub(crate) fn route(&self) -> Route {
        self.key().map_or(Route::Any, |key| Route::Slot(redis_keyslot(key)))
    }

    /// Whether a replica may answer.
    pub(crate) fn only_reads(&self) -> bool {
        matches!(
            self,
            Self::Get(_)
                | Self::GetMany(_)
                | Self::Exists(_)
                | Self::Ttl(_)
                | Self::HashGet(..)
                | Self::HashContains(..)
                | Self::HashLen(_)
                | Self::ListLen(_)
                | Self::SetContains(..)
                | Self::SetLen(_)
                | Self::SortedScore(..)
                | Self::SortedLen(_)
                | Self::Nested { .. }
        )
    }

    /// When the command may be sent again, unless the caller says otherwise.
    pub(crate) fn replay(&self) -> Replay {
        match self {
            Self::Set { condition, .. } if condition.is_some() => Replay::IfUnsent,
            Self::Increment(..)
            | Self::Decrement(..)
            | Self::HashIncrement(..)
            | Self::ListPushFront(..)
            | Self::ListPushBack(..)
            | Self::ListPopFront(_)
            | Self::ListPopBack(_)
            | Self::ListTrim(..)
            | Self::SortedIncrement(..)
            | Self::Flush => Replay::IfUnsent,
            Self::Script { script, .. } | Self::ScriptText { script, .. } => script.replay_class(),
            Self::Known(_)
            | Self::Ping
            | Self::Get(_)
            | Self::GetMany(_)
            | Self::Set { .. }
            | Self::Delete(_)
            | Self::Exists(_)
            | Self::Expire(..)
            | Self::Persist(_)
            | Self::Ttl(_)
            | Self::HashGet(..)
            | Self::HashSet(..)
            | Self::HashDelete(..)
            | Self::HashContains(..)
            | Self::HashLen(_)
            | Self::ListLen(_)
            | Self::SetAdd(..)
            | Self::SetRemove(..)
            | Self::SetContains(..)
            | Self::SetLen(_)
            | Self::SortedAdd(..)
            | Self::SortedRemove(..)
            | Self::SortedRemoveByScore(..)
            | Self::SortedScore(..)
            | Self::SortedLen(_)
            | Self::Nested { .. }
            | Self::Scan { .. }
            | Self::Raw { .. } => Replay::Idempotent,
        }
    }

    /// What the command answered, of what came when it was sent by itself.
    pub(crate) fn unwrap_alone(&self, reply: Reply) -> Result<Reply> {
        match self {
            Self::Nested { .. } | Self::Script { .. } | Self::ScriptText { .. } => {
                reply.unwrapped()
            }
            _ => Ok(reply),
        }
    }

    /// What the command answered, of what came when it was one of a transaction.
    pub(crate) fn unwrap_queued(&self, reply: Reply) -> Result<Reply> {
        if let Reply::Error(text) = reply {
            return Err(from_call(FredError::new(FredKind::Unknown, text)));
        }
        match self {
            Self::Script { .. } | Self::ScriptText { .. } => reply.unwrapped(),
            _ => Ok(reply),
        }
    }

    /// The script that the command goes through, where it does.
    pub(crate) fn script(&self) -> Option<&'static Script> {
        match self {
            Self::Nested { .. } => Some(&script::READ),
            Self::Script { script, .. } | Self::ScriptText { script, .. } => Some(script),
            _ => None,
        }
    }

    /// The same command, with the text of its script where it goes through one: for when a second question to the
    /// server, should it not know the digest, would come too late.
    pub(crate) fn by_text(self) -> Self {
        match self {
            Self::Nested { name, key, mut args } => {
                args.insert(0, Bytes::from_static(name.as_bytes()));
                Self::ScriptText { script: &script::READ, keys: vec![key], args }
            }
            Self::Script { script, keys, args } => Self::ScriptText { script, keys, args },
            other => other,
        }
    }

    /// Sends the command by itself.
    pub(super) async fn send(self, to: &WithOptions<Client>) -> Outcome {
        match self {
            Self::Nested { name, key, mut args } => {
                args.insert(0, Bytes::from_static(name.as_bytes()));
                evaluate(to, &script::READ, &[key], &args).await
            }
            Self::Script { script, keys, args } => evaluate(to, script, &keys, &args).await,
            Self::ScriptText { script, keys, args } => {
                raw(to, "EVAL", eval_args(script.text(), &keys, &args)).await
            }
            Self::Scan { cursor, pattern, count } => {
                let (matching, counting) =
                    (Bytes::from_static(b"MATCH"), Bytes::from_static(b"COUNT"));
                let args = [cursor, matching, pattern, counting, count.to_string().into()];
                raw(to, "SCAN", args.map(Value::Bytes).into()).await
            }
            Self::Known(reply) => Ok(reply),
            plain => Reply::from_fred(plain.pass(to).await?),
        }
    }

    /// Sends the command as one of a transaction, where replies come nested by themselves and a script that the
    /// server does not know could not be made up for.
    pub(crate) async fn queue(self, to: &WithOptions<Client>) -> Outcome {
        match self {
            Self::Nested { name, key, args } => {
                raw(to, name, std::iter::once(key).chain(args).map(Value::Bytes).collect()).await
            }
            other => other.by_text().send(to).await,
        }
    }

    /// Says it in fred's words. Its own methods are not flushed one by one, other than what goes through `custom`.
    async fn pass(self, to: &WithOptions<Client>) -> Result<Value, FredError> {
        match self {
            Self::Ping => to.ping(None).await,
            Self::Get(key) => to.get(key).await,
            Self::GetMany(keys) => to.mget(keys).await,
            Self::Set { key, value, millis, condition } => {
                to.set(key, value, millis.map(Expiration::PX), condition, false).await
            }
            Self::Delete(keys) => to.unlink(keys).await,
            Self::Exists(key) => to.exists(key).await,
            Self::Expire(key, millis) => to.pexpire(key, millis, None).await,
            Self::Persist(key) => to.persist(key).await,
            Self::Ttl(key) => to.pttl(key).await,
            Self::Increment(key, by) => to.incr_by(key, by).await,
            Self::Decrement(key, by) => to.decr_by(key, by).await,
            Self::HashGet(key, field) => to.hget(key, field).await,
            Self::HashSet(key, fields) => to.hset(key, fields).await,
            Self::HashDelete(key, fields) => to.hdel(key, fields).await,
            Self::HashIncrement(key, field, by) => to.hincrby(key, field, by).await,
            Self::HashContains(key, field) => to.hexists(key, field).await,
            Self::HashLen(key) => to.hlen(key).await,
            Self::ListPushFront(key, items) => to.lpush(key, items).await,
            Self::ListPushBack(key, items) => to.rpush(key, items).await,
            Self::ListPopFront(key) => to.lpop(key, None).await,
            Self::ListPopBack(key) => to.rpop(key, None).await,
            Self::ListTrim(key, first, last) => to.ltrim(key, first, last).await,
            Self::ListLen(key) => to.llen(key).await,
            Self::SetAdd(key, members) => to.sadd(key, members).await,
            Self::SetRemove(key, members) => to.srem(key, members).await,
            Self::SetContains(key, member) => to.sismember(key, member).await,
            Self::SetLen(key) => to.scard(key).await,
            Self::SortedAdd(key, members) => to.zadd(key, None, None, false, false, members).await,
            Self::SortedIncrement(key, by, member) => to.zincrby(key, by, member).await,
            Self::SortedRemove(key, members) => to.zrem(key, members).await,
            Self::SortedRemoveByScore(key, min, max) => {
                to.zremrangebyscore(key, score(min, true), score(max, false)).await
            }
            Self::SortedScore(key, member) => to.zscore(key, member).await,
            Self::SortedLen(key) => to.zcard(key).await,
            Self::Flush => to.custom(custom("FLUSHDB"), vec!["ASYNC"]).await,
            Self::Raw { name, args } => to.custom(custom(name), args).await,
            Self::Known(_)
            | Self::Nested { .. }
            | Self::Script { .. }
            | Self::ScriptText { .. }
            | Self::Scan { .. } => {
                let what = "it has a way of its own";
                Err(FredError::new(FredKind::InvalidCommand, what))
            }
        }
    }
}

/// Runs a script by its digest and, where the server does not know it, by its text.
async fn evaluate(
    to: &WithOptions<Client>,
    script: &Script,
    keys: &[Bytes],
    args: &[Bytes],
) -> Outcome {
    let known = raw(to, "EVALSHA", eval_args(script.digest(), keys, args)).await;
    match known {
        Err(err) if is_no_script(&err) => {
            raw(to, "EVAL", eval_args(script.text(), keys, args)).await
        }
        answer => answer,
    }
}

/// Sends a command whose answer can hold lists of what users stored.
async fn raw(to: &WithOptions<Client>, name: &'static str, args: Vec<Value>) -> Outcome {
    Reply::from_frame(to.custom_raw(custom(name), args).await?)
}

fn eval_args(script: Bytes, keys: &[Bytes], args: &[Bytes]) -> Vec<Value> {
    let count = i64::try_from(keys.len()).unwrap_or(i64::MAX);
    let mut all = vec![Value::Bytes(script), Value::Integer(count)];
    all.extend(keys.iter().chain(args).cloned().map(Value::Bytes));
    all
}

/// One end of a range of scores in fred's words.
fn score(bound: Bound<f64>, lower: bool) -> ZRange {
    let (kind, score) = match bound {
        Bound::Included(score) => (ZRangeKind::Inclusive, score),
        Bound::Excluded(score) => (ZRangeKind::Exclusive, score),
        Bound::Unbounded if lower => (ZRangeKind::Inclusive, f64::NEG_INFINITY),
        Bound::Unbounded => (ZRangeKind::Inclusive, f64::INFINITY),
    };
    let range = match score {
        f64::INFINITY => ZRangeBound::InfiniteScore,
        f64::NEG_INFINITY => ZRangeBound::NegInfiniteScore,
        score => ZRangeBound::Score(score),
    };
    ZRange { kind, range }
}
