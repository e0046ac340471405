//! Commands as data: what is asked, where it goes, and whether it may be sent twice.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fred::{
    error::{Error as FredError, ErrorKind as FredKind},
    types::SetOptions,
    util::redis_keyslot,
};

use super::{
    batch_script::Each,
    list::ListEnd,
    reply::Reply,
    script::{self, Script},
};
use crate::{
    Result,
    conn::{Replay, Route},
    error::fred::from_call,
};

/// One command, ready to be sent any number of times.
///
/// None asks for a flat list whose first element a user can choose: fred would take some of them for pub/sub
/// messages, and give every later reply to the wrong caller. What would be answered so is either led by
/// something nobody can choose ([`GetMany`](Self::GetMany)) or comes nested ([`Nested`](Self::Nested)).
#[derive(Clone)]
pub(crate) enum Request {
    /// Answered without the server: there is nothing to ask.
    Known(Reply),
    Ping,
    Get(Bytes),
    /// Keys of one slot, behind one that nobody can have set. It is written together with others like it.
    GetMany(Vec<Bytes>),
    /// The same where all keys are in one request: it is written at once, and its answer is read without fred, which would
    /// make values of its own of it.
    GetTogether(Vec<Bytes>),
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
    /// From the front or from the back, as soon as there is an item within a time.
    ListPopWithin(Bytes, ListEnd, Duration),
    ListTrim(Bytes, i64, i64),
    ListLen(Bytes),
    SetAdd(Bytes, Vec<Bytes>),
    SetRemove(Bytes, Vec<Bytes>),
    SetContains(Bytes, Bytes),
    SetLen(Bytes),
    SortedAdd(Bytes, Vec<(f64, Bytes)>),
    SortedIncrement(Bytes, f64, Bytes),
    SortedRemove(Bytes, Vec<Bytes>),
    SortedRemoveByScore(Bytes, Box<[Bytes; 2]>),
    SortedScore(Bytes, Bytes),
    SortedLen(Bytes),
    /// To a channel. It goes to the node that would have a key of this name, so that messages stay in order.
    Publish(Bytes, Bytes),
    /// To a channel that lies in a slot.
    PublishSharded(Bytes, Bytes),
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
    /// Until so many replicas have what the server had written before, at most for so long.
    Wait(u32, Duration),
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
    /// A run for several callers, by the script's digest alone: where the server does not know that, some of them may be gone by now,
    /// and nothing may be done for these any more.
    Run {
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
    /// A part in a run of a batch script; by itself, the run serves nobody else.
    Each(Arc<Each>),
}

/// The commands of which an argument is a key or a value.
pub(crate) const COMMANDS: [&str; 45] = [
    "GET",
    "MGET",
    "SET",
    "UNLINK",
    "EXISTS",
    "PEXPIRE",
    "PERSIST",
    "PTTL",
    "INCRBY",
    "DECRBY",
    "HGET",
    "HSET",
    "HDEL",
    "HINCRBY",
    "HEXISTS",
    "HLEN",
    "LPUSH",
    "RPUSH",
    "LPOP",
    "RPOP",
    "BLPOP",
    "BRPOP",
    "LTRIM",
    "LLEN",
    "SADD",
    "SREM",
    "SISMEMBER",
    "SCARD",
    "ZADD",
    "ZINCRBY",
    "ZREM",
    "ZREMRANGEBYSCORE",
    "ZSCORE",
    "ZCARD",
    "PUBLISH",
    "SPUBLISH",
    "SCAN",
    "EVAL",
    "EVALSHA",
    "HGETALL",
    "LRANGE",
    "SMEMBERS",
    "ZRANGE",
    "ZREVRANGE",
    "ZRANGEBYSCORE",
];

impl Request {
    /// The command's name at the server.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Known(_) => "none",
            Self::Ping => "PING",
            Self::Get(_) => "GET",
            Self::GetMany(_) | Self::GetTogether(_) => "MGET",
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
            Self::ListPopWithin(_, end, _) => end.pops_within(),
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
            Self::Publish(..) => "PUBLISH",
            Self::PublishSharded(..) => "SPUBLISH",
            Self::Nested { name, .. } => name,
            Self::Scan { .. } => "SCAN",
            Self::Flush => "FLUSHDB",
            Self::Wait(..) => "WAIT",
            Self::Raw { name, .. } => name,
            Self::Script { script, .. }
            | Self::Run { script, .. }
            | Self::ScriptText { script, .. } => script.name(),
            Self::Each(each) => each.script.name(),
        }
    }

    /// The server's commands that this takes by itself, each one of [`COMMANDS`].
    pub(crate) fn commands(&self) -> [&'static str; 3] {
        match self {
            Self::Nested { name, .. } => ["EVALSHA", "EVAL", name],
            Self::Script { .. } | Self::Run { .. } | Self::ScriptText { .. } | Self::Each(_) => {
                ["EVALSHA", "EVAL", "EVAL"]
            }
            plain => [plain.name(); 3],
        }
    }

    /// The key that decides where the command goes on a cluster.
    fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Known(_)
            | Self::Ping
            | Self::Scan { .. }
            | Self::Flush
            | Self::Wait(..)
            | Self::Raw { .. } => None,
            Self::GetMany(keys)
            | Self::GetTogether(keys)
            | Self::Delete(keys)
            | Self::Script { keys, .. }
            | Self::Run { keys, .. }
            | Self::ScriptText { keys, .. } => keys.first(),
            Self::Each(each) => each.keys.first(),
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
            | Self::ListPopWithin(key, ..)
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
            | Self::SortedLen(key)
            | Self::Publish(key, _)
            | Self::PublishSharded(key, _) => Some(key),
        }
    }

    /// The keys that must lie in one slot with each other.
    pub(crate) fn keys(&self) -> &[Bytes] {
        match self {
            Self::GetMany(keys)
            | Self::GetTogether(keys)
            | Self::Delete(keys)
            | Self::Script { keys, .. }
            | Self::Run { keys, .. }
            | Self::ScriptText { keys, .. } => keys,
            Self::Each(each) => &each.keys,
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
                | Self::GetTogether(_)
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
            | Self::ListPopWithin(..)
            | Self::ListTrim(..)
            | Self::SortedIncrement(..)
            | Self::Publish(..)
            | Self::PublishSharded(..)
            | Self::Flush => Replay::IfUnsent,
            Self::Script { script, .. }
            | Self::Run { script, .. }
            | Self::ScriptText { script, .. } => script.replay_class(),
            Self::Each(each) => each.script.replay_class(),
            Self::Known(_)
            | Self::Ping
            | Self::Get(_)
            | Self::GetMany(_)
            | Self::GetTogether(_)
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
            | Self::Wait(..)
            | Self::Raw { .. } => Replay::Idempotent,
        }
    }

    /// What the command answered, of what came when it was sent by itself.
    pub(crate) fn unwrap_alone(&self, reply: Reply) -> Result<Reply> {
        match self {
            Self::Nested { .. }
            | Self::Script { .. }
            | Self::Run { .. }
            | Self::ScriptText { .. }
            | Self::Each(_) => reply.unwrapped(),
            _ => Ok(reply),
        }
    }

    /// What the command answered, of what came when it was one of a transaction.
    pub(crate) fn unwrap_queued(&self, reply: Reply) -> Result<Reply> {
        if let Reply::Error(text) = reply {
            return Err(from_call(FredError::new(FredKind::Unknown, text)));
        }
        match self {
            Self::Script { .. } | Self::Run { .. } | Self::ScriptText { .. } => reply.unwrapped(),
            Self::Each(_) => reply.only().unwrapped(),
            _ => Ok(reply),
        }
    }

    /// The script that the command goes through, where it does.
    pub(crate) fn script(&self) -> Option<&'static Script> {
        match self {
            Self::Nested { .. } => Some(&script::READ),
            Self::Script { script, .. }
            | Self::Run { script, .. }
            | Self::ScriptText { script, .. } => Some(script),
            Self::Each(each) => Some(each.script),
            _ => None,
        }
    }
}
