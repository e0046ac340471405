use std::time::Duration;

use redbrick_core_conn::{Conn, Key, LONGEST_TIME_TO_LIVE, Prefix};

use crate::{SessionId, SessionKey, id::Partition};

/// Where everything is, for all handles of the same sessions.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) conn: Conn,
    /// The same connection for the fields of records, which are bare, and for what a replica may not know yet: that a
    /// session has ended.
    pub(crate) plain: Conn,
    /// For recorders; empty where there is none.
    pub(crate) name: String,
    pub(crate) prefix: Prefix,
    pub(crate) time_to_live: Duration,
    pub(crate) absolute: Option<Duration>,
}

impl Inner {
    pub(crate) fn session(&self, partition: Partition, key: &SessionKey) -> Key {
        self.prefix.tagged(partition.to_string()).join(key.to_string())
    }

    pub(crate) fn session_of(&self, id: &SessionId) -> Key {
        self.session(id.partition(), &id.key())
    }

    /// The sessions of a partition with their users. Not one for each user: a script that is given an id could not name
    /// it before it has read the session.
    pub(crate) fn index(&self, partition: Partition) -> Key {
        self.prefix.tagged(partition.to_string()).join("index")
    }
}

/// A life in milliseconds: at least one, at most a hundred years.
pub(crate) fn millis(life: Duration) -> u64 {
    let millis = life.clamp(Duration::from_millis(1), LONGEST_TIME_TO_LIVE).as_millis();
    u64::try_from(millis).unwrap_or(u64::MAX)
}
