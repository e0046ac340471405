//! Commands on their way.
//!
//! A future of fred's takes some 5 KiB, and putting one on the heap for each call costs more than the rest of the way
//! to fred. So a place on the heap is used by one command after the other: a future that never ends runs what it finds
//! on its desk, and whoever polls it does so for the command's sake.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use fred::{
    clients::{Client, WithOptions},
    error::Error as FredError,
};

use super::{reply::Reply, request::Request};

/// What comes of a command, before it is known what an error means.
pub(crate) type Outcome = Result<Reply, FredError>;

/// How many places are kept for commands to come.
const MOST_SPARES: usize = 256;

/// A command on its way. It is not handed to fred before it is polled first.
pub(crate) struct Sending {
    place: Place,
}

/// Places of commands that have ended.
#[derive(Default)]
pub(crate) struct Spares(Mutex<Vec<Place>>);

struct Place {
    worker: Pin<Box<dyn Future<Output = Infallible> + Send>>,
    desk: Arc<Mutex<Desk>>,
}

#[derive(Default)]
struct Desk {
    order: Option<(WithOptions<Client>, Request)>,
    outcome: Option<Outcome>,
}

impl Spares {
    /// Puts `request` on its way over `to`.
    pub(crate) fn send(&self, to: WithOptions<Client>, request: Request) -> Sending {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let place = spare.unwrap_or_else(Place::new);
        lock(&place.desk).order = Some((to, request));
        Sending { place }
    }

    /// Sends `request` over `to` and waits for what comes of it.
    pub(crate) async fn run(&self, to: WithOptions<Client>, request: Request) -> Outcome {
        let mut sending = self.send(to, request);
        let outcome = (&mut sending).await;
        self.keep(sending);
        outcome
    }

    /// Keeps the place of a command that has ended.
    pub(crate) fn keep(&self, ended: Sending) {
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() < MOST_SPARES {
            spares.push(ended.place);
        }
    }
}

impl Place {
    fn new() -> Self {
        let desk = Arc::default();
        Self { worker: Box::pin(work(Arc::clone(&desk))), desk }
    }
}

impl Future for Sending {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let place = &mut self.place;
        // It never ends; what it has done lies on the desk.
        let Poll::Pending = place.worker.as_mut().poll(cx);
        lock(&place.desk).outcome.take().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Runs what is on the desk, for ever.
async fn work(desk: Arc<Mutex<Desk>>) -> Infallible {
    loop {
        // Whoever puts an order there polls, so there is nobody to wake.
        let order = poll_fn(|_| lock(&desk).order.take().map_or(Poll::Pending, Poll::Ready));
        let (to, request) = order.await;
        let outcome = request.send(&to).await;
        lock(&desk).outcome = Some(outcome);
    }
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}
