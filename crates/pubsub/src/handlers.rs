use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use serde::de::DeserializeOwned;
use tokio::{sync::watch, task};

use crate::{
    Error, Subscription, Topic,
    run::{Counts, Job, Order, ordered},
};

/// What is listened to, and by how many handlers; see [`PubSub::active`](crate::PubSub::active).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Active {
    /// The channel or pattern.
    pub topic: Topic,
    /// How many handlers it has.
    pub handlers: usize,
}

/// The handlers whose tasks have not ended. Dropping it ends them; they do not keep it.
///
/// Nothing that could end a task where it stands (spawning, waking) is done under the lock: a task that ends takes it.
pub(crate) struct Handlers {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    closed: bool,
    running: BTreeMap<u64, Arc<Running>>,
}

/// A handler's task, seen from outside.
pub(crate) struct Running {
    pub(crate) id: u64,
    pub(crate) topic: Topic,
    pub(crate) counts: Counts,
    orders: watch::Sender<Order>,
    /// Its sender lives as long as the task.
    ended: watch::Receiver<()>,
    /// Known once the task has begun.
    task: OnceLock<task::Id>,
}

impl Handlers {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default() })
    }

    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.lock().closed { Err(Error::Closed) } else { Ok(()) }
    }

    pub(crate) fn begin<T: DeserializeOwned + Send + 'static>(
        handlers: &Arc<Self>,
        topic: Topic,
        subscription: Subscription<T>,
        job: Job<T>,
    ) -> Result<Arc<Running>, Error> {
        let (alive, ended) = watch::channel(());
        let running = handlers.enter(topic, ended)?;
        // It is on the list by now, and takes itself off however it ends: at once where the runtime is shutting down.
        let leaving = Leaving {
            handlers: Arc::downgrade(handlers),
            running: Arc::clone(&running),
            _alive: alive,
        };
        task::spawn(async move {
            let running = &leaving.running;
            if let Some(id) = task::try_id() {
                // Only this task sets it.
                let _ = running.task.set(id);
            }
            let (orders, mut aborted) = (running.orders.subscribe(), running.orders.subscribe());
            tokio::select! {
                biased;
                () = ordered(&mut aborted, Order::Abort) => {}
                () = job.run(running.id, subscription, orders, &running.counts) => {}
            }
        });
        Ok(running)
    }

    fn enter(&self, topic: Topic, ended: watch::Receiver<()>) -> Result<Arc<Running>, Error> {
        let mut state = self.lock();
        if state.closed {
            return Err(Error::Closed);
        }
        state.last += 1;
        let id = state.last;
        let orders = watch::Sender::new(Order::Listen);
        let (counts, task) = (Counts::default(), OnceLock::new());
        let running = Arc::new(Running { id, topic, counts, orders, ended, task });
        state.running.insert(id, Arc::clone(&running));
        Ok(running)
    }

    /// Tells those to end that are wanted, and returns those that listened until now.
    pub(crate) fn stop(&self, wanted: impl Fn(&Topic) -> bool) -> Vec<Arc<Running>> {
        let mut all = self.all();
        all.retain(|running| wanted(&running.topic) && running.stop());
        all
    }

    /// Takes no more handlers, and tells all there are to do what waits for them and then end. Those that were stopped
    /// before are among them as long as they have not ended.
    pub(crate) fn close(&self) -> Vec<Arc<Running>> {
        self.lock().closed = true;
        let all = self.all();
        for running in &all {
            running.order(Order::Drain);
        }
        all
    }

    pub(crate) fn active(&self) -> Vec<Active> {
        let mut active: Vec<Active> = Vec::new();
        for running in self.all().iter().filter(|running| !running.is_stopped()) {
            match active.iter_mut().find(|active| active.topic == running.topic) {
                Some(active) => active.handlers += 1,
                None => active.push(Active { topic: running.topic.clone(), handlers: 1 }),
            }
        }
        active
    }

    fn all(&self) -> Vec<Arc<Running>> {
        self.lock().running.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handlers {
    fn drop(&mut self) {
        for running in self.all() {
            running.abort();
        }
    }
}

impl Running {
    /// Lets it begin nothing more; returns whether it listened until now.
    pub(crate) fn stop(&self) -> bool {
        let has_ended = self.ended.has_changed().is_err();
        self.order(Order::Stop) && !has_ended
    }

    /// Ends it where it waits.
    pub(crate) fn abort(&self) {
        self.order(Order::Abort);
    }

    /// Returns whether the caller is this handler.
    pub(crate) fn is_own(&self) -> bool {
        self.task.get().is_some_and(|id| task::try_id() == Some(*id))
    }

    /// Waits until the task has ended, unless it is who waits.
    pub(crate) async fn ended(&self) {
        if self.is_own() {
            return;
        }
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    fn is_stopped(&self) -> bool {
        *self.orders.borrow() >= Order::Stop
    }

    /// Returns whether this goes further than what it was told before: who was told to stop is not told to go on with what
    /// waits.
    fn order(&self, order: Order) -> bool {
        self.orders.send_if_modified(|last| {
            let goes_further = order > *last;
            *last = order.max(*last);
            goes_further
        })
    }
}

struct Leaving {
    handlers: Weak<Handlers>,
    running: Arc<Running>,
    /// Dropped after it was taken off the list.
    _alive: watch::Sender<()>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(handlers) = self.handlers.upgrade() {
            handlers.lock().running.remove(&self.running.id);
        }
    }
}
