//! Several futures at the same time, of which the order matters.

use std::{
    future::{IntoFuture, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

/// Runs `futures` at the same time and returns what they give, in their order.
///
/// The first look at each comes in their order too and before any of them is waited for, so that what they send
/// first leaves in that order. Afterwards they are waited for one by one: replies of one link come in order anyway.
pub(crate) async fn together<F>(futures: Vec<F>) -> Vec<F::Output>
where
    F: IntoFuture,
    F::IntoFuture: Unpin,
{
    let mut futures: Vec<_> = futures.into_iter().map(IntoFuture::into_future).collect();
    let begun = poll_fn(|cx| Poll::Ready(begin(&mut futures, cx))).await;
    finish(futures, begun).await
}

/// Looks at each future once, and returns what is done already.
pub(super) fn begin<F: Future + Unpin>(
    futures: &mut [F],
    cx: &mut Context<'_>,
) -> Vec<Option<F::Output>> {
    let looks = futures.iter_mut().map(|future| match Pin::new(future).poll(cx) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    });
    looks.collect()
}

/// Waits for what is not done yet.
pub(super) async fn finish<F: Future>(
    futures: Vec<F>,
    begun: Vec<Option<F::Output>>,
) -> Vec<F::Output> {
    let mut outputs = Vec::with_capacity(begun.len());
    for (future, done) in futures.into_iter().zip(begun) {
        outputs.push(match done {
            Some(output) => output,
            None => future.await,
        });
    }
    outputs
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn what_is_sent_first_leaves_in_order_however_long_the_answers_take() {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let calls = (0..5).map(|n| {
            let sent = Arc::clone(&sent);
            Box::pin(async move {
                sent.lock().unwrap().push(n);
                for _ in 0..5 - n {
                    tokio::task::yield_now().await;
                }
                n
            })
        });
        assert_eq!(together(calls.collect()).await, [0, 1, 2, 3, 4]);
        assert_eq!(*sent.lock().unwrap(), [0, 1, 2, 3, 4]);
    }
}
