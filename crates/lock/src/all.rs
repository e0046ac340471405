use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use redbrick_core_conn::{Replay, Script};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Acquire, Durability, Error, LockGuard, Locks, Released, Wait,
    claim::Kind,
    guard::{lost_below, unless_lost, warn_if_lost},
    held::Held,
    hold::Hold,
    lease::Lease,
    time::FAR,
};

/// Several locks to be acquired, all of them or none; awaiting it asks for them. See [`Locks::lock_all`].
///
/// Gives their guards, or `None` when others have one of them and the [wait](Self::wait) is over.
///
/// Locks of one partition are had in one round trip where all of them are free and nobody waits for one; names of which the same part
/// stands in braces, as `{order:7}:items` and `{order:7}:bill`, lie in one. Otherwise they are acquired one after the other as by
/// [`Locks::lock`], in an order that is the same for all, so that two who ask for the same ones never wait for each other; those that are
/// had are renewed meanwhile.
///
/// # Errors
///
/// Those of [`Acquire`]; [`Error::Late`] also where one was lost while the others were waited for. What was had is released then.
#[must_use = "nothing is asked until it is awaited"]
pub struct AcquireAll {
    /// For each name, in the order in which they were given.
    each: Vec<Acquire>,
    /// Of all of them together.
    wait: Wait,
}

impl AcquireAll {
    pub(crate) fn new(locks: &Locks, names: impl Iterator<Item = Arc<[u8]>>) -> Self {
        let mut known = HashSet::new();
        let each = names.filter(|name| known.insert(Arc::clone(name)));
        let each = each.map(|name| Acquire::new(locks, name, Kind::Lock)).collect();
        Self { each, wait: locks.group().wait }
    }

    /// Sets their lease, as [`Acquire::lease`].
    ///
    /// Default: that of [`Locks`], [30 s](crate::DEFAULT_LEASE).
    pub fn lease(self, lease: Duration) -> Self {
        self.with_each(|one| one.lease(lease))
    }

    /// Sets what to do while others have one of them: attempts are made for each, and a time is that of all together.
    ///
    /// Default: that of [`Locks`], three attempts 100 ms apart.
    pub fn wait(mut self, wait: impl Into<Wait>) -> Self {
        self.wait = wait.into();
        self
    }

    /// Sets whether they are renewed, as [`Acquire::renew`].
    ///
    /// Default: that of [`Locks`], they are.
    pub fn renew(self, renew: bool) -> Self {
        self.with_each(|one| one.renew(renew))
    }

    /// Sets how many replicas must know of them, as [`Acquire::durability`]. It is waited for once where they are had in one round trip, and
    /// otherwise for each.
    ///
    /// Default: that of [`Locks`], none need to.
    pub fn durability(self, durability: Durability) -> Self {
        self.with_each(|one| one.durability(durability))
    }

    /// Sets who is shown as the holder, as [`Acquire::holder`].
    ///
    /// Default: that of [`Locks`], this host and process.
    pub fn holder(self, holder: impl Into<String>) -> Self {
        let holder = holder.into();
        self.with_each(|one| one.holder(holder.clone()))
    }

    /// Acquires them, does the work that `work` makes of their fences, in the order of the names, and releases them; in all as
    /// [`Acquire::with`].
    ///
    /// # Errors
    ///
    /// Those of acquiring, `work` was not called then; [`Error::Lost`] when one of them was lost before the work was done, of which a part
    /// may be done.
    #[tracing::instrument(level = "debug", name = "lock.with_all", skip_all)]
    pub async fn with<T, Work>(
        self,
        work: impl FnOnce(Vec<u64>) -> Work,
    ) -> Result<Option<T>, Error>
    where
        Work: Future<Output = T>,
    {
        let Some(guards) = self.await? else { return Ok(None) };
        let fences = guards.guards.iter().map(LockGuard::fence).collect();
        let Some(done) = unless_lost(guards.lost(), work(fences)).await else {
            return Err(Error::Lost);
        };
        match guards.release().await {
            Ok(released) => warn_if_lost(released),
            Err(error) => tracing::warn!(%error, "a lock could not be released; its lease ends it"),
        }
        Ok(Some(done))
    }

    fn with_each(mut self, set: impl FnMut(Acquire) -> Acquire) -> Self {
        self.each = self.each.into_iter().map(set).collect();
        self
    }

    #[tracing::instrument(level = "debug", name = "lock.lock_all", skip_all)]
    async fn acquire(self) -> Result<Option<LockGuards>, Error> {
        let Self { each, wait } = self;
        if each.len() > 1 && is_one_partition(&each) {
            let group = Arc::clone(&each[0].group);
            group.closing.check()?;
            let guards = tokio::select! {
                biased;
                guards = at_once(&each) => guards?,
                closed = group.closing.closed() => return Err(closed),
            };
            group.closing.check()?;
            if guards.is_some() {
                return Ok(guards);
            }
        }
        one_by_one(each, wait).await
    }
}

