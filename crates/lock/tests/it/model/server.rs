//! The scripts on a server, and what is to be seen there.

#![expect(clippy::unwrap_used, reason = "a part of the test")]

use std::sync::Arc;

use redbrick_core_conn::{
    BatchScript, Bytes, Config, Conn, Event, FromReply, Reply, Script, Subscription,
};
use redbrick_testkit::Server;
use tokio::time::timeout;

use super::{
    AT_TIMES, Asker, MAILBOXES, Step, What,
    state::{Model, mailbox},
};
use crate::{PATIENCE, server};

const PARTITION: &str = "model:{7}";
const LOCK: [&str; 5] =
    ["model:{7}:x", "model:{7}:x:queue", PARTITION, "model:{7}:x:released", "model:{7}:x:shares"];
const PERMITS: [&str; 5] = [
    "model:{7}:x:permits",
    "model:{7}:x:permits:queue",
    PARTITION,
    "model:{7}:x:permits:released",
    "model:{7}:x:permits:shares",
];
/// For how long fences and tokens are remembered, in milliseconds.
const MEMORY: i64 = 1_000_000;

macro_rules! script {
    ($name:literal, $kind:literal, $script:literal) => {
        Script::new(
            $name,
            concat!(
                include_str!("../../../src/lua/queue.lua"),
                include_str!(concat!("../../../src/lua/", $kind, ".lua")),
                include_str!(concat!("../../../src/lua/", $script, ".lua"))
            ),
        )
    };
}

static ACQUIRE: [Script; 2] =
    [script!("ask.lock", "lock", "acquire"), script!("ask.permits", "permits", "acquire")];
static RELEASE: [Script; 2] =
    [script!("release.lock", "lock", "release"), script!("release.permits", "permits", "release")];
static FORCE: Script = script!("force", "lock", "force_release");
static EXTEND: [BatchScript; 2] = [
    BatchScript::new("extend.lock", include_str!("../../../src/lua/extend.lua")),
    BatchScript::new("extend.permits", include_str!("../../../src/lua/extend_permits.lua")),
];
static AVAILABLE: Script = Script::new("available", include_str!("../../../src/lua/available.lua"));
static INFO: Script = Script::new("info", include_str!("../../../src/lua/info.lua"));

/// What there is, all of one moment; whoever reads a mailbox gets a message behind all before it.
static LOOK: Script = Script::new(
    "look",
    "
    for at = 11, #KEYS do
      local told = redis.pcall('SPUBLISH', KEYS[at], 'm')
      if type(told) == 'table' then redis.call('PUBLISH', KEYS[at], 'm') end
    end
    local seen = {redis.call('TIME'), {redis.call('GET', KEYS[3]) or '0', redis.call('PTTL', KEYS[3])}}
    seen[3] = {redis.call('GET', KEYS[1]) or '', redis.call('PTTL', KEYS[1])}
    seen[4] = {redis.call('ZRANGE', KEYS[6], 0, -1, 'WITHSCORES'), redis.call('HGETALL', KEYS[10])}
    for _, at in ipairs({2, 7}) do
      seen[#seen + 1] = {
        redis.call('ZRANGE', KEYS[at], 0, -1), redis.call('PTTL', KEYS[at]), redis.call('GET', KEYS[at + 2]) or ''
      }
    end
    return seen",
);

/// Ends the lease of a permit, by the clock.
static END: Script = Script::new(
    "end",
    "local now = redis.call('TIME') return redis.call('ZADD', KEYS[1], 'XX', now[1] * 1000 - 1, ARGV[1])",
);

/// Writes to a queue, before all others or behind them, as with a clock that is ahead.
static FOREIGN: Script = Script::new(
    "foreign",
    "
    local at, time = ARGV[2] == '1' and 0 or -1, redis.call('TIME')
    local other = redis.call('ZRANGE', KEYS[1], at, at, 'WITHSCORES')[2] or time[1] * 1000000
    redis.call('ZADD', KEYS[1], string.format('%.0f', other + (at == 0 and -1 or 1000000000000)), ARGV[1])
    if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], 1000000) end",
);

