use std::{collections::BTreeMap, fmt, time::SystemTime};

use crate::{Device, SessionId};

/// A session as it was when it was read. What is public can be changed and [saved](crate::Sessions::save).
///
/// All times are the server's, to the millisecond.
#[derive(Clone)]
pub struct Session<D = ()> {
    pub(crate) id: SessionId,
    pub(crate) user: String,
    pub(crate) created_at: SystemTime,
    pub(crate) last_seen: SystemTime,
    pub(crate) expires_at: SystemTime,
    pub(crate) version: u64,
    /// What it was begun from.
    pub device: Device,
    /// The role of its user.
    pub role: Option<String>,
    /// The e-mail address of its user.
    pub email: Option<String>,
    /// Fields that can also be changed one by one.
    pub metadata: BTreeMap<String, String>,
    /// The data of the application.
    pub data: D,
}

impl<D> Session<D> {
    /// Returns the id, which is for the client.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Returns whose session it is.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Returns when it began.
    #[must_use]
    pub fn created_at(&self) -> SystemTime {
        self.created_at
    }

    /// Returns when it was last used: when it began, was [touched](crate::Sessions::touch), or was
    /// [said to be in use](crate::Sessions::update_activity). Reading it does not count.
    #[must_use]
    pub fn last_seen(&self) -> SystemTime {
        self.last_seen
    }

    /// Returns when it ends, unless it is touched before.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// Returns how often it was written: 1 when it is new, and one more with each change of what is public.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
}

impl<D> fmt::Debug for Session<D> {
    /// Shows neither the id nor anything of a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("created_at", &self.created_at)
            .field("last_seen", &self.last_seen)
            .field("expires_at", &self.expires_at)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