/// All of them in one round trip, if all are free.
async fn at_once(each: &[Acquire]) -> Result<Option<LockGuards>, Error> {
    let Some(first) = each.first() else { return Ok(None) };
    let mut all = Vec::new();
    for one in each {
        let lease = Lease::new(one.lease)?;
        let hold = Hold::new(one.claim(), lease);
        all.push(Held::unasked(Arc::clone(&one.group), hold, one.renew, lease));
    }
    let (group, claim) = (&first.group, &all[0].hold.claim);
    let mut call = group.conn.script(&ACQUIRE_ALL).key(&claim.keys.partition);
    for held in &all {
        call = call.key(&held.hold.claim.keys.held).key(&held.hold.claim.keys.queue);
    }
    call = call.arg(group.fence_memory);
    for held in &all {
        call = call.arg(held.hold.claim.who(&held.hold.token, None, held.lease));
    }
    // Dropped from here on, they may be had without having heard so.
    all.iter_mut().for_each(|held| held.owed = true);
    let asked = Instant::now();
    let outcome = call.run::<(u64, Vec<u64>)>().needs_server().await;
    let unknown = outcome.as_ref().is_err_and(redbrick_core_conn::Error::is_outcome_unknown);
    let (had, fences) = outcome.inspect_err(|_| {
        all.iter_mut().for_each(|held| held.owed = unknown);
    })?;
    if had == 0 || fences.len() != all.len() {
        // A few may still be had from when it was asked before.
        all.iter_mut().for_each(|held| held.owed = !fences.is_empty());
        return Ok(None);
    }
    for held in &mut all {
        held.granted_until(held.lease.until(asked))?;
    }
    // What is known of the last one is known of those before.
    if let Some(last) = all.last_mut() {
        last.endures(first.durability).await?;
    }
    let mut guards = Vec::new();
    for ((held, fence), one) in all.into_iter().zip(fences).zip(each) {
        guards.push(LockGuard::new(Arc::clone(&one.name), fence, held));
    }
    LockGuards { guards }.if_valid()
}

/// One after the other, in an order that is the same for all.
async fn one_by_one(each: Vec<Acquire>, wait: Wait) -> Result<Option<LockGuards>, Error> {
    let end = match wait {
        Wait::For(limit) => Some(Instant::now() + limit.min(FAR)),
        _ => None,
    };
    let ordered: BTreeMap<_, _> = each
        .into_iter()
        .enumerate()
        .map(|(place, one)| (one.claim().keys.held.as_ref().to_vec(), (place, one)))
        .collect();
    let mut guards = Vec::new();
    for (place, one) in ordered.into_values() {
        let left = end.map(|end| Wait::For(end.saturating_duration_since(Instant::now())));
        let Some(guard) = one.wait(left.unwrap_or(wait)).await? else { return Ok(None) };
        guards.push((place, guard));
    }
    guards.sort_unstable_by_key(|(place, _)| *place);
    let guards: Vec<_> = guards.into_iter().map(|(_, guard)| guard).collect();
    LockGuards { guards }.if_valid()
}

fn is_one_partition(each: &[Acquire]) -> bool {
    let mut partitions = each.iter().map(|one| one.claim().keys.partition);
    let first = partitions.next();
    partitions.all(|partition| Some(partition) == first)
}

static ACQUIRE_ALL: Script =
    Script::new("lock.acquire_all", include_str!("lua/acquire_all.lua")).replay(Replay::Idempotent);

impl IntoFuture for AcquireAll {
    type Output = Result<Option<LockGuards>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.acquire())
    }
}

impl fmt::Debug for AcquireAll {
    /// Shows neither names nor holders.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("AcquireAll");
        out.field("each", &self.each).field("wait", &self.wait).finish()
    }
}

/// Several locks that this process has, each as by a [`LockGuard`]. Dropping it releases all of them.
#[must_use = "the locks are released when this is dropped"]
#[derive(Debug)]
pub struct LockGuards {
    guards: Vec<LockGuard>,
}

impl LockGuards {
    /// Returns the guard of each, in the order in which the names were given; a name that was given twice has one.
    pub fn guards(&self) -> &[LockGuard] {
        &self.guards
    }

    /// Takes them apart.
    #[must_use = "the locks are released when these are dropped"]
    pub fn into_guards(self) -> Vec<LockGuard> {
        self.guards
    }

    /// Returns for how long this process may still rely on all of them; see [`LockGuard::remaining`]. A year where there are none.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.guards.iter().map(LockGuard::remaining).min().unwrap_or(FAR)
    }

    /// Returns whether all of them are still had; see [`LockGuard::is_valid`].
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.guards.iter().all(LockGuard::is_valid)
    }

    /// While the last was waited for, another one may have been lost.
    fn if_valid(self) -> Result<Option<Self>, Error> {
        if self.is_valid() { Ok(Some(self)) } else { Err(Error::Late) }
    }

    /// Waits until one of them may be lost; see [`LockGuard::lost`].
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        lost_below(&self.guards, self.guards.len())
    }

    /// Releases all of them at the same time, one round trip for each; see [`LockGuard::release`]. [`Released::AlreadyLost`] where one of
    /// them was.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`] when Redis could not be asked about one of them; the others are released all the same.
    pub async fn release(self) -> Result<Released, Error> {
        let mut releases = JoinSet::new();
        for guard in self.guards {
            releases.spawn(guard.release());
        }
        let mut all = Ok(Released::Released);
        while let Some(release) = releases.join_next().await {
            match release {
                Ok(Ok(Released::Released)) => {}
                Ok(Ok(Released::AlreadyLost)) | Err(_) => {
                    all = all.map(|_| Released::AlreadyLost);
                }
                Ok(Err(error)) => all = Err(error),
            }
        }
        all
    }
}
