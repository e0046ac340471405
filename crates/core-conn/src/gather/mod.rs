//! Calls of many tasks that leave as one.
//!
//! While hardly anybody asks, a caller asks by itself, as without any of this. Those who come while something is under
//! way gather, and leave together; how much is under way at once is limited, and there is no timer.
//!
//! A batch is only ever the first attempt of its callers. Whatever comes of it, each of them goes on by itself, by the
//! same rules as after an attempt of its own.

mod apart;
mod group;
mod pace;
mod reads;
mod scripts;
mod sizes;
mod sync;

use std::{future::pending, sync::Arc, task::Waker, time::Duration};

use bytes::Bytes;
use tokio::{task::yield_now, time::Instant};

use crate::{
    Error, ErrorKind, ReadFrom, Reply,
    commands::{Each, Outcome, Request},
    conn::{Core, Manner, Route},
};
use apart::Apart;
use group::{Bounds, Carrier, Driver, Group, Joined, drive};
pub(crate) use group::{Landed, Lost};
use pace::Pace;
pub(crate) use reads::Present;
use reads::{Company, Reads};
use scripts::Scripts;

/// How many callers a batch takes.
const MOST_CALLERS: usize = 256;
/// Up to how many callers leave in one batch where two could be under way.
const FEW_CALLERS: usize = 16;
/// How many bytes a batch asks for or carries, so that what is small does not wait for what is big.
const MOST_BYTES: usize = 64 * 1024;
/// How many callers may be under way in full batches.
const MOST_UNDER_WAY: usize = 2 * MOST_CALLERS;
/// How many batches may be under way.
const MOST_BATCHES: usize = 32;
/// Where a batch could carry no more than this many, its callers ask by themselves.
const NOT_WORTH_IT: usize = 8;

/// A caller who asks by itself, and counts as such until this is dropped.
pub(crate) type Alone = group::Alone<Item, Served>;

/// A caller who is served together with others.
pub(crate) type Waiting = group::Waiting<Item, Served>;

/// Callers who can be served together.
type Callers = Arc<Group<Item, Served>>;

/// What a caller asks for.
pub(crate) enum Item {
    /// The value at a key.
    Value(Bytes),
    Each(Arc<Each>),
}

/// The same, before a copy of it is needed.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Value(&'a Bytes),
    Each(&'a Arc<Each>),
}

impl Asked<'_> {
    fn to_item(self) -> Item {
        match self {
            Self::Value(key) => Item::Value(key.clone()),
            Self::Each(each) => Item::Each(Arc::clone(each)),
        }
    }
}

/// What came of a caller's part in a batch.
#[derive(Debug)]
pub(crate) enum Served {
    Answered(Reply),
    /// An attempt has failed, as it would have by itself.
    Failed(Box<Error>),
    /// Nothing has run, for want of a link or perhaps for another caller's sake: it is to ask by itself.
    ByItself,
}

/// How a request is sent.
pub(crate) enum Share {
    Own(Option<Alone>),
    Together(Waiting),
}

/// What the handles of a connection gather.
pub(crate) struct Gathering {
    reads: Reads,
    scripts: Scripts,
    pace: Pace,
}

impl Gathering {
    pub(crate) fn new(is_cluster: bool) -> Self {
        Self { reads: Reads::new(is_cluster), scripts: Scripts::new(is_cluster), pace: Pace::new() }
    }
}

/// A caller: how its call is sent, until when, and who is woken.
struct Caller<'a> {
    manner: &'a Manner,
    deadline: Instant,
    waker: &'a Waker,
}

impl Core {
    /// Finds out how `request` is sent: by itself, or together with those of other tasks. In the latter case `waker` is
    /// woken when it is known what came of it. The caller counts as being there until what is returned besides is dropped.
    pub(crate) fn share<'a>(
        self: &'a Arc<Self>,
        request: &Request,
        manner: &Manner,
        deadline: Instant,
        waker: &Waker,
    ) -> (Share, Option<Present<'a>>) {
        let Gathering { reads, scripts, pace } = &self.gathering;
        let caller = Caller { manner, deadline, waker };
        let (share, present) = match request {
            Request::Get(key) => {
                let (weight, eager) = (reads.sizes.mean(), pace.eager());
                let bounds = bounds(weight, eager);
                let company =
                    bounds.and_then(|bounds| Some((reads.company(manner, eager)?, bounds)));
                let Some((Company { callers, present }, bounds)) = company else {
                    return (Share::Own(None), None);
                };
                // Where it is counted who is there, those who ask by themselves have been.
                let alone = if present.is_some() { 0 } else { bounds.alone };
                let bounds = Bounds { alone, ..bounds };
                let join = |callers| {
                    self.join(callers, &reads.apart, Asked::Value(key), weight, &bounds, &caller)
                };
                (callers.map(join), present)
            }
            Request::Each(each) => {
                let share = scripts.callers(each, manner).and_then(|(callers, weight, apart)| {
                    let bounds = bounds(weight, pace.eager())?;
                    Some(self.join(&callers, &apart, Asked::Each(each), weight, &bounds, &caller))
                });
                (share, None)
            }
            _ => (None, None),
        };
        (share.unwrap_or(Share::Own(None)), present)
    }

    fn join(
        self: &Arc<Self>,
        callers: &Callers,
        apart: &Arc<Apart>,
        asked: Asked<'_>,
        weight: usize,
        bounds: &Bounds,
        caller: &Caller<'_>,
    ) -> Share {
        // A task of another runtime looks at its own time: this one may not be driven while it is.
        let item = || (asked.to_item(), (!self.is_abroad()).then_some(caller.deadline));
        match Group::join(callers, item, weight, caller.waker, bounds) {
            Joined::Alone(alone) => Share::Own(Some(alone)),
            Joined::Waits(waiting, driver) => {
                if let Some(driver) = driver {
                    let courier = Courier {
                        core: Arc::clone(self),
                        route: caller.manner.route.clone(),
                        read_from: caller.manner.read_from,
                        apart: Arc::clone(apart),
                    };
                    self.spawn(drive(driver, courier));
                }
                Share::Together(waiting)
            }
        }
    }

    /// Learns from what came of a request that was sent by itself.
    pub(crate) fn served_alone(&self, request: &Request, outcome: &Outcome) {
        if let (Request::Get(_), Ok(reply)) = (request, outcome) {
            self.gathering.reads.sizes.note(1, reads::size(reply));
        }
    }
}

