use std::{
    thread,
    time::{Duration, Instant},
};

use crate::Error;

/// Asks `ready` again and again until it says yes, for at most `within`; returns whether it did.
///
/// For conditions in another process, which cannot wake this one. Blocks the calling thread, with pauses of 1 ms that
/// grow to 20 ms; `ready` is asked at least once, and a last time when the time is over.
pub fn wait_until(within: Duration, mut ready: impl FnMut() -> bool) -> bool {
    poll(within, || Ok::<_, Error>(ready().then_some(()))).is_ok_and(|found| found.is_some())
}

/// Asks `ready` until it gives something or fails; `None` when the time is over.
pub(crate) fn poll<T, E>(
    within: Duration,
    mut ready: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_millis(1);
    loop {
        // Looked at before asking, so that the last question is asked after the deadline, not before it.
        let over = Instant::now() >= deadline;
        if let Some(found) = ready()? {
            return Ok(Some(found));
        }
        if over {
            return Ok(None);
        }
        rest(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Asks `reached` until it says yes or fails, for at most [`AGREEMENT`].
pub(crate) fn await_that(
    what: &str,
    mut reached: impl FnMut() -> Result<bool, Error>,
) -> Result<(), Error> {
    poll(AGREEMENT, || Ok(reached()?.then_some(())))?.ok_or_else(|| Error::timeout(what, AGREEMENT))
}

#[expect(clippy::disallowed_methods, reason = "what another process does wakes nobody here")]
fn rest(pause: Duration) {
    thread::sleep(pause);
}

/// How long one process may take for what it does at once: to start, to answer, to end, to give a port back.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long several servers may take to come to an agreement.
const AGREEMENT: Duration = Duration::from_secs(60);
