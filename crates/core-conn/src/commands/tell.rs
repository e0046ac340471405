//! How fred is told what a [`Request`] asks.

use bytes::Bytes;
use fred::{
    bytes_utils::Str,
    clients::{Client, WithOptions},
    interfaces::{
        ClientLike, HashesInterface, KeysInterface, ListInterface, PubsubInterface, SetsInterface,
        SortedSetsInterface,
    },
    types::{Expiration, Value},
};

use super::{
    reply::Reply,
    request::Request,
    script::{READ, Script},
    sending::Outcome,
};
use crate::{conn::custom, error::fred::is_no_script};

impl Request {
    /// Sends the command by itself. fred's own methods are not flushed one by one, other than what goes through
    /// `custom`.
    pub(super) async fn send(self, to: &WithOptions<Client>) -> Outcome {
        let answer: Value = match self {
            Self::Known(reply) => return Ok(reply),
            Self::Nested { name, key, args } => {
                return evaluate(to, &READ, &[key], &named(name, args)).await;
            }
            Self::Script { script, keys, args } => return evaluate(to, script, &keys, &args).await,
            Self::Run { script, keys, args } => {
                return raw(to, "EVALSHA", eval_args(script.digest(), &keys, &args)).await;
            }
            Self::ScriptText { script, keys, args } => {
                let answer = raw(to, "EVAL", eval_args(script.text(), &keys, &args)).await;
                return if script.is_for_each() { answer.map(Reply::only) } else { answer };
            }
            Self::Each(each) => {
                let (keys, args) = each.alone();
                return evaluate(to, each.script, &keys, &args).await.map(Reply::only);
            }
            Self::Scan { cursor, pattern, count } => {
                let (matching, counting) =
                    (Bytes::from_static(b"MATCH"), Bytes::from_static(b"COUNT"));
                let args = [cursor, matching, pattern, counting, count.to_string().into()];
                return raw(to, "SCAN", args.map(Value::Bytes).into()).await;
            }
            Self::Ping => to.ping(None).await?,
            Self::Get(key) => to.get(key).await?,
            Self::GetMany(keys) => to.mget(keys).await?,
            Self::GetTogether(keys) => {
                return raw(to, "MGET", keys.into_iter().map(Value::Bytes).collect()).await;
            }
            Self::Set { key, value, millis, condition } => {
                to.set(key, value, millis.map(Expiration::PX), condition, false).await?
            }
            Self::Delete(keys) => to.unlink(keys).await?,
            Self::Exists(key) => to.exists(key).await?,
            Self::Expire(key, millis) => to.pexpire(key, millis, None).await?,
            Self::Persist(key) => to.persist(key).await?,
            Self::Ttl(key) => to.pttl(key).await?,
            Self::Increment(key, by) => to.incr_by(key, by).await?,
            Self::Decrement(key, by) => to.decr_by(key, by).await?,
            Self::HashGet(key, field) => to.hget(key, field).await?,
            Self::HashSet(key, fields) => to.hset(key, fields).await?,
            Self::HashDelete(key, fields) => to.hdel(key, fields).await?,
            Self::HashIncrement(key, field, by) => to.hincrby(key, field, by).await?,
            Self::HashContains(key, field) => to.hexists(key, field).await?,
            Self::HashLen(key) => to.hlen(key).await?,
            Self::ListPushFront(key, items) => to.lpush(key, items).await?,
            Self::ListPushBack(key, items) => to.rpush(key, items).await?,
            Self::ListPopFront(key) => to.lpop(key, None).await?,
            Self::ListPopBack(key) => to.rpop(key, None).await?,
            Self::ListPopWithin(key, end, wait) => {
                let wait = format!("{:.3}", wait.as_secs_f64()).into();
                return raw(to, end.pops_within(), vec![Value::Bytes(key), wait]).await;
            }
            Self::ListTrim(key, first, last) => to.ltrim(key, first, last).await?,
            Self::ListLen(key) => to.llen(key).await?,
            Self::SetAdd(key, members) => to.sadd(key, members).await?,
            Self::SetRemove(key, members) => to.srem(key, members).await?,
            Self::SetContains(key, member) => to.sismember(key, member).await?,
            Self::SetLen(key) => to.scard(key).await?,
            Self::SortedAdd(key, members) => {
                to.zadd(key, None, None, false, false, members).await?
            }
            Self::SortedIncrement(key, by, member) => to.zincrby(key, by, member).await?,
            Self::SortedRemove(key, members) => to.zrem(key, members).await?,
            Self::SortedRemoveByScore(key, ends) => {
                let [min, max] = *ends;
                to.custom(custom("ZREMRANGEBYSCORE"), vec![key, min, max]).await?
            }
            Self::SortedScore(key, member) => to.zscore(key, member).await?,
            Self::SortedLen(key) => to.zcard(key).await?,
            // fred takes texts only, and flushes after each command that it has no method for.
            Self::Publish(channel, message) => match Str::from_inner(channel) {
                Ok(channel) => to.publish(channel, message).await?,
                Err(other) => {
                    to.custom(custom("PUBLISH"), vec![other.into_inner(), message]).await?
                }
            },
            Self::PublishSharded(channel, message) => match Str::from_inner(channel) {
                Ok(channel) => to.spublish(channel, message).await?,
                Err(other) => {
                    to.custom(custom("SPUBLISH"), vec![other.into_inner(), message]).await?
                }
            },
            Self::Flush => to.custom(custom("FLUSHDB"), vec!["ASYNC"]).await?,
            Self::Wait(replicas, within) => {
                // None at all means for ever.
                let within = within.as_millis().clamp(1, i32::MAX as u128);
                to.custom(custom("WAIT"), vec![replicas.to_string(), within.to_string()]).await?
            }
            Self::Raw { name, args } => to.custom(custom(name), args).await?,
        };
        Reply::from_fred(answer)
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

    /// The same command, with the text of its script where it goes through one: for when a second question to the
    /// server, should it not know the digest, would come too late.
    pub(crate) fn by_text(self) -> Self {
        match self {
            Self::Nested { name, key, args } => {
                Self::ScriptText { script: &READ, keys: vec![key], args: named(name, args) }
            }
            Self::Script { script, keys, args } | Self::Run { script, keys, args } => {
                Self::ScriptText { script, keys, args }
            }
            Self::Each(each) => {
                let (keys, args) = each.alone();
                Self::ScriptText { script: each.script, keys, args }
            }
            other => other,
        }
    }
}

/// The arguments of `read.lua`.
fn named(name: &'static str, mut args: Vec<Bytes>) -> Vec<Bytes> {
    args.insert(0, Bytes::from_static(name.as_bytes()));
    args
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
