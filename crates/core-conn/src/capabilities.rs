//! What a server can do, beyond what every server can.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{Conn, FromReply, Reply, Result, commands::Request};

/// Something that not every server can do.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Capability {
    /// Deleting a key only when it holds a given value, in one command (`DELIFEQ`).
    CompareAndDelete,
    /// Functions kept in the server (`FCALL`).
    Functions,
    /// A time to live for single fields of a hash (`HPEXPIRE`).
    HashFieldTtl,
    /// Counting within bounds, in one command (`INCREX`).
    IncrementWithin,
    /// Setting several keys with a time to live, in one command (`MSETEX`).
    MultiSetWithTtl,
    /// Pub/sub that stays within a shard of a cluster (`SSUBSCRIBE`).
    ShardedPubSub,
}

/// Each capability and the command whose presence shows it.
const PROBED: [(Capability, &str); 6] = [
    (Capability::CompareAndDelete, "DELIFEQ"),
    (Capability::Functions, "FCALL"),
    (Capability::HashFieldTtl, "HPEXPIRE"),
    (Capability::IncrementWithin, "INCREX"),
    (Capability::MultiSetWithTtl, "MSETEX"),
    (Capability::ShardedPubSub, "SSUBSCRIBE"),
];

/// What a server can do, found out by asking it for its commands.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Capabilities(BTreeSet<Capability>);

impl Capabilities {
    /// Returns whether the server has `capability`.
    #[must_use]
    pub fn contains(&self, capability: Capability) -> bool {
        self.0.contains(&capability)
    }

    /// Returns all the server has.
    pub fn iter(&self) -> impl Iterator<Item = Capability> + '_ {
        self.0.iter().copied()
    }
}

/// The last answer about capabilities, forgotten whenever a link is made anew: another server may answer then.
#[derive(Debug, Default)]
pub(crate) struct KnownCapabilities(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// How often it was forgotten, so that an answer from before is not kept.
    forgotten: u64,
    capabilities: Option<Capabilities>,
}

impl KnownCapabilities {
    pub(crate) fn forget(&self) {
        let mut known = self.lock();
        known.forgotten += 1;
        known.capabilities = None;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conn {
    /// Returns what the server can do.
    ///
    /// One round trip (`COMMAND INFO`), then none until a connection is made anew. It asks for the commands
    /// themselves, since version numbers of different servers do not compare.
    ///
    /// # Errors
    ///
    /// [`Denied`](crate::ErrorKind::Denied) without the right to `COMMAND`; those of [every
    /// call](Conn#errors-of-every-call).
    #[tracing::instrument(level = "debug", name = "core_conn.capabilities", skip_all)]
    pub async fn capabilities(&self) -> Result<Capabilities> {
        let forgotten = {
            let known = self.known_capabilities().lock();
            if let Some(capabilities) = &known.capabilities {
                return Ok(capabilities.clone());
            }
            known.forgotten
        };
        let args = ["INFO"].into_iter().chain(PROBED.map(|(_, name)| name)).collect();
        let request = Request::Raw { name: "COMMAND", args };
        let answer = self.ask(&request).await?;
        // One entry per command asked for, in order; nothing where the server does not know it.
        let entries = Vec::<Reply>::from_reply(answer)?;
        let present = PROBED.iter().zip(&entries).filter(|(_, entry)| !is_absent(entry));
        let capabilities = Capabilities(present.map(|((capability, _), _)| *capability).collect());
        let mut known = self.known_capabilities().lock();
        if known.forgotten == forgotten {
            known.capabilities = Some(capabilities.clone());
        }
        Ok(capabilities)
    }
}

fn is_absent(entry: &Reply) -> bool {
    match entry {
        Reply::Nil => true,
        Reply::List(fields) => fields.is_empty(),
        _ => false,
    }
}
