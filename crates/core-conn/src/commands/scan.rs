use std::{collections::VecDeque, fmt};

use bytes::Bytes;

use super::{Call, request::Request};
use crate::{Conn, Pattern, Result, conn::Route};

/// How many keys a step looks at, unless told otherwise.
const DEFAULT_STEP: u32 = 1000;

/// A walk through the keys that match a pattern; see [`Conn::scan`].
#[must_use = "nothing is asked until `next` is awaited"]
pub struct Scan<'a> {
    conn: &'a Conn,
    pattern: Pattern,
    step: u32,
    /// The masters that are still to be asked, the current one first; nothing before the first step.
    masters: Option<VecDeque<Route>>,
    cursor: Bytes,
}

impl Conn {
    /// Walks through the keys that match `pattern`, without holding up the server.
    ///
    /// ```no_run
    /// # use redbrick_core_conn::{Conn, Error, Pattern};
    /// # async fn f(conn: Conn) -> Result<(), Error> {
    /// let mut users = conn.scan(Pattern::new("user:*")?);
    /// while let Some(keys) = users.next().await? {
    ///     println!("{} more", keys.len());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// A key that is there from the beginning to the end of the walk is returned at least once, and maybe more than
    /// once; one that comes or goes meanwhile may be returned or not. On Cluster one master is walked after the other;
    /// keys of a slot that moves from one to the other meanwhile can be missed.
    pub fn scan(&self, pattern: Pattern) -> Scan<'_> {
        Scan { conn: self, pattern, step: DEFAULT_STEP, masters: None, cursor: start() }
    }

    /// Deletes the keys that match `pattern`, and returns how many.
    ///
    /// One `SCAN` for each thousand keys of the database, and one `UNLINK` for the keys that each finds (on Cluster one
    /// for each of their slots, all at once). A key that comes meanwhile may stay.
    ///
    /// # Errors
    ///
    /// Those of [every call](Conn#errors-of-every-call); some keys may be gone already.
    #[tracing::instrument(level = "debug", name = "core_conn.delete_matching", skip_all)]
    pub async fn delete_matching(&self, pattern: Pattern) -> Result<u64> {
        let mut scan = self.scan(pattern);
        let mut deleted = 0;
        while let Some(keys) = scan.next().await? {
            deleted += self.delete_many(keys).await?;
        }
        Ok(deleted)
    }
}

impl Scan<'_> {
    /// Sets how many keys of the database the server looks at in one step: more take fewer round trips and hold up
    /// the server longer. Zero counts as one.
    ///
    /// Default: 1000.
    pub fn step(mut self, keys: u32) -> Self {
        self.step = keys.max(1);
        self
    }

    /// Returns the keys that the next step finds, without the connection's prefix, as other calls take them; `None` at
    /// the end.
    ///
    /// One round trip (`SCAN`), or several until there is a key to return. Cancel safe: a step whose future was dropped
    /// is made again.
    ///
    /// # Errors
    ///
    /// Those of [every call](Conn#errors-of-every-call). Call it again to go on; when a master was replaced meanwhile,
    /// begin anew.
    #[tracing::instrument(level = "debug", name = "core_conn.scan", skip_all)]
    pub async fn next(&mut self) -> Result<Option<Vec<Bytes>>> {
        if self.masters.is_none() {
            self.masters = Some(Box::pin(self.conn.masters()).await?.into());
        }
        let prefix = self.conn.config().key_prefix.as_bytes();
        while let Some(master) = self.masters.as_ref().and_then(VecDeque::front).cloned() {
            let request = Request::Scan {
                cursor: self.cursor.clone(),
                pattern: self.pattern.glob(&self.conn.config().key_prefix),
                count: self.step,
            };
            let call = Call::<(Bytes, Vec<Bytes>)>::reading(self.conn, Ok(request));
            let (cursor, keys) = call.route(master).await?;
            self.cursor = cursor;
            // Nothing at all is the answer where there is no server to ask.
            if self.cursor.is_empty() || self.cursor == start() {
                self.cursor = start();
                self.masters.as_mut().and_then(VecDeque::pop_front);
            }
            let keys = keys
                .into_iter()
                .filter_map(|key| key.strip_prefix(prefix).map(|_| key.slice(prefix.len()..)));
            // The server's wildcard also finds what the pattern does not mean.
            let keys: Vec<Bytes> = keys.filter(|key| self.pattern.matches(key)).collect();
            if !keys.is_empty() {
                return Ok(Some(keys));
            }
        }
        Ok(None)
    }
}

fn start() -> Bytes {
    Bytes::from_static(b"0")
}

impl fmt::Debug for Scan<'_> {
    /// Does not show the pattern.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("step", &self.step).finish_non_exhaustive()
    }
}
