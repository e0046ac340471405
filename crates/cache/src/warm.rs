//! Filling a cache before it is asked.

use std::{
    future::{Future, poll_fn},
    num::NonZeroUsize,
    pin::Pin,
    task::Poll,
};

use redbrick_core_conn::BoxError;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Cache, Error, Origin};

/// What came of [`Cache::warm`], in keys.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Warmed {
    /// Loaded, and stored unless invalidated meanwhile.
    pub loaded: u64,
    /// There already.
    pub present: u64,
    /// Not loaded, or not stored because Redis could not be asked.
    pub failed: u64,
}

impl<V: Serialize + DeserializeOwned + Send> Cache<V> {
    /// Loads what is missing of `keys`, `concurrency` at a time, before traffic comes; each as
    /// [`get_or_load`](Self::get_or_load) does, within this call. A key that fails leaves the others alone.
    ///
    /// One round trip for each key that is there, three for each other.
    ///
    /// ```no_run
    /// # use redbrick_cache::{Cache, Error};
    /// # async fn f(cache: Cache<String>) -> std::io::Result<()> {
    /// let concurrency = 8.try_into().expect("it is not zero");
    /// let warmed = cache.warm(["a", "b"], concurrency, async |key| Ok::<_, std::io::Error>(key.to_uppercase())).await;
    /// println!("{} of {} failed", warmed.failed, warmed.loaded + warmed.present + warmed.failed);
    /// # Ok(()) }
    /// ```
    #[tracing::instrument(level = "debug", name = "cache.warm", skip_all)]
    pub async fn warm<K, Keys, L, Loading, E>(
        &self,
        keys: Keys,
        concurrency: NonZeroUsize,
        loader: L,
    ) -> Warmed
    where
        K: AsRef<[u8]> + Clone + Send,
        Keys: IntoIterator<Item = K>,
        Keys::IntoIter: Send,
        L: Fn(K) -> Loading + Sync,
        Loading: Future<Output = Result<V, E>> + Send,
        E: Into<BoxError>,
    {
        let mut warmed = Warmed::default();
        let loader = &loader;
        let loads = keys.into_iter().map(|key| async move {
            let id = key.clone();
            self.get_or_load(id, move || loader(key)).with_origin().await.map(|it| it.origin)
        });
        let count = |origin: Result<Origin, Error>| match origin {
            Ok(Origin::Cached) => warmed.present += 1,
            Ok(Origin::Loaded) => warmed.loaded += 1,
            Ok(Origin::Bypassed) | Err(_) => warmed.failed += 1,
        };
        bounded(concurrency, loads, count).await;
        warmed
    }
}

/// Runs futures, so many at a time, on the task that polls this one.
async fn bounded<F: Future>(
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
