//! Following tags: the servers say which of them change.

use std::{
    future::pending,
    sync::{Arc, Weak},
    time::Duration,
};

use redbrick_core_conn::{Conn, Freshness, Invalidation, Prefix, Tracking};
use tokio::{task::AbortHandle, time::timeout};

use crate::{cache::Inner, tags::known::Known};

/// How long after a failure it is tried again, and after a refusal.
const PAUSE: Duration = Duration::from_secs(1);
const LONG_PAUSE: Duration = Duration::from_secs(60);

/// What says which tags change, while there is one. Dropping it ends it.
pub(crate) struct Feed {
    task: AbortHandle,
    freshness: Option<Freshness>,
}

impl Feed {
    pub(crate) fn is_current(&self) -> bool {
        self.freshness.as_ref().is_some_and(Freshness::is_current)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Inner {
    /// Begins to follow the tags of this cache, where it is to and does not yet.
    pub(crate) fn follow(&self) {
        if !self.settings.follow_tags {
            return;
        }
        let mut state = self.known.state();
        if state.feed.is_none() {
            self.known.use_it();
            let known = Arc::downgrade(&self.known);
            let task = tokio::spawn(follow(self.conn.clone(), self.tags.clone(), known));
            state.feed = Some(Feed { task: task.abort_handle(), freshness: None });
        }
    }
}

async fn follow(conn: Conn, tags: Prefix, known: Weak<Known>) {
    let _ended = Ended(known.clone());
    let prefix = format!("{tags}:{{");
    loop {
        let pause = match conn.track().prefix(&prefix).lazy().await {
            Ok(tracking) => {
                listen(tracking, &tags, &known).await;
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "tags are not followed, and their versions are asked for");
                if error.is_retryable() { PAUSE } else { LONG_PAUSE }
            }
        };
        let _elapsed = timeout(pause, pending::<()>()).await;
    }
}

/// Forgets what changes, until the connection is closed.
async fn listen(mut tracking: Tracking, tags: &Prefix, known: &Weak<Known>) {
    if let Some(known) = known.upgrade()
        && let Some(feed) = &mut known.state().feed
    {
        feed.freshness = Some(tracking.freshness());
    }
    while let Some(change) = tracking.next().await {
        let Some(known) = known.upgrade() else { return };
        match change {
            Invalidation::Key(key) => {
                if let Some(tag) = tags.id_of(&key) {
                    known.forget(&tag);
                }
            }
            _ => known.forget_all(),
        }
    }
}

/// Where nobody listens any more, as when the runtime has ended, nothing is followed, until somebody begins to once more.
struct Ended(Weak<Known>);

impl Drop for Ended {
    fn drop(&mut self) {
        let Some(known) = self.0.upgrade() else { return };
        let feed = known.state().feed.take();
        drop(feed);
        known.forget_all();
    }
}
