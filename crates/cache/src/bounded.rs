//! Many futures on one task.

use std::{
    future::{Future, poll_fn},
    num::NonZeroUsize,
    pin::Pin,
    task::Poll,
};

/// Runs futures, so many at a time, on the task that polls this one.
pub(crate) async fn bounded<F: Future>(
    most: NonZeroUsize,
    futures: impl Iterator<Item = F>,
    mut done: impl FnMut(F::Output),
) {
    let mut waiting = futures.fuse();
    let mut running: Vec<Pin<Box<F>>> = Vec::new();
    poll_fn(|cx| {
        loop {
            while running.len() < most.get() {
                let Some(next) = waiting.next() else { break };
                running.push(Box::pin(next));
            }
            if running.is_empty() {
                return Poll::Ready(());
            }
            let before = running.len();
            running.retain_mut(|future| match future.as_mut().poll(cx) {
                Poll::Ready(output) => {
                    done(output);
                    false
                }
                Poll::Pending => true,
            });
            if running.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await;
}
