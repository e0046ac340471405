//! The task behind whatever listens: it makes its link again and again, until nobody wants one.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout};

use crate::{
    Error, ErrorKind, Result,
    conn::{Address, Backoff, Core, Place},
};

/// How long a link that nobody wants anything of is kept.
pub(crate) const LINGER: Duration = Duration::from_secs(10);
/// A link that was lost after a shorter life, as the one before it, is made anew after a pause only.
const STABLE: Duration = Duration::from_secs(1);

/// Something that listens over one link at a time.
pub(crate) trait Listens {
    /// Where its links lead.
    fn place(&self) -> &Place;

    /// Makes a link to `address` and keeps it, until it is lost or nobody has wanted it for a while.
    fn serve(&self, address: &Address) -> impl Future<Output = Result<()>> + Send;

    /// Notes that there is no link any more, or that none could be made. Returns whether the one before had worked.
    fn lost(&self, err: Error) -> bool;

    /// Forgets it if nobody wants it; returns whether that is so.
    fn let_go(&self) -> bool;
}

/// Makes links for `listener`, one after the other, until nobody wants one.
pub(crate) async fn keep(core: &Core, listener: &impl Listens) {
    let mut backoff = Backoff::new(core.config.reconnect_delay);
    let mut hurried = false;
    loop {
        let Ok(address) = timeout(LINGER, core.reach(listener.place())).await else {
            if listener.let_go() {
                return;
            }
            continue;
        };
        let begun = Instant::now();
        let served = tokio::select! {
            served = listener.serve(&address) => served,
            () = core.leaves(listener.place(), &address) => Err(elsewhere(&address)),
        };
        let Err(err) = served else {
            if listener.let_go() {
                return;
            }
            continue;
        };
        tracing::debug!(error = %err, "a link that listens is made anew");
        let worked = listener.lost(err);
        if worked {
            backoff.reset();
        }
        let was_short = begun.elapsed() < STABLE;
        if !worked || (was_short && hurried) {
            backoff.pause().await;
        }
        hurried = was_short;
    }
}

fn elsewhere(address: &Address) -> Error {
    Error::new(ErrorKind::Connect, format!("{address}: another server is to be talked to"))
}
