//! Many futures on one task.

use std::{
    future::{Future, poll_fn},
    num::NonZeroUsize,
    pin::Pin,
    task::Poll,
};

/// How many calls are under way at a time.
pub(crate) const AT_ONCE: NonZeroUsize = NonZeroUsize::new(256).expect("it is not zero");

/// Runs futures, so many at a time, on the task that polls this one; returns what came of them, as they ended.
pub(crate) async fn bounded<F: Future>(
    most: NonZeroUsize,
    futures: impl IntoIterator<Item = F>,
) -> Vec<F::Output> {
    let mut outputs = Vec::new();
    bounded_each(most, futures, |output| outputs.push(output)).await;
    outputs
}

/// The same, telling of each as it ends.
pub(crate) async fn bounded_each<F: Future>(
    most: NonZeroUsize,
    futures: impl IntoIterator<Item = F>,
    mut done: impl FnMut(F::Output),
) {
    let mut waiting = futures.into_iter().fuse();
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
