use std::{num::NonZeroU32, sync::Arc, time::Duration};

use redbrick_core_conn::{
    BatchScript, Call, Conn, Key, Prefix, Replay, Result, Script, ScriptCall, Token,
};

use crate::{LONGEST_LEASE, SHORTEST_LEASE, keys::LockKeys, lease::Lease};

/// What a token is a claim to, and where that is written.
#[derive(Clone)]
pub(crate) struct Claim {
    pub(crate) conn: Conn,
    pub(crate) keys: LockKeys,
    pub(crate) to: To,
    pub(crate) holder: Arc<str>,
    pub(crate) fence_memory: Duration,
    /// Where this process is told.
    pub(crate) mailbox: Arc<str>,
}

#[derive(Clone, Debug)]
pub(crate) enum To {
    /// A lock, which one has at a time.
    Lock,
    /// So many permits of those that there are.
    Permits { weight: NonZeroU32, count: NonZeroU32, shares: Key },
}

/// What of a name is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Lock,
    Permits { weight: NonZeroU32, count: NonZeroU32 },
    Read,
    Write,
}

/// So many can read at a time: whoever writes needs all of it.
const READERS: NonZeroU32 = NonZeroU32::new(1 << 20).expect("it is not zero");

/// What the server says to who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// It has it with this fence, for so long from when it asked.
    Had { fence: u64, left: Duration },
    /// Others have it.
    Busy(Busy),
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Busy {
    /// How many wait before it; nothing where it does not stand in line.
    pub(crate) place: Option<u64>,
    /// In how long it may be free at the earliest; nothing where that is not known, or never.
    pub(crate) free_in: Option<Duration>,
    /// The server's time in microseconds.
    pub(crate) now: u64,
    /// The last fence that was given before that.
    pub(crate) last: u64,
}

impl Claim {
    /// Asks for it once; who is to wait stands in the queue then.
    pub(crate) async fn acquire(&self, token: &Token, lease: Lease, waits: bool) -> Result<Answer> {
        let who = self.who(token, waits.then_some(&*self.mailbox), lease);
        let call = self.call([&ACQUIRE, &ACQUIRE_PERMITS], who);
        let (had, number, left, (now, last)) =
            call.run::<(u64, i64, i64, (u64, u64))>().needs_server().await?;
        let left = u64::try_from(left).ok().map(Duration::from_millis);
        Ok(match had {
            1 => {
                Answer::Had { fence: number.unsigned_abs(), left: left.unwrap_or(lease.duration()) }
            }
            _ => {
                let place = u64::try_from(number).ok();
                Answer::Busy(Busy { place, free_in: left, now, last })
            }
        })
    }

    /// Gives it a new lease from now on; returns its fence, or nothing where the token has it no more.
    pub(crate) async fn extend(&self, token: &Token, lease: Lease) -> Result<Option<u64>> {
        self.extension(token, lease, true).await
    }

    /// The same, and waits until so many replicas have that; returns how many do, or nothing where the token has it no more.
    pub(crate) async fn extend_replicated(
        &self,
        token: &Token,
        lease: Lease,
        replicas: u32,
        within: Duration,
    ) -> Result<Option<u64>> {
        // It must write: since Redis 7.2 a server waits for what this very link wrote last.
        let extension = self.extension(token, lease, true);
        let (has, count) = extension.replicated(replicas, within).await?;
        Ok(has.map(|_| count))
    }

    /// Gives it a new lease from now on, where it does not last for longer already.
    pub(crate) async fn renew(&self, token: &Token, lease: Lease) -> Result<Option<u64>> {
        self.extension(token, lease, false).await
    }

