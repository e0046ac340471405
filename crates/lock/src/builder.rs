use std::{fmt, time::Duration};

use redbrick_core_conn::{Conn, Prefix, ReadFrom};

use crate::{
    Durability, Error, LONGEST_LEASE, Locks, Wait, close::Closing, group::Group, holder,
    keeper::Keeper, lease::Lease, post::Post,
};

/// How long something is held unless it is renewed: 30 s.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);

/// How long the last fence is remembered after the last lease would end: 24 hours.
pub const DEFAULT_FENCE_MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a group of locks is called that was given no name.
pub const DEFAULT_NAME: &str = "default";

/// The settings of [`Locks`], each with a default.
#[must_use = "nothing is made until `build` is called"]
pub struct LocksBuilder {
    conn: Conn,
    prefix: Prefix,
    lease: Duration,
    wait: Wait,
    renew: bool,
    durability: Durability,
    holder: Option<String>,
    fence_memory: Duration,
}

impl LocksBuilder {
    pub(crate) fn new(conn: Conn) -> Self {
        Self {
            conn,
            prefix: prefix(DEFAULT_NAME),
            lease: DEFAULT_LEASE,
            wait: Wait::default(),
            renew: true,
            durability: Durability::None,
            holder: None,
            fence_memory: DEFAULT_FENCE_MEMORY,
        }
    }

    /// Keeps its locks apart from those of others on the same server: keys begin with `lock:name`.
    ///
    /// Default: [`DEFAULT_NAME`].
    pub fn name(mut self, name: impl AsRef<[u8]>) -> Self {
        self.prefix = prefix(name);
        self
    }

    /// Sets the lease: for how long what is had outlives this process, or, where it is not [renewed](Self::renew), how long it is held.
    ///
    /// Default: [`DEFAULT_LEASE`], 30 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets what to do while somebody else has a lock.
    ///
    /// Default: three attempts, 100 ms apart.
    pub fn wait(mut self, wait: impl Into<Wait>) -> Self {
        self.wait = wait.into();
        self
    }

    /// Sets whether what is had is renewed until it is released or dropped, at each third of its lease.
    ///
    /// Default: it is.
    pub fn renew(mut self, renew: bool) -> Self {
        self.renew = renew;
        self
    }

    /// Sets how many replicas must know of a lock before it is granted.
    ///
    /// Default: [`Durability::None`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets who is shown as the holder of a lock.
    ///
    /// Default: this host and process, as `web-1:4711`.
    pub fn holder(mut self, holder: impl Into<String>) -> Self {
        self.holder = Some(holder.into());
        self
    }

    /// Sets how long the last fence of a partition (one of 256) is remembered after the last lease given in it would end. Later the server's
    /// clock alone makes fences rise.
    ///
    /// Default: [`DEFAULT_FENCE_MEMORY`], 24 hours.
    pub fn fence_memory(mut self, fence_memory: Duration) -> Self {
        self.fence_memory = fence_memory;
        self
    }

    /// Makes it; sends nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Lease`] or [`Error::FenceMemory`] when one of them is out of range.
    pub fn build(self) -> Result<Locks, Error> {
        Lease::new(self.lease)?;
        if self.fence_memory > LONGEST_LEASE {
            return Err(Error::FenceMemory);
        }
        Ok(self.build_unchecked())
    }

    /// Makes it of settings that are known to be right.
    pub(crate) fn build_unchecked(self) -> Locks {
        let Self { conn, prefix, lease, wait, renew, durability, holder, fence_memory } = self;
        let holder = holder.unwrap_or_else(holder::of_this_process).into();
        // A replica does not know yet who has a lock.
        let conn = conn.with_read_from(ReadFrom::Master);
        let (post, keeper) = (Post::new(conn.clone()), Keeper::new(conn.clone()));
        Locks::of(Group {
            conn,
            prefix,
            lease,
            wait,
            renew,
            durability,
            holder,
            fence_memory,
            post,
            keeper,
            closing: Closing::default(),
        })
    }
}

/// Every group has a name in its keys, so that no group's locks are another group.
fn prefix(name: impl AsRef<[u8]>) -> Prefix {
    Prefix::new("lock").join(name)
}

impl fmt::Debug for LocksBuilder {
    /// Does not show the holder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("LocksBuilder");
        out.field("prefix", &self.prefix).field("lease", &self.lease).field("wait", &self.wait);
        out.field("renew", &self.renew).field("durability", &self.durability);
        out.field("fence_memory", &self.fence_memory);
        out.finish_non_exhaustive()
    }
}
