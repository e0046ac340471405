use std::{
    fmt,
    future::IntoFuture,
    pin::Pin,
    time::{Duration, SystemTime},
};

use redbrick_core_conn::{Replay, Script};
use tracing::Instrument;

use crate::{Error, Record, Resource, answer, life::Life};

static TOUCH: Script = Script::new(
    "resource.touch",
    concat!(include_str!("lua/index.lua"), include_str!("lua/touch.lua")),
)
.replay(Replay::Idempotent);

/// A new life for a record that has not been asked for yet; see [`Resource::touch`].
#[must_use = "nothing is sent until it is awaited"]
pub struct Touch<'a, R> {
    resource: &'a Resource<R>,
    id: String,
    life: Life,
}

impl<'a, R: Record> Touch<'a, R> {
    pub(crate) fn new(resource: &'a Resource<R>, id: &str) -> Self {
        Self { resource, id: id.to_owned(), life: Life::of(resource.inner().time_to_live) }
    }
}

impl<R> Touch<'_, R> {
    /// Sets how long the record lives from now on; anything below one millisecond counts as one.
    ///
    /// Default: the resource's [`time_to_live`](crate::ResourceBuilder::time_to_live).
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.life = Life::For(time_to_live);
        self
    }

    /// Sets the point in time until which the record lives, by the clock of the server, to the millisecond.
    ///
    /// Default: the resource's [`time_to_live`](crate::ResourceBuilder::time_to_live).
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.life = Life::Until(at);
        self
    }
}

impl<'a, R: Record> IntoFuture for Touch<'a, R> {
    type Output = Result<bool, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let span = tracing::debug_span!("resource.touch");
        Box::pin(
            async move {
                let (life, ms) = self.life.args();
                let call = self.resource.call(&TOUCH, self.id.as_bytes());
                match call.arg(&*self.id).arg(life).arg(ms).run::<i64>().await? {
                    answer::NOT_AS_WANTED => Ok(false),
                    answer::EXPIRED => Err(Error::Expired),
                    _ => Ok(true),
                }
            }
            .instrument(span),
        )
    }
}

impl<R> fmt::Debug for Touch<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Touch").field("life", &self.life).finish_non_exhaustive()
    }
}
