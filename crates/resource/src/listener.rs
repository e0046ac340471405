use std::{
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
};

use serde::de::DeserializeOwned;
use tokio::{
    sync::watch,
    task::{self, JoinHandle},
};

use crate::{Messages, Notice};

/// A subscription with a handler; see [`Listen::on_message`](crate::Listen::on_message). Dropping it unsubscribes, and gives up
/// a call of the handler at its next await.
#[must_use = "dropping it unsubscribes"]
pub struct Listener {
    stop: watch::Sender<bool>,
    /// None when it was told to end by its own handler.
    task: Option<JoinHandle<()>>,
}

impl Listener {
    pub(crate) fn new<M, H, Done>(mut messages: Messages<M>, handler: H) -> Self
    where
        M: DeserializeOwned + Send + 'static,
        H: Fn(Notice<M>) -> Done + Send + Sync + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            loop {
                let next = caught(|cx| messages.poll(cx));
                let notice = tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stop| *stop) => return,
                    notice = next => notice,
                };
                match notice {
                    Ok(Some(notice)) => {
                        // Begun inside, so that a panic before its first await is one of the call too.
                        let mut call = Box::pin(async { handler(notice).await });
                        if let Err(Panicked) = caught(|cx| call.as_mut().poll(cx)).await {
                            tracing::error!(
                                "a handler of messages has panicked; it goes on with the next one"
                            );
                        }
                    }
                    Ok(None) => return,
                    Err(Panicked) => {
                        tracing::error!("reading a message has panicked; the next one follows");
                    }
                }
            }
        });
        Self { stop, task: Some(task) }
    }

    /// Unsubscribes: waits for the call of the handler that runs, and makes no more.
    ///
    /// Called by the handler itself it does not wait: the handler goes on to its end, which is the last thing that happens. A
    /// handler that waits for another task which calls this waits for ever.
    ///
    /// When the future is dropped, the call that runs is given up at its next await.
    #[tracing::instrument(level = "debug", name = "resource.unsubscribe", skip_all)]
    pub async fn unsubscribe(mut self) {
        self.stop.send_replace(true);
        if self.task.as_ref().is_some_and(|task| task::try_id() == Some(task.id())) {
            // Left to itself, so that dropping this does not end it before the handler.
            self.task = None;
        }
        if let Some(task) = &mut self.task {
            // It neither panics nor is aborted while it is waited for.
            drop(task.await);
        }
    }

    /// Returns whether it has ended by itself: after [one message](crate::Listen::once),
    /// [its time](crate::Listen::time_to_live), or with the connection.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

struct Panicked;

/// Waits for what `poll` says, or for its panic, after which nothing polls it again for this.
async fn caught<T>(
    mut poll: impl FnMut(&mut std::task::Context<'_>) -> Poll<T>,
) -> Result<T, Panicked> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(_panic) => Poll::Ready(Err(Panicked)),
    })
    .await
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}
