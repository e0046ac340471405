use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use serde::de::DeserializeOwned;
use tokio::{
    sync::watch,
    task::{self, AbortHandle},
};

use crate::{
    Error, Subscription, Topic,
    run::{Counts, Job, Order},
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

/// The handlers that listen. Dropping it ends their tasks; they do not keep it.
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
    pub(crate) counts: Arc<Counts>,
    orders: watch::Sender<Order>,
    /// Its sender lives as long as the task.
    ended: watch::Receiver<()>,
    task: AbortHandle,
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
        let mut state = handlers.lock();
        if state.closed {
            return Err(Error::Closed);
        }
        state.last += 1;
        let id = state.last;
        let (orders, ordered) = watch::channel(Order::Listen);
        let (alive, ended) = watch::channel(());
        let counts = Arc::new(Counts::default());
        // It takes itself off the list however it ends; the lock makes it wait until it is on it.
        let leaving = Leaving { handlers: Arc::downgrade(handlers), id, _alive: alive };
        let task = task::spawn({
            let counts = Arc::clone(&counts);
            async move {
                let _leaving = leaving;
                job.run(id, subscription, ordered, &counts).await;
            }
        });
        let task = task.abort_handle();
        let running = Arc::new(Running { id, topic, counts, orders, ended, task });
        state.running.insert(id, Arc::clone(&running));
        Ok(running)
    }

    pub(crate) fn remove(&self, id: u64) -> bool {
        self.lock().running.remove(&id).is_some()
    }

    /// Takes those off the list that are wanted, and tells them to end.
    pub(crate) fn stop(&self, wanted: impl Fn(&Topic) -> bool) -> Vec<Arc<Running>> {
        let mut stopped = Vec::new();
        self.lock().running.retain(|_, running| {
            let stops = wanted(&running.topic);
            if stops {
                running.stop();
                stopped.push(Arc::clone(running));
            }
            !stops
        });
        stopped
    }

    /// Takes no more handlers, and tells all there are to do what waits for them and then end.
    pub(crate) fn close(&self) -> Vec<Arc<Running>> {
        let mut state = self.lock();
        state.closed = true;
        let all: Vec<_> = state.running.values().cloned().collect();
        for running in &all {
            running.order(Order::Drain);
        }
        all
    }

    pub(crate) fn active(&self) -> Vec<Active> {
        let mut active: Vec<Active> = Vec::new();
        for running in self.lock().running.values() {
            match active.iter_mut().find(|active| active.topic == running.topic) {
                Some(active) => active.handlers += 1,
                None => active.push(Active { topic: running.topic.clone(), handlers: 1 }),
            }
        }
        active
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handlers {
    fn drop(&mut self) {
        for running in self.lock().running.values() {
            running.abort();
        }
    }
}

impl Running {
    pub(crate) fn stop(&self) {
        self.order(Order::Stop);
    }

    pub(crate) fn abort(&self) {
        self.task.abort();
    }

    /// Returns whether the caller is this handler.
    pub(crate) fn is_own(&self) -> bool {
        task::try_id() == Some(self.task.id())
    }

    /// Waits until the task has ended, unless it is who waits.
    pub(crate) async fn ended(&self) {
        if self.is_own() {
            return;
        }
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    fn order(&self, order: Order) {
        // Who was told to stop is not told to go on with what waits.
        self.orders.send_if_modified(|last| {
            let goes_further = order > *last;
            *last = order.max(*last);
            goes_further
        });
    }
}

struct Leaving {
    handlers: Weak<Handlers>,
    id: u64,
    _alive: watch::Sender<()>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(handlers) = self.handlers.upgrade() {
            handlers.remove(self.id);
        }
    }
}
