//! What is used under a lock, on a server of its own, where fences are compared and all is noted.

#![expect(clippy::unwrap_used, reason = "nothing happens to this server")]

use std::time::Duration;

use redbrick_core_conn::{Config, Conn, Script};
use serde::{Serialize, de::DeserializeOwned};

use super::Kind;
use crate::PATIENCE;

static BEGIN: Script = Script::new(
    "processes.begin",
    "return {redis.call('INCR', KEYS[1]), redis.call('EXISTS', KEYS[2])}",
);

/// Refuses a fence that is lower than the highest of those who had all of it, or than any, where it is of one who has all of it.
static WRITE: Script = Script::new(
    "processes.write",
    "
    local moment = redis.call('INCR', KEYS[1])
    local alone, any = unpack(redis.call('HMGET', KEYS[2], 'alone', 'any'))
    local fence, is_alone = ARGV[1], ARGV[2] == '1'
    local highest = is_alone and any or alone or '0'
    if tonumber(fence) < tonumber(highest) then
      return {moment, 1, tonumber(highest)}
    end
    if is_alone then
      redis.call('HSET', KEYS[2], 'alone', fence)
    end
    if tonumber(fence) > tonumber(any or '0') then
      redis.call('HSET', KEYS[2], 'any', fence)
    end
    return {moment, 0, tonumber(highest)}",
);

static NOTE: Script = Script::new(
    "processes.note",
    "
    redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
    for at = 2, #KEYS do
      redis.call('RPUSH', KEYS[at], ARGV[at])
    end",
);

#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub(super) conn: Conn,
}

/// What came of a write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// What happens is numbered.
    pub(super) moment: u64,
    pub(super) refused: bool,
    /// The fence that it had to reach.
    pub(super) highest: u64,
}

impl Resource {
    pub(super) async fn connect(url: &str) -> Self {
        // A process that is stopped gives up nothing here.
        let config = Config::builder().url(url).command_timeout(PATIENCE);
        Self { conn: Conn::connect(config).await.unwrap() }
    }

    /// Now, and whether it is time to end.
    pub(super) async fn now(&self) -> (u64, bool) {
        self.conn.script(&BEGIN).key("moment").key("stop").run().await.unwrap()
    }

    /// Writes with a fence.
    pub(super) async fn write(&self, kind: Kind, fence: u64) -> Written {
        let (what, weight, all) = kind.share();
        let call = self.conn.script(&WRITE).key("moment").key(format!("fences:{what}"));
        let (moment, refused, highest) = call.arg(fence).arg(weight == all).run().await.unwrap();
        Written { moment, refused, highest }
    }

    /// Counts what has happened, and notes it in lists.
    pub(super) async fn note(&self, event: &str, records: &[(&str, String)]) {
        let mut call = self.conn.script(&NOTE).key("figures").arg(event);
        for (list, record) in records {
            call = call.key(list).arg(record);
        }
        call.run::<()>().await.unwrap();
    }

    pub(super) async fn tell<T: Serialize>(&self, whom: impl AsRef<str>, what: &T) {
        self.conn.list(whom.as_ref()).push_back(what).await.unwrap();
    }

    /// What is told next, within so long.
    pub(super) async fn told<T: DeserializeOwned>(
        &self,
        whom: impl AsRef<str>,
        within: Duration,
    ) -> Option<T> {
        self.conn.list(whom.as_ref()).pop_front_within(within).await.unwrap()
    }
}
