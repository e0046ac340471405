use std::{collections::BTreeMap, fmt, time::SystemTime};

use crate::{Device, SessionId, SessionKey};

/// What [`list`](crate::Sessions::list) tells of a session: nothing that opens it.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// What names it, and [deletes](crate::Sessions::delete_key) it.
    pub key: SessionKey,
    /// What it was begun from.
    pub device: Device,
    /// The role of its user.
    pub role: Option<String>,
    /// The e-mail address of its user.
    pub email: Option<String>,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// When it began, by the server's clock; 1970 in this and the other times when another program has spoilt it.
    pub created_at: SystemTime,
    /// When it was last used, as [`Session::last_seen`](crate::Session::last_seen).
    pub last_seen: SystemTime,
    /// When it ends, unless it is touched before.
    pub expires_at: SystemTime,
}

impl SessionInfo {
    /// Returns whether this is the session of `id`: the one that its reader is logged in with.
    #[must_use]
    pub fn is_current(&self, id: &SessionId) -> bool {
        self.key == id.key()
    }
}

impl fmt::Debug for SessionInfo {
    /// Shows nothing of a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionInfo")
            .field("key", &self.key)
            .field("created_at", &self.created_at)
            .field("last_seen", &self.last_seen)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