    fn extension(&self, token: &Token, lease: Lease, may_shorten: bool) -> Call<'_, Option<u64>> {
        let script = match self.to {
            To::Lock => &EXTEND,
            To::Permits { .. } => &EXTEND_PERMITS,
        };
        let call = self.conn.batch_script(script).key(&self.keys.held).key(&self.keys.partition);
        let call = match &self.to {
            To::Lock => call,
            To::Permits { shares, .. } => call.key(shares),
        };
        let life = lease.duration() + self.fence_memory;
        call.arg(token.as_bytes().as_slice())
            .arg(lease)
            .arg(life)
            .arg(may_shorten)
            .run()
            .needs_server()
    }

    /// Gives it back, or has it wait no more, for a lease that it asked for; returns whether the token still had it.
    pub(crate) async fn release(&self, token: &Token, waits: Option<Lease>) -> Result<bool> {
        // As long as a call is repeated.
        let memory = self.conn.command_timeout().min(LONGEST_LEASE).saturating_mul(2);
        let waiter = waits.map(|lease| self.who(token, Some(&self.mailbox), lease));
        let who = waiter.unwrap_or_else(|| token.as_bytes().to_vec());
        let call = self.call([&RELEASE, &RELEASE_PERMITS], who);
        call.arg(memory.max(SHORTEST_LEASE)).run().needs_server().await
    }

    /// Takes a lock from whoever has it; returns whether anybody had it.
    pub(crate) async fn force_release(&self) -> Result<bool> {
        self.call([&FORCE_RELEASE; 2], Vec::new()).run().needs_server().await
    }

    /// A call of one of the scripts that stand behind `queue.lua`, which is another one for permits.
    fn call(&self, [lock, permits]: [&'static Script; 2], who: Vec<u8>) -> ScriptCall<'_> {
        let LockKeys { held, queue, partition, released } = &self.keys;
        let script = if matches!(self.to, To::Lock) { lock } else { permits };
        let call = self.conn.script(script).key(held).key(queue).key(partition).key(released);
        let (call, count) = match &self.to {
            To::Lock => (call, NonZeroU32::MIN),
            To::Permits { count, shares, .. } => (call.key(shares), *count),
        };
        call.arg(who).arg(self.fence_memory).arg(count.get())
    }

    /// Who asks, as it stands in the queue; without a mailbox, it does not wait.
    pub(crate) fn who(&self, token: &Token, mailbox: Option<&str>, lease: Lease) -> Vec<u8> {
        let millis = u64::try_from(lease.duration().as_millis()).unwrap_or(u64::MAX);
        let weight = match self.to {
            To::Lock => 1,
            To::Permits { weight, .. } => weight.get(),
        };
        let parts: [&[u8]; 5] = [
            token.as_bytes(),
            mailbox.unwrap_or(NO_MAILBOX).as_bytes(),
            &millis.to_be_bytes(),
            &weight.to_be_bytes(),
            self.holder.as_bytes(),
        ];
        parts.concat()
    }
}

/// That of who does not wait.
const NO_MAILBOX: &str = "                ";

impl Kind {
    /// Where it lies, and how much of it is asked for.
    pub(crate) fn of(self, group: &Prefix, name: &[u8]) -> (LockKeys, To) {
        let (kind, weight, count) = match self {
            Self::Lock => return (LockKeys::new(group, name), To::Lock),
            Self::Permits { weight, count } => ("permits", weight, count),
            Self::Read => ("rw", NonZeroU32::MIN, READERS),
            Self::Write => ("rw", READERS, READERS),
        };
        let keys = LockKeys::permits(group, name, kind);
        let shares = keys.shares();
        (keys, To::Permits { weight, count, shares })
    }
}

/// A script of a lock behind what all of them begin with.
macro_rules! of_a_lock {
    ($script:expr) => {
        concat!(include_str!("lua/queue.lua"), include_str!("lua/lock.lua"), $script)
    };
}

/// The same of permits.
macro_rules! of_permits {
    ($script:expr) => {
        concat!(include_str!("lua/queue.lua"), include_str!("lua/permits.lua"), $script)
    };
}

// A token is of one attempt to have something, so each of these does the same when done twice.
static ACQUIRE: Script = Script::new("lock.acquire", of_a_lock!(include_str!("lua/acquire.lua")))
    .replay(Replay::Idempotent);
static ACQUIRE_PERMITS: Script =
    Script::new("lock.acquire_permits", of_permits!(include_str!("lua/acquire.lua")))
        .replay(Replay::Idempotent);
static RELEASE: Script = Script::new("lock.release", of_a_lock!(include_str!("lua/release.lua")))
    .replay(Replay::Idempotent);
static RELEASE_PERMITS: Script =
    Script::new("lock.release_permits", of_permits!(include_str!("lua/release.lua")))
        .replay(Replay::Idempotent);
static EXTEND: BatchScript =
    BatchScript::new("lock.extend", include_str!("lua/extend.lua")).replay(Replay::Idempotent);
static EXTEND_PERMITS: BatchScript =
    BatchScript::new("lock.extend_permits", include_str!("lua/extend_permits.lua"))
        .replay(Replay::Idempotent);
// Done twice, it would take it from the next one.
static FORCE_RELEASE: Script =
    Script::new("lock.force_release", of_a_lock!(include_str!("lua/force_release.lua")));
