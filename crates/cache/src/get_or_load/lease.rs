//! The lease of a key: one process of the fleet has it, and loads. What it loads is stored only while it has it, and
//! invalidating ends it.

use std::{convert::Infallible, future::pending, num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use redbrick_core_conn::{Call, Conn, Key, Replay, Script, Subscription, Token};
use tokio::{
    runtime::Handle,
    time::{Instant, interval_at, timeout},
};

use crate::{
    at_once::bounded, cache::Inner, entry::Tag, entry::read::Seen, feed::Feed, get_or_load::Ask,
    get_or_load::remembered::Note,
};

static LEASE: Script = Script::new("cache.lease", include_str!("../lua/lease.lua"));
static RENEW: Script = Script::new(
    "cache.renew",
    concat!(include_str!("../lua/held.lua"), include_str!("../lua/renew.lua")),
);
static RELEASE: Script = Script::new(
    "cache.release",
    concat!(include_str!("../lua/held.lua"), include_str!("../lua/release.lua")),
);
static STORE: Script = Script::new(
    "cache.store",
    concat!(include_str!("../lua/held.lua"), include_str!("../lua/store.lua")),
);

/// How often it is asked whether a lease has ended, where nobody may tell.
const UNTOLD: Duration = Duration::from_millis(100);

/// The tags of an entry, with the versions that they had before its load.
pub(crate) type Tags = Vec<Tag>;

/// What came of asking for a lease.
pub(crate) enum Leased {
    /// There is an entry by now.
    Entry(Bytes),
    /// It is this call's. What is loaded from here on may be stored under it, with these versions of its tags.
    Taken(Box<Lease>, Tags),
    /// Somebody else loads, and has it for so long at least; and what is there meanwhile.
    Elsewhere(Duration, Seen),
    /// Somebody else has just failed to load, and this call has something to go on with.
    Failed,
    /// There is no server, and there need not be one.
    Nobody,
}

/// The right to load for all, and to store. Dropped before it was [used](Self::used), it is given back in the background.
pub(crate) struct Lease {
    /// With little patience, as the call that loads has it, and with more, since others wait for its end.
    quick: Conn,
    conn: Conn,
    keys: (Key, Key),
    token: Token<16>,
    life: Duration,
    /// For how long nobody tries again who has something to go on with, when this load fails.
    rest: Duration,
    has_failed: bool,
    /// Where what this process keeps of its entry is forgotten.
    feed: Arc<Feed>,
    /// Keeps others of this process from asking for it while what is there is served.
    note: Option<Note<Bytes>>,
    /// Where it is given back, as long as there is something to give back.
    runtime: Option<Handle>,
}

/// Somebody who waits for the load of another process.
pub(crate) struct Watch(Option<Subscription>);

impl Inner {
    /// Asks for the lease and the versions of tags, at once. They are those of before the load. Who `has_fallback` has something to go
    /// on with, if a load has just failed. A note is held until the lease is given back or one life of it is over, and for a while where
    /// nobody is to ask for it again.
    pub(crate) async fn lease(
        &self,
        ask: &Ask,
        seen: &Seen,
        has_fallback: bool,
        note: Option<Note<Bytes>>,
    ) -> redbrick_core_conn::Result<Leased> {
        // Whatever becomes of this call, it may be taken from the moment on when it is asked for.
        let rest = if has_fallback { self.settings.lease } else { Duration::ZERO };
        let conn = &self.quick;
        let mut lease = Lease {
            quick: conn.clone(),
            conn: self.conn.clone(),
            keys: (ask.entry.clone(), ask.lease.clone()),
            token: Token::random(),
            life: self.settings.lease,
            rest,
            has_failed: false,
            feed: Arc::clone(&self.feed),
            note,
            runtime: Handle::try_current().ok(),
        };
        let (overlook, beginning) = match seen {
            Seen::Nothing => (false, Bytes::new()),
            Seen::Anything => (true, Bytes::new()),
            Seen::Beginning(beginning) => (true, beginning.clone()),
        };
        let script = conn.script(&LEASE).key(&ask.entry).key(&ask.lease);
        let script = script.arg(lease.token.as_bytes().as_slice()).arg(lease.life);
        // Never repeated: a first one that arrives late would bring back a lease that was ended since.
        let is_served = has_fallback || ask.anew;
        let script = script.arg(overlook).arg(beginning).arg(is_served).arg(has_fallback);
        let call = script.run::<(Option<Bytes>, Option<i64>, Option<Bytes>)>();
        let (answer, versions) = if ask.terms.tags.is_empty() {
            (call.await, Ok(Vec::new()))
        } else {
            let life = self.kept_at_most(ask.terms.time_to_live, ask.terms.stale);
            tokio::join!(call, self.tag_versions(conn, &ask.terms.tags, life))
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                lease.leave_alone();
                if !error.is_outcome_unknown() {
                    lease.used();
                }
                return Err(error);
            }
        };
        let leased = match answer {
            (Some(entry), ..) => Leased::Entry(entry),
            (None, Some(0), _) => {
                let versions = versions.inspect_err(|_| lease.leave_alone())?;
                return Ok(Leased::Taken(Box::new(lease), versions));
            }
            (None, Some(left), beginning) => u64::try_from(left).map_or(Leased::Failed, |left| {
                let seen = beginning.map_or(Seen::Nothing, Seen::Beginning);
                Leased::Elsewhere(Duration::from_millis(left), seen)
            }),
            (None, None, _) => Leased::Nobody,
        };
        match &leased {
            // Somebody was faster.
            Leased::Entry(_) => {}
            Leased::Elsewhere(left, _) => lease.leave_alone_for(*left),
            _ => lease.leave_alone(),
        }
        lease.used();
        Ok(leased)
    }

    /// Begins to listen for the end of a lease that somebody else has. It may have ended before, so ask once more.
    pub(crate) async fn watch(&self, lease: &Key) -> Watch {
        let subscribe = self.quick.subscribe().channel(lease);
        match subscribe.await {
            Ok(subscription) => Watch(Some(subscription)),
            Err(error) => {
                tracing::debug!(%error, "nobody tells when a load of another process has ended; asking now and then");
                Watch(None)
            }
        }
    }
}

