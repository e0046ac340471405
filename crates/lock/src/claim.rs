use std::{num::NonZeroU32, sync::Arc, time::Duration};

use redbrick_core_conn::{Conn, Key, Replay, Result, Script};

use crate::lease::Lease;

/// What a token is a claim to, and where that is written.
#[derive(Clone)]
pub(crate) struct Claim {
    pub(crate) conn: Conn,
    pub(crate) to: To,
}

#[derive(Clone)]
pub(crate) enum To {
    Lock { lock: Key, fence: Key, fence_memory: Duration, holder: Arc<str> },
    Permit { permits: Key, count: NonZeroU32 },
}

impl Claim {
    /// Asks for it once: the fence of a lock, 1 for a permit, or nothing when others have it all.
    pub(crate) async fn acquire(&self, token: &[u8], lease: Lease) -> Result<Option<u64>> {
        let call = match &self.to {
            To::Lock { lock, fence, fence_memory, holder } => {
                let life = lease.duration() + *fence_memory;
                let call = self.conn.script(&ACQUIRE).key(lock).key(fence);
                call.arg(token).arg(lease).arg(&**holder).arg(life)
            }
            To::Permit { permits, count } => {
                let call = self.conn.script(&ACQUIRE_PERMIT).key(permits);
                call.arg(token).arg(lease).arg(count.get())
            }
        };
        call.run().needs_server().await
    }

    /// Gives it a new lease from now on; returns whether the token still has it.
    pub(crate) async fn extend(&self, token: &[u8], lease: Lease) -> Result<bool> {
        let call = match &self.to {
            To::Lock { lock, fence, fence_memory, .. } => {
                let life = lease.duration() + *fence_memory;
                let call = self.conn.script(&EXTEND).key(lock).key(fence);
                call.arg(token).arg(lease).arg(life)
            }
            To::Permit { permits, .. } => {
                self.conn.script(&EXTEND_PERMIT).key(permits).arg(token).arg(lease)
            }
        };
        call.run().needs_server().await
    }

    /// Gives it back; returns whether the token still had it.
    pub(crate) async fn release(&self, token: &[u8]) -> Result<bool> {
        let call = match &self.to {
            To::Lock { lock, fence, fence_memory, .. } => {
                self.conn.script(&RELEASE).key(lock).key(fence).arg(token).arg(*fence_memory)
            }
            To::Permit { permits, .. } => self.conn.script(&RELEASE_PERMIT).key(permits).arg(token),
        };
        call.run().needs_server().await
    }
}

// A token is of one attempt to have something, so each of these does the same when done twice.
static ACQUIRE: Script =
    Script::new("lock.acquire", include_str!("lua/acquire.lua")).replay(Replay::Idempotent);
static EXTEND: Script =
    Script::new("lock.extend", include_str!("lua/extend.lua")).replay(Replay::Idempotent);
static RELEASE: Script =
    Script::new("lock.release", include_str!("lua/release.lua")).replay(Replay::Idempotent);
static ACQUIRE_PERMIT: Script =
    Script::new("lock.acquire_permit", include_str!("lua/acquire_permit.lua"))
        .replay(Replay::Idempotent);
static EXTEND_PERMIT: Script =
    Script::new("lock.extend_permit", include_str!("lua/extend_permit.lua"))
        .replay(Replay::Idempotent);
static RELEASE_PERMIT: Script =
    Script::new("lock.release_permit", include_str!("lua/release_permit.lua"))
        .replay(Replay::Idempotent);
