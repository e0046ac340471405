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
    time::Duration,
};

use fred::{
    clients::{Client, WithOptions},
    error::Error as FredError,
    interfaces::ClientLike,
    types::config::Options,
};

use super::{reply::Reply, request::Request};

/// What comes of a command, before it is known what an error means.
pub(crate) type Outcome = Result<Reply, FredError>;

/// How many places a link keeps for commands to come.
const MOST_SPARES: usize = 64;

/// Sends commands over one client of fred's.
pub(crate) struct Sender {
    client: Client,
    /// Places of commands that have ended.
    spares: Mutex<Vec<Place>>,
}

/// A command on its way. It is not handed to fred before it is polled first.
pub(crate) struct Sending {
    place: Place,
}

struct Place {
    worker: Pin<Box<dyn Future<Output = Infallible> + Send>>,
    desk: Arc<Mutex<Desk>>,
}

#[derive(Default)]
struct Desk {
    order: Option<Order>,
    outcome: Option<Outcome>,
}

struct Order {
    request: Request,
    /// Within which it is answered; zero is no limit.
    timeout: Duration,
}

impl Sender {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, spares: Mutex::default() }
    }

    /// Puts `request` on its way, which it may be for `timeout`; zero is no limit.
    pub(crate) fn send(&self, request: Request, timeout: Duration) -> Sending {
        let spare = self.spares().pop();
        let place = spare.unwrap_or_else(|| Place::new(self.client.clone()));
        lock(&place.desk).order = Some(Order { request, timeout });
        Sending { place }
    }

    /// Sends `request` and waits for what comes of it.
    pub(crate) async fn run(&self, request: Request, timeout: Duration) -> Outcome {
        let mut sending = self.send(request, timeout);
        let outcome = (&mut sending).await;
        self.keep(sending);
        outcome
    }

    /// Keeps the place of a command that has ended.
    pub(crate) fn keep(&self, ended: Sending) {
        let mut spares = self.spares();
        if spares.len() < MOST_SPARES {
            spares.push(ended.place);
        }
    }

    /// The client, for commands of which each may take `timeout`; zero is no limit.
    pub(crate) fn within(&self, timeout: Duration) -> WithOptions<Client> {
        within(&self.client, timeout)
    }

    fn spares(&self) -> MutexGuard<'_, Vec<Place>> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn within(client: &Client, timeout: Duration) -> WithOptions<Client> {
    client.with_options(&Options { timeout: Some(timeout), ..Options::default() })
}

impl Place {
    fn new(client: Client) -> Self {
        let desk = Arc::default();
        Self { worker: Box::pin(work(client, Arc::clone(&desk))), desk }
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
async fn work(client: Client, desk: Arc<Mutex<Desk>>) -> Infallible {
    let unlimited = within(&client, Duration::ZERO);
    loop {
        // Whoever puts an order there polls, so there is nobody to wake.
        let order = poll_fn(|_| lock(&desk).order.take().map_or(Poll::Pending, Poll::Ready));
        let Order { request, timeout } = order.await;
        let limited = (!timeout.is_zero()).then(|| within(&client, timeout));
        let outcome = request.send(limited.as_ref().unwrap_or(&unlimited)).await;
        lock(&desk).outcome = Some(outcome);
    }
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}