impl Lease {
    /// The call that stores an entry under it.
    pub(crate) fn store(&self, entry: Bytes, time_to_live: Duration) -> Call<'_, bool> {
        let call = self.quick.script(&STORE).key(&self.keys.0).key(&self.keys.1);
        let call = call.arg(self.token.as_bytes().as_slice()).arg(entry).arg(time_to_live);
        call.run().replay(Replay::Idempotent)
    }

    /// What this process keeps of its entry is not what was stored under it.
    pub(crate) fn forget_kept(&self) {
        self.feed.forget_entry(&self.keys.0);
    }

    /// Keeps it while something is done.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.keep() => match never {},
        }
    }

    /// Keeps several while something is done.
    pub(crate) async fn during_all<T>(leases: Vec<&Self>, work: impl Future<Output = T>) -> T {
        let keeps = leases.into_iter().map(Self::keep);
        let keeping = async {
            bounded(NonZeroUsize::MAX, keeps).await;
            // Where there is none.
            pending().await
        };
        tokio::select! {
            biased;
            done = work => done,
            never = keeping => never,
        }
    }

    async fn keep(&self) -> Infallible {
        let third = self.life / 3;
        let mut ticks = interval_at(Instant::now() + third, third);
        loop {
            ticks.tick().await;
            let renew = self.quick.script(&RENEW).key(&self.keys.0).key(&self.keys.1);
            let renew = renew.arg(self.token.as_bytes().as_slice()).arg(self.life);
            match renew.run::<bool>().replay(Replay::Idempotent).await {
                Ok(true) => {}
                // The load goes on for its caller, and is not stored.
                Ok(false) => pending().await,
                Err(error) => tracing::debug!(%error, "a lease was not renewed"),
            }
        }
    }

    /// Nobody of this process asks for it again for a while where something is there to be served.
    pub(crate) fn leave_alone(&mut self) {
        self.leave_alone_for(self.life);
    }

    fn leave_alone_for(&mut self, time: Duration) {
        if let Some(note) = self.note.take() {
            note.keep(time);
        }
    }

    /// There is nothing to give back any more.
    pub(crate) fn used(mut self) {
        self.runtime = None;
    }

    /// Gives it back after a load that has failed: others may load, and those who have something to go on with after a while.
    pub(crate) async fn fail(mut self) {
        // Also when this is dropped meanwhile.
        self.has_failed = true;
        self.leave_alone();
        let rest = self.rest;
        self.give_back(rest).await;
    }

    /// Gives it back, so that others may load at once.
    pub(crate) async fn give_up(self) {
        self.give_back(Duration::ZERO).await;
    }

    async fn give_back(self, rest: Duration) {
        match release(self.quick.clone(), self.keys.clone(), self.token, rest).await {
            Ok(()) => self.used(),
            Err(error) => tracing::debug!(%error, "a lease is given back later"),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        if std::thread::panicking() {
            self.has_failed = true;
            self.leave_alone();
        }
        // It may have been stored under it, and may still be.
        self.feed.forget_entry(&self.keys.0);
        let (feed, entry) = (Arc::clone(&self.feed), self.keys.0.clone());
        // Until then it would be found taken.
        let note = self.note.take();
        let rest = if self.has_failed { self.rest } else { Duration::ZERO };
        let released = release(self.conn.clone(), self.keys.clone(), self.token, rest);
        // It ends by the command timeout. On a runtime that has ended it never begins, and the lease expires.
        drop(runtime.spawn(async move {
            if let Err(error) = released.await {
                tracing::debug!(%error, "a lease could not be given back; it expires");
            }
            feed.forget_entry(entry);
            drop(note);
        }));
    }
}

async fn release(
    conn: Conn,
    keys: (Key, Key),
    token: Token<16>,
    rest: Duration,
) -> redbrick_core_conn::Result<()> {
    let call =
        conn.script(&RELEASE).key(keys.0).key(keys.1).arg(token.as_bytes().as_slice()).arg(rest);
    call.run::<bool>().replay(Replay::Idempotent).await.map(drop)
}

impl Watch {
    /// Waits until the lease may have ended, for so long at most.
    pub(crate) async fn ended(&mut self, most: Duration) {
        let Some(subscription) = &mut self.0 else {
            let _elapsed = timeout(most.min(UNTOLD), pending::<()>()).await;
            return;
        };
        if let Ok(None) = timeout(most, subscription.next()).await {
            // The connection is closed, and says so itself.
            self.0 = None;
        }
    }
}