pub(super) struct Real {
    server: Arc<Server>,
    conn: Conn,
    /// By mailbox.
    readers: Vec<Option<Subscription>>,
}

/// What a call gives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// With the milliseconds that are left. `who` is the model's, and the fence the server's.
    Had {
        who: Option<Asker>,
        left: i64,
        fence: u64,
    },
    Busy {
        place: i64,
        free_in: i64,
        last: u64,
    },
    Is(bool),
    Nothing,
}

/// What there is on the server, and what it said since the last look.
#[derive(Debug)]
pub(super) struct Seen {
    /// The server's time in microseconds.
    pub(super) now: u64,
    /// The counter; zero where there is none.
    pub(super) fence: u64,
    pub(super) fence_left: i64,
    lock: Part,
    permits: Part,
    pub(super) told: Vec<Message>,
    /// How many permits are out, by the script that says so.
    pub(super) out: u32,
}

#[derive(Debug)]
pub(super) struct Part {
    /// Of those whose lease has not ended.
    pub(super) had: Vec<One>,
    pub(super) queue: Vec<Vec<u8>>,
    pub(super) queue_left: i64,
    pub(super) released: Vec<Vec<u8>>,
}

#[derive(Debug)]
pub(super) struct One {
    pub(super) token: Vec<u8>,
    pub(super) weight: u32,
    pub(super) fence: u64,
    pub(super) left: i64,
    pub(super) holder: String,
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) mailbox: usize,
    pub(super) kind: u8,
    pub(super) token: Vec<u8>,
    pub(super) number: u64,
    /// The server's time in microseconds.
    pub(super) at: Option<u64>,
}

impl Seen {
    pub(super) fn of(&self, what: What) -> &Part {
        match what {
            What::Lock => &self.lock,
            What::Permits => &self.permits,
        }
    }
}

fn keys(what: What) -> [&'static str; 5] {
    match what {
        What::Lock => LOCK,
        What::Permits => PERMITS,
    }
}

impl Real {
    pub(super) async fn start() -> Self {
        let server = server();
        let config = Config::builder().url(server.url()).command_timeout(PATIENCE);
        let conn = Conn::connect(config).await.unwrap();
        let mut real = Self { server, conn, readers: Vec::new() };
        for number in 0..MAILBOXES {
            let reader = if number + 1 < MAILBOXES { Some(real.read(number).await) } else { None };
            real.readers.push(reader);
        }
        real
    }

    async fn read(&self, number: usize) -> Subscription {
        let channel = format!("{PARTITION}:{}", mailbox(number));
        match self.conn.subscribe().sharded(&channel).await {
            // Before Redis 7.
            Err(_) => self.conn.subscribe().channel(&channel).await.unwrap(),
            subscription => subscription.unwrap(),
        }
    }

    /// Nothing is there.
    pub(super) async fn begin(&mut self) {
        self.server.command(["FLUSHALL"]).unwrap();
        if self.readers[AT_TIMES].is_none() {
            self.readers[AT_TIMES] = Some(self.read(AT_TIMES).await);
        }
    }

    /// Does it, and returns the answer.
    pub(super) async fn step(&mut self, step: Step, model: &Model) -> Answer {
        match step {
            Step::Ask(who, waits) => {
                let call = self.call(who.what, &ACQUIRE, model.waiter(who, waits), model);
                let (had, number, left, (_, last)) =
                    call.run::<(u64, i64, i64, (u64, u64))>().await.unwrap();
                match had {
                    1 => Answer::Had { who: None, left, fence: number.unsigned_abs() },
                    _ => Answer::Busy { place: number, free_in: left, last },
                }
            }
            Step::Release(who, waits) => {
                let waiter = model.waiter(who, true);
                let waiter = if waits { waiter } else { who.token() };
                let call = self.call(who.what, &RELEASE, waiter, model).arg(MEMORY);
                Answer::Is(call.run().await.unwrap())
            }
            Step::Extend(who) => {
                let [held, _, partition, _, shares] = keys(who.what);
                let script = &EXTEND[usize::from(who.what == What::Permits)];
                let call = self.conn.batch_script(script).key(held).key(partition);
                let call = if who.what == What::Permits { call.key(shares) } else { call };
                let lease = who.lease() + 50_000;
                let call = call.arg(who.token()).arg(lease).arg(lease + MEMORY).arg(1);
                Answer::Is(call.run::<Option<u64>>().await.unwrap().is_some())
            }
            Step::Force => {
                let call = self.conn.script(&FORCE);
                let call = LOCK.iter().fold(call, |call, key| call.key(key));
                let call = call.arg("").arg(MEMORY).arg(1);
                Answer::Is(call.run().await.unwrap())
            }
            other => {
                self.disturb(other, model).await;
                Answer::Nothing
            }
        }
    }