/// How much is gathered of what weighs so much; nothing, when it is better sent one by one.
fn bounds(weight: usize, eager: usize) -> Option<Bounds> {
    let callers = (MOST_BYTES / weight.max(1)).min(MOST_CALLERS);
    (callers > NOT_WORTH_IT).then(|| Bounds {
        callers: MOST_CALLERS,
        few: FEW_CALLERS,
        weight: MOST_BYTES,
        alone: eager,
        eager,
        most: (MOST_UNDER_WAY / callers).clamp(eager, MOST_BATCHES),
        overdue: MOST_BATCHES,
    })
}

/// Takes batches of one group to the server.
#[derive(Clone)]
struct Courier {
    core: Arc<Core>,
    route: Route,
    read_from: ReadFrom,
    apart: Arc<Apart>,
}

impl Courier {
    /// Sends the one request for `callers` over a link that is up; nothing comes of it when there is none.
    async fn send(&self, request: Request, callers: usize) -> Option<crate::Result<Reply>> {
        let link = self.core.pick(&self.route, self.read_from)?;
        link.check(&request).ok()?;
        self.core.telemetry.sent();
        if callers > 1 {
            self.core.telemetry.gathered(callers);
        }
        let began = Instant::now();
        // Callers watch their own time.
        let outcome = link.sender.run(request, Duration::ZERO).await;
        if outcome.is_ok() {
            self.core.gathering.pace.note(began.elapsed());
        }
        Some(self.core.read(&link, outcome))
    }
}

impl Carrier<Item, Served> for Courier {
    fn overdue(&self) -> Option<Instant> {
        Some(Instant::now() + self.core.gathering.pace.patience())
    }

    fn send_another(&self, driver: Driver<Item, Served>) {
        self.core.spawn(drive(driver, self.clone()));
    }

    async fn until(&self, then: Option<Instant>) {
        match then {
            Some(then) => self.core.deadlines.until(then).await,
            None => pending().await,
        }
    }

    async fn pause(&self) {
        yield_now().await;
    }

    async fn carry(&self, items: Vec<Item>) -> Vec<Served> {
        let callers = items.len();
        let (mut keys, mut parts) = (Vec::with_capacity(callers), Vec::new());
        for item in items {
            match item {
                Item::Value(key) => keys.push(key),
                Item::Each(each) => parts.push(each),
            }
        }
        // Callers of one group ask for the same kind of thing.
        if parts.is_empty() { self.read(keys).await } else { self.run(&parts).await }
    }
}

/// Has each of the callers of a batch ask by itself.
fn by_themselves(callers: usize) -> Vec<Served> {
    (0..callers).map(|_| Served::ByItself).collect()
}

/// What is said to the callers of a batch that failed. Where that can be due to one of them, each asks by itself, and those who
/// come next are kept apart.
fn failed(err: &Error, callers: usize, apart: &Apart) -> Vec<Served> {
    use ErrorKind::{Denied, InvalidArgument, Unsupported};
    if callers > 1 && matches!(err.kind(), Denied | InvalidArgument | Unsupported) {
        tracing::debug!(error = %err, "a batch was refused, for one of its calls; they go by themselves for a while");
        apart.begin();
        return by_themselves(callers);
    }
    // Of a slot on the move, some keys may be here and some there; and a script that the server does not know is sent for those only
    // who still wait.
    if callers > 1 && err.code() == Some("TRYAGAIN") || err.code() == Some("NOSCRIPT") {
        return by_themselves(callers);
    }
    (0..callers).map(|_| Served::Failed(Box::new(err.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_big_is_gathered_in_small_batches_and_then_not_at_all() {
        let most = |weight| bounds(weight, 2).map(|bounds| bounds.most);
        assert_eq!(most(0), Some(2));
        assert_eq!(most(100), Some(2));
        assert_eq!(most(1024), Some(8));
        assert_eq!(most(6 * 1024), Some(32));
        assert_eq!(most(8 * 1024), None);
        assert_eq!(most(usize::MAX), None);
    }
}
