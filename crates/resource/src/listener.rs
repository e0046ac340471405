use std::{fmt, sync::Arc};

use serde::de::DeserializeOwned;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::{Messages, Notice};

/// A subscription with a handler; see [`Listen::on_message`](crate::Listen::on_message). Dropping it unsubscribes, and gives up
/// a call of the handler at its next await.
#[must_use = "dropping it unsubscribes"]
pub struct Listener {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Listener {
    pub(crate) fn new<M, H, Done>(mut messages: Messages<M>, handler: H) -> Self
    where
        M: DeserializeOwned + Send + 'static,
        H: Fn(Notice<M>) -> Done + Send + Sync + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        let (stop, mut stopped) = watch::channel(false);
        let handler = Arc::new(handler);
        let task = tokio::spawn(async move {
            loop {
                let notice = tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stop| *stop) => return,
                    notice = messages.next() => notice,
                };
                let Some(notice) = notice else { return };
                let handler = Arc::clone(&handler);
                // In a task of its own, which ends with this one, so that a panic ends one call and no more.
                let mut call = JoinSet::new();
                call.spawn(async move { handler(notice).await });
                if let Some(Err(failed)) = call.join_next().await
                    && failed.is_panic()
                {
                    tracing::error!(
                        "a handler of messages has panicked; it goes on with the next one"
                    );
                }
            }
        });
        Self { stop, task }
    }

    /// Unsubscribes: waits for the call of the handler that runs, and makes no more.
    ///
    /// When the future is dropped, that call is given up at its next await.
    #[tracing::instrument(level = "debug", name = "resource.unsubscribe", skip_all)]
    pub async fn unsubscribe(mut self) {
        self.stop.send_replace(true);
        // It neither panics nor is aborted while it is waited for.
        drop((&mut self.task).await);
    }

    /// Returns whether it has ended by itself: after [one message](crate::Listen::once),
    /// [its time](crate::Listen::time_to_live), or with the connection.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}