    /// A step that is no call. The model has taken it already.
    async fn disturb(&mut self, step: Step, model: &Model) {
        match step {
            Step::End(What::Lock, _) if model.thing(What::Lock).had.is_empty() => {
                let _ = self.server.command(["DEL", LOCK[0]]).unwrap();
            }
            Step::End(..) => {
                for one in model.thing(What::Permits).had.iter().filter(|one| one.ended) {
                    let call = self.conn.script(&END).key(PERMITS[0]).arg(one.who.token());
                    call.run::<()>().await.unwrap();
                }
            }
            Step::Turn if model.is_read => {
                self.readers[AT_TIMES] = Some(self.read(AT_TIMES).await);
            }
            Step::Turn => {
                self.readers[AT_TIMES] = None;
                crate::until("nobody reads it", async || !self.is_read().await).await;
            }
            Step::Foreign(what, first, length) => {
                let call = self.conn.script(&FOREIGN).key(keys(what)[1]);
                call.arg(vec![0; length]).arg(first).run::<()>().await.unwrap();
            }
            Step::ClockBack => {
                let fence = model.last_fence.to_string();
                let _ = self.server.command(["SET", PARTITION, &fence, "PX", "9999999"]).unwrap();
            }
            Step::Forget => drop(self.server.command(["DEL", PARTITION]).unwrap()),
            _ => {}
        }
    }

    async fn is_read(&self) -> bool {
        let channel = format!("{PARTITION}:{}", mailbox(AT_TIMES));
        let mut read = false;
        for kind in ["SHARDNUMSUB", "NUMSUB"] {
            let reply = self.server.command(["PUBSUB", kind, &channel]);
            let readers = reply.ok().and_then(|reply| reply.as_array()?.get(1)?.as_int());
            read |= readers.is_some_and(|readers| readers > 0);
        }
        read
    }

    fn call(
        &self,
        what: What,
        script: &'static [Script; 2],
        who: Vec<u8>,
        model: &Model,
    ) -> redbrick_core_conn::ScriptCall<'_> {
        let (script, count) = match what {
            What::Lock => (&script[0], 1),
            What::Permits => (&script[1], model.count),
        };
        let call = keys(what).iter().fold(self.conn.script(script), |call, key| call.key(key));
        call.arg(who).arg(MEMORY).arg(count)
    }

    pub(super) async fn look(&mut self) -> Seen {
        let mut call = self.conn.script(&LOOK);
        for key in LOCK.iter().chain(&PERMITS) {
            call = call.key(key);
        }
        for (number, reader) in self.readers.iter().enumerate() {
            if reader.is_some() {
                call = call.key(format!("{PARTITION}:{}", mailbox(number)));
            }
        }
        let seen: Reply = call.run().await.unwrap();
        let out: u32 =
            self.conn.script(&AVAILABLE).key(PERMITS[0]).key(PERMITS[4]).run().await.unwrap();
        let info: Reply = self.conn.script(&INFO).key(LOCK[0]).key(LOCK[1]).run().await.unwrap();
        let mut told = Vec::new();
        for (mailbox, reader) in self.readers.iter_mut().enumerate() {
            let Some(reader) = reader else { continue };
            while let Some(message) = next(mailbox, reader).await {
                told.push(message);
            }
        }
        let [time, fence, lock, permits, lock_queue, permits_queue] = items(seen);
        let [seconds, micros] = items(time).map(number);
        let now = u64::try_from(seconds * 1_000_000 + micros).unwrap();
        let [fence, fence_left] = items(fence);
        let lock_had = lock_had(lock);
        assert_eq!(matches!(info, Reply::List(_)), !lock_had.is_empty(), "{info:?}");
        let lock = part(lock_had, lock_queue);
        let permits = part(permits_had(permits, now / 1000), permits_queue);
        let (fence, fence_left) = (u64::try_from(number(fence)).unwrap(), number(fence_left));
        Seen { now, fence, fence_left, lock, permits, told, out }
    }
}

