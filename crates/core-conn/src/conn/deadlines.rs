//! When calls run out of time in their first attempt, as nearly all are made. One task watches over all their deadlines,
//! which costs a call less than a timer of its own. A call from another runtime has one nevertheless.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use slab::Slab;
use tokio::{
    runtime::{Handle, Id},
    sync::Notify,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    owner::Core,
    time::{FAR, after},
};

#[derive(Debug)]
pub(crate) struct Deadlines {
    watched: Mutex<Watched>,
    earlier: Notify,
}

#[derive(Debug)]
struct Watched {
    places: Slab<Entry>,
    /// When the task looks again.
    look: Option<Instant>,
}

#[derive(Debug)]
enum Entry {
    Waiting(Instant, Waker),
    /// Its time is over, and whoever waits has been woken.
    Over,
}

/// The deadline of one call.
#[derive(Debug)]
pub(crate) enum Watch<'a> {
    Shared(Held<'a>),
    /// Of a task on another runtime, which may be driven while that of the connection is not.
    Own(Id, Pin<Box<Sleep>>),
}

/// A place among those that are watched; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    deadlines: &'a Deadlines,
    place: usize,
}

impl Deadlines {
    pub(super) fn new() -> Self {
        let watched = Watched { places: Slab::new(), look: None };
        Self { watched: Mutex::new(watched), earlier: Notify::new() }
    }

    /// Has the task of `cx` woken at `deadline`, where it is one of the runtime `home`.
    pub(super) fn watch_from<'a>(
        &'a self,
        home: Option<&Handle>,
        deadline: Instant,
        cx: &mut Context<'_>,
    ) -> Watch<'a> {
        if !is_abroad(home) {
            return Watch::Shared(self.watch(deadline, cx));
        }
        let mut watch = Watch::Own(Handle::current().id(), Box::pin(sleep_until(deadline)));
        // It runs from the first look on.
        if watch.is_over(cx) == Some(true) {
            cx.waker().wake_by_ref();
        }
        watch
    }

    /// Waits until `deadline`, on the runtime of the connection.
    pub(crate) async fn until(&self, deadline: Instant) {
        let mut watch: Option<Held<'_>> = None;
        poll_fn(|cx| match watch.as_ref().and_then(|held| held.is_over(cx)) {
            Some(true) => Poll::Ready(()),
            Some(false) => Poll::Pending,
            None => {
                watch = Some(self.watch(deadline, cx));
                Poll::Pending
            }
        })
        .await;
    }

    /// Has the task of `cx` woken at `deadline`.
    fn watch(&self, deadline: Instant, cx: &Context<'_>) -> Held<'_> {
        let mut watched = self.watched();
        let place = watched.places.insert(Entry::Waiting(deadline, cx.waker().clone()));
        let earlier = watched.look.is_none_or(|look| deadline < look);
        if earlier {
            watched.look = Some(deadline);
        }
        drop(watched);
        if earlier {
            self.earlier.notify_one();
        }
        Held { deadlines: self, place }
    }

    /// Wakes whoever runs out of time, for ever.
    pub(super) async fn keep(&self) {
        loop {
            let look = self.look(Instant::now());
            tokio::select! {
                () = sleep_until(look.unwrap_or_else(|| after(FAR))) => {}
                () = self.earlier.notified() => {}
            }
        }
    }

    /// Ends the waits that are over; returns when to look again.
    fn look(&self, now: Instant) -> Option<Instant> {
        let mut over = Vec::new();
        let mut watched = self.watched();
        let mut next = None;
        for (_, place) in &mut watched.places {
            match place {
                Entry::Waiting(deadline, _) if *deadline <= now => {
                    if let Entry::Waiting(_, waker) = std::mem::replace(place, Entry::Over) {
                        over.push(waker);
                    }
                }
                Entry::Waiting(deadline, _) => {
                    next = Some(next.map_or(*deadline, |next: Instant| next.min(*deadline)));
                }
                Entry::Over => {}
            }
        }
        watched.look = next;
        drop(watched);
        over.into_iter().for_each(Waker::wake);
        next
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the task that asks is of another runtime than `home`.
fn is_abroad(home: Option<&Handle>) -> bool {
    Handle::try_current().is_ok_and(|here| Some(here.id()) != home.map(Handle::id))
}

impl Core {
    /// Whether the task that asks is of another runtime than the connection.
    pub(crate) fn is_abroad(&self) -> bool {
        is_abroad(self.runtime.get())
    }
}

impl Watch<'_> {
    /// Whether time is over; none when another task asks than the one that is woken, which has to watch anew: it may be
    /// on another runtime.
    pub(crate) fn is_over(&mut self, cx: &mut Context<'_>) -> Option<bool> {
        match self {
            Self::Shared(held) => held.is_over(cx),
            Self::Own(runtime, sleep) => {
                let is_here = Handle::try_current().is_ok_and(|here| here.id() == *runtime);
                is_here.then(|| sleep.as_mut().poll(cx).is_ready())
            }
        }
    }
}

impl Held<'_> {
    fn is_over(&self, cx: &Context<'_>) -> Option<bool> {
        match &self.deadlines.watched().places[self.place] {
            Entry::Over => Some(true),
            Entry::Waiting(_, waker) => waker.will_wake(cx.waker()).then_some(false),
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let place = self.deadlines.watched().places.remove(self.place);
        // Dropped outside of the lock: a waker's drop can run a task's code.
        drop(place);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    async fn wait(deadlines: &Deadlines, deadline: Instant) {
        let mut watch = None;
        poll_fn(|cx| match &watch {
            None => {
                watch = Some(deadlines.watch(deadline, cx));
                Poll::Pending
            }
            Some(held) if held.is_over(cx) == Some(true) => Poll::Ready(()),
            Some(_) => Poll::Pending,
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_is_woken_at_their_own_deadline_and_not_before() {
        let deadlines = Arc::new(Deadlines::new());
        let keeper = tokio::spawn({
            let deadlines = Arc::clone(&deadlines);
            async move { deadlines.keep().await }
        });
        let started = Instant::now();
        let waits = [500, 20, 5000, 20, 70].map(|millis| {
            let deadlines = Arc::clone(&deadlines);
            tokio::spawn(async move {
                let length = Duration::from_millis(millis);
                wait(&deadlines, started + length).await;
                assert!(started.elapsed() >= length, "too early");
                assert!(started.elapsed() < length + Duration::from_millis(5), "too late");
            })
        });
        for wait in waits {
            wait.await.unwrap();
        }
        assert!(deadlines.watched().places.is_empty());
        keeper.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn who_ends_earlier_leaves_no_trace() {
        let deadlines = Arc::new(Deadlines::new());
        let far = Instant::now() + Duration::from_secs(5);
        let wait = wait(&deadlines, far);
        assert!(tokio::time::timeout(Duration::from_millis(1), wait).await.is_err());
        assert!(deadlines.watched().places.is_empty());
    }
}
