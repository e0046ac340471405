//! The lease of a key: what is loaded under it is stored only while it is there, and invalidating ends it.

use std::time::Duration;

use bytes::Bytes;
use redbrick_core_conn::{Conn, Key, Script, Token};

use crate::{cache::Inner, entry::Tag, read::Seen};

static LEASE: Script = Script::new("cache.lease", include_str!("lua/lease.lua"));

/// What came of asking for a lease.
pub(crate) enum Leased {
    /// There is an entry by now.
    Entry(Bytes),
    /// What is loaded from here on may be stored under this token, with these versions of its tags.
    Token(Bytes, Vec<Tag>),
    /// There is no server, and there need not be one.
    Nobody,
}

impl Inner {
    /// Asks for the lease and the versions of tags, at once. They are those of before the load.
    pub(crate) async fn lease(
        &self,
        conn: &Conn,
        keys: (&Key, &Key),
        tags: &[Bytes],
        time_to_live: Duration,
        seen: &Seen,
    ) -> redbrick_core_conn::Result<Leased> {
        let token = Token::<16>::random();
        let (overlook, beginning) = match seen {
            Seen::Nothing => (false, Bytes::new()),
            Seen::Beginning(beginning) => (true, beginning.clone()),
        };
        let script = conn.script(&LEASE).key(keys.0).key(keys.1);
        let script = script.arg(token.as_bytes().as_slice()).arg(self.load_timeout);
        let call = script.arg(overlook).arg(beginning).run::<(Option<Bytes>, Option<Bytes>)>();
        // Never repeated: a token that others share already, and that was ended since, must not come back.
        let (answer, versions) = if tags.is_empty() {
            (call.await?, Vec::new())
        } else {
            let (answer, versions) =
                tokio::join!(call, self.tag_versions(conn, tags, time_to_live));
            (answer?, versions?)
        };
        Ok(match answer {
            (Some(entry), _) => Leased::Entry(entry),
            (None, Some(token)) => Leased::Token(token, versions),
            (None, None) => Leased::Nobody,
        })
    }
}
