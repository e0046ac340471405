use std::{num::NonZeroU32, sync::Arc, time::Duration};

use redbrick_core_conn::{Conn, Key, Replay, Result, Script, ScriptCall, Token};

use crate::{LONGEST_LEASE, SHORTEST_LEASE, keys::LockKeys, lease::Lease, post::Post};

/// What a token is a claim to, and where that is written.
#[derive(Clone)]
pub(crate) struct Claim {
    pub(crate) conn: Conn,
    pub(crate) to: To,
}

#[derive(Clone)]
pub(crate) enum To {
    Lock(Lock),
    Permit { permits: Key, count: NonZeroU32 },
}

/// A lock, and how it is waited for.
#[derive(Clone)]
pub(crate) struct Lock {
    pub(crate) keys: LockKeys,
    pub(crate) fence_memory: Duration,
    pub(crate) holder: Arc<str>,
    pub(crate) post: Arc<Post>,
}

/// What the server says to who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// It has it for so long from when it asked: a lock with this fence, or a permit.
    Had { fence: u64, left: Duration },
    /// Others have it.
    Busy(Busy),
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Busy {
    /// How many wait before it; nothing where it does not stand in line.
    pub(crate) place: Option<u64>,
    /// How long another one has it; nothing where that is not known, or for ever.
    pub(crate) left: Option<Duration>,
    /// The server's time in microseconds.
    pub(crate) now: u64,
    /// The last fence that was given before that.
    pub(crate) last: u64,
}

impl Claim {
    /// Asks for it once; who is to wait stands in the queue then.
    pub(crate) async fn acquire(&self, token: &Token, lease: Lease, waits: bool) -> Result<Answer> {
        match &self.to {
            To::Lock(lock) => {
                let call = call(&self.conn, &ACQUIRE, &lock.keys, lock.fence_memory, token)
                    .arg(lease)
                    .arg(&*lock.holder);
                let call = call.arg(if waits { lock.post.id() } else { "" });
                let (had, number, left, (now, last)) =
                    call.run::<(u64, i64, i64, (u64, u64))>().needs_server().await?;
                let left = u64::try_from(left).ok().map(Duration::from_millis);
                Ok(match had {
                    1 => {
                        let left = left.unwrap_or(lease.duration());
                        Answer::Had { fence: number.unsigned_abs(), left }
                    }
                    _ => {
                        let place = u64::try_from(number).ok();
                        Answer::Busy(Busy { place, left, now, last })
                    }
                })
            }
            To::Permit { permits, count } => {
                let call = self.conn.script(&ACQUIRE_PERMIT).key(permits);
                let call = call.arg(token.as_bytes().as_slice()).arg(lease).arg(count.get());
                let had = call.run::<Option<u64>>().needs_server().await?;
                let had = had.map(|_| Answer::Had { fence: 0, left: lease.duration() });
                Ok(had.unwrap_or(Answer::Busy(Busy::default())))
            }
        }
    }

    /// Gives it a new lease from now on; returns whether the token still has it.
    pub(crate) async fn extend(&self, token: &Token, lease: Lease) -> Result<bool> {
        let token = token.as_bytes().as_slice();
        let call = match &self.to {
            To::Lock(Lock { keys, fence_memory, .. }) => {
                let life = lease.duration() + *fence_memory;
                let call = self.conn.script(&EXTEND).key(&keys.lock).key(&keys.partition);
                call.arg(token).arg(lease).arg(life)
            }
            To::Permit { permits, .. } => {
                self.conn.script(&EXTEND_PERMIT).key(permits).arg(token).arg(lease)
            }
        };
        call.run().needs_server().await
    }

    /// Gives it back, or has it wait no more, for a lease that it asked for; returns whether the token still had it.
    pub(crate) async fn release(&self, token: &Token, waits: Option<Lease>) -> Result<bool> {
        let call = match &self.to {
            To::Lock(lock) => {
                let waiter = waits.map(|lease| lock.waiter(token, lease)).unwrap_or_default();
                release(&self.conn, &lock.keys, lock.fence_memory, token).arg(waiter)
            }
            To::Permit { permits, .. } => {
                let token = token.as_bytes().as_slice();
                self.conn.script(&RELEASE_PERMIT).key(permits).arg(token)
            }
        };
        call.run().needs_server().await
    }
}

impl Lock {
    /// Takes it from whoever has it; returns whether anybody had it.
    pub(crate) async fn force_release(&self, conn: &Conn) -> Result<bool> {
        call(conn, &FORCE_RELEASE, &self.keys, self.fence_memory, &Token::random())
            .run()
            .needs_server()
            .await
    }

    /// A token that waits, as `acquire.lua` writes it down.
    fn waiter(&self, token: &Token, lease: Lease) -> Vec<u8> {
        let millis = u64::try_from(lease.duration().as_millis()).unwrap_or(u64::MAX);
        let parts: [&[u8]; 4] = [
            token.as_bytes(),
            self.post.id().as_bytes(),
            &millis.to_be_bytes(),
            self.holder.as_bytes(),
        ];
        parts.concat()
    }
}

/// A release, but for who waits under that token.
pub(crate) fn release<'a>(
    conn: &'a Conn,
    keys: &LockKeys,
    fence_memory: Duration,
    token: &Token,
) -> ScriptCall<'a> {
    // As long as a call is repeated.
    let memory = conn.command_timeout().min(LONGEST_LEASE).saturating_mul(2);
    let call = call(conn, &RELEASE, keys, fence_memory, token).key(&keys.released);
    call.arg(memory.max(SHORTEST_LEASE))
}

/// A call of a script that may hand a lock on.
fn call<'a>(
    conn: &'a Conn,
    script: &'static Script,
    keys: &LockKeys,
    fence_memory: Duration,
    token: &Token,
) -> ScriptCall<'a> {
    let call = conn.script(script).key(&keys.lock).key(&keys.queue).key(&keys.partition);
    call.arg(token.as_bytes().as_slice()).arg(fence_memory)
}

// A token is of one attempt to have something, so each of these does the same when done twice.
static ACQUIRE: Script = Script::new(
    "lock.acquire",
    concat!(include_str!("lua/queue.lua"), include_str!("lua/acquire.lua")),
)
.replay(Replay::Idempotent);
static EXTEND: Script =
    Script::new("lock.extend", include_str!("lua/extend.lua")).replay(Replay::Idempotent);
static RELEASE: Script = Script::new(
    "lock.release",
    concat!(include_str!("lua/queue.lua"), include_str!("lua/release.lua")),
)
.replay(Replay::Idempotent);
static FORCE_RELEASE: Script = Script::new(
    "lock.force_release",
    concat!(include_str!("lua/queue.lua"), include_str!("lua/force_release.lua")),
);
static ACQUIRE_PERMIT: Script =
    Script::new("lock.acquire_permit", include_str!("lua/acquire_permit.lua"))
        .replay(Replay::Idempotent);
static EXTEND_PERMIT: Script =
    Script::new("lock.extend_permit", include_str!("lua/extend_permit.lua"))
        .replay(Replay::Idempotent);
static RELEASE_PERMIT: Script =
    Script::new("lock.release_permit", include_str!("lua/release_permit.lua"))
        .replay(Replay::Idempotent);
