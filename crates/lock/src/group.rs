use std::{sync::Arc, time::Duration};

use redbrick_core_conn::{Conn, Prefix, Token};

use crate::{
    Durability, Error, Extended, Released, Wait,
    claim::{Claim, Kind},
    close::Closing,
    hold::Hold,
    keeper::Keeper,
    lease::Lease,
    post::Post,
};

/// What all locks of a group have in common in this process.
pub(crate) struct Group {
    pub(crate) conn: Conn,
    pub(crate) prefix: Prefix,
    pub(crate) lease: Duration,
    pub(crate) wait: Wait,
    pub(crate) renew: bool,
    pub(crate) durability: Durability,
    pub(crate) holder: Arc<str>,
    pub(crate) fence_memory: Duration,
    pub(crate) post: Post,
    pub(crate) keeper: Keeper,
    pub(crate) closing: Closing,
}

impl Group {
    /// A claim to something of that name.
    pub(crate) fn claim(&self, name: &[u8], kind: Kind, holder: &Arc<str>) -> Claim {
        let (keys, to) = kind.of(&self.prefix, name);
        Claim {
            conn: self.conn.clone(),
            keys,
            to,
            holder: Arc::clone(holder),
            fence_memory: self.fence_memory,
            mailbox: Arc::clone(self.post.id()),
        }
    }

    /// Releases what a token has.
    pub(crate) async fn release(
        &self,
        name: &[u8],
        kind: Kind,
        token: &Token,
    ) -> Result<Released, Error> {
        let released = self.claim(name, kind, &self.holder).release(token, None).await?;
        Ok(Released::of(released))
    }

    /// Gives what a token has a new lease.
    pub(crate) async fn extend(
        &self,
        name: &[u8],
        kind: Kind,
        token: &Token,
        lease: Duration,
    ) -> Result<Extended, Error> {
        let lease = Lease::new(lease)?;
        let extended = self.claim(name, kind, &self.holder).extend(token, lease).await?;
        Ok(Extended::of(extended.is_some()))
    }

    /// Gives back what may be held, or waited for with that lease.
    pub(crate) async fn give_back(
        &self,
        hold: &Hold,
        waits: Option<Lease>,
    ) -> redbrick_core_conn::Result<()> {
        hold.claim.release(&hold.token, waits).await?;
        self.post.left(&hold.token);
        Ok(())
    }
}