/// The next message of a mailbox, before the one of the look.
async fn next(mailbox: usize, reader: &mut Subscription) -> Option<Message> {
    let event = timeout(PATIENCE, reader.next()).await.expect("the message of the look");
    let Some(Event::Message(message)) = event else { panic!("{event:?} of a link") };
    let (kind, rest) = message.payload().split_first().unwrap();
    if *kind == b'm' {
        return None;
    }
    let (token, rest) = rest.split_at(16);
    let mut numbers =
        rest.chunks_exact(8).map(|chunk| u64::from_be_bytes(chunk.try_into().unwrap()));
    let (number, at) = (numbers.next().unwrap(), numbers.next());
    Some(Message { mailbox, kind: *kind, token: token.to_vec(), number, at })
}

fn lock_had(lock: Reply) -> Vec<One> {
    let [value, left] = items(lock);
    let value = bytes(value);
    if value.is_empty() {
        return Vec::new();
    }
    let fence = u64::from_be_bytes(value[..8].try_into().unwrap());
    let holder = String::from_utf8_lossy(&value[24..]).into_owned();
    vec![One { token: value[8..24].to_vec(), weight: 1, fence, left: number(left), holder }]
}

/// Of each token there is a share, and `out` is the sum of them.
fn permits_had(permits: Reply, now: u64) -> Vec<One> {
    let [ends, shares] = items(permits);
    let (ends, shares) = (list(ends), list(shares));
    let share = |name: &[u8]| {
        let at = shares.chunks(2).find(|share| bytes(share[0].clone()) == name);
        at.map(|share| bytes(share[1].clone()))
    };
    let mut all = Vec::new();
    let mut sum = 0;
    for end in ends.chunks(2) {
        let (token, end) = (bytes(end[0].clone()), number(end[1].clone()));
        let share = share(&token).unwrap();
        let weight = u32::from_be_bytes(share[8..12].try_into().unwrap());
        sum += weight;
        let left = end - i64::try_from(now).unwrap();
        if left > 0 {
            let fence = u64::from_be_bytes(share[..8].try_into().unwrap());
            let holder = String::from_utf8_lossy(&share[12..]).into_owned();
            all.push(One { token: token.to_vec(), weight, fence, left, holder });
        }
    }
    let out = share(b"out").map_or(0, |out| String::from_utf8_lossy(&out).parse().unwrap());
    assert_eq!(out, sum, "the sum of the shares");
    assert_eq!(shares.len(), if ends.is_empty() { 0 } else { ends.len() + 2 }, "the shares");
    all
}

fn part(had: Vec<One>, queue: Reply) -> Part {
    let [queue, left, released] = items(queue);
    let queue = list(queue).into_iter().map(|waiter| bytes(waiter).to_vec()).collect();
    let released = bytes(released).chunks(16).map(<[u8]>::to_vec).collect();
    Part { had, queue, queue_left: number(left), released }
}

fn list(reply: Reply) -> Vec<Reply> {
    match reply {
        Reply::List(items) => items,
        other => panic!("{other:?} is no list"),
    }
}

fn items<const N: usize>(reply: Reply) -> [Reply; N] {
    list(reply).try_into().unwrap()
}

fn bytes(reply: Reply) -> Bytes {
    Bytes::from_reply(reply).unwrap()
}

/// Also one that comes as a text.
fn number(reply: Reply) -> i64 {
    match reply {
        Reply::Int(number) => number,
        other => String::from_utf8_lossy(&bytes(other)).parse().unwrap(),
    }
}
