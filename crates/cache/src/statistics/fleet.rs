//! What all processes did together, where they say so; and what a cache takes on its servers.

use std::{sync::PoisonError, time::Duration};

use redbrick_core_conn::{Codec, Script};

use crate::{Cache, Error, Statistics, VERY_LONG, cache::Inner, statistics::COUNTERS};

static PUBLISH: Script = Script::new("cache.publish", include_str!("../lua/publish.lua"));
static SIZE: Script = Script::new("cache.size", include_str!("../lua/size.lua"));

/// How long published counts live after the last of them.
const LIFE: Duration = VERY_LONG;
/// How many entries are weighed in all, and of each step of the walk.
const SAMPLES: u64 = 200;
const SAMPLES_OF_A_STEP: usize = 20;

/// What a cache takes on its servers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ServerStatistics {
    /// Entries, those that count no more included.
    pub keys: u64,
    /// The memory of all entries, estimated from that of up to 200 of them.
    pub bytes: u64,
}

impl<V> Cache<V> {
    /// Adds what this process counted since it last did so to the counts of the fleet, which live for 7 days after the last
    /// addition. Call it every now and then, as each minute.
    ///
    /// One round trip. Nothing is counted twice: after an unknown outcome, and when the future is dropped, what was being
    /// sent counts as sent.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`]; what surely was not added will be the next time.
    #[tracing::instrument(level = "debug", name = "cache.publish_statistics", skip_all)]
    pub async fn publish_statistics(&self) -> Result<(), Error> {
        let inner = &*self.inner;
        let new = inner.unpublished();
        let mut call = inner.conn.script(&PUBLISH).key(inner.prefix.key("statistics")).arg(LIFE);
        for (name, count) in new {
            call = call.arg(name).arg(count.to_string());
        }
        if let Err(error) = call.run::<i64>().needs_server().await {
            if !error.is_outcome_unknown() {
                inner.unpublish(new.map(|(_, count)| count));
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// Returns what all processes [published](Self::publish_statistics) together; all zero when none did.
    ///
    /// One round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`]; nothing is changed.
    #[tracing::instrument(level = "debug", name = "cache.fleet_statistics", skip_all)]
    pub async fn fleet_statistics(&self) -> Result<Statistics, Error> {
        let inner = &*self.inner;
        let conn = inner.conn.with_codec(Codec::Plain);
        let counts = conn.hash(inner.prefix.key("statistics")).get_all::<u64>().await?;
        Ok(Statistics::of(|name| counts.get(name).copied().unwrap_or(0)))
    }

    /// Counts the entries on the servers, and estimates their memory.
    ///
    /// A walk through all keys of the database, as [`clear`](Self::clear) makes, and a round trip for each step of it until
    /// 200 entries are weighed. Entries that come or go meanwhile are counted or not.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`]; nothing is changed.
    #[tracing::instrument(level = "debug", name = "cache.server_statistics", skip_all)]
    pub async fn server_statistics(&self) -> Result<ServerStatistics, Error> {
        let inner = &*self.inner;
        let (mut keys, mut samples, mut weight) = (0_u64, 0_u64, 0_u64);
        let mut walk = inner.conn.scan(inner.prefix.tagged_pattern("*")?);
        while let Some(found) = Box::pin(walk.next()).await? {
            keys += found.len() as u64;
            if samples >= SAMPLES {
                continue;
            }
            let mut pipeline = inner.conn.pipeline();
            let some = found.iter().take(SAMPLES_OF_A_STEP);
            let tickets: Vec<_> = some
                .map(|key| pipeline.add(inner.conn.script(&SIZE).key(key).run::<u64>()))
                .collect();
            let mut results = Box::pin(pipeline.send()).await;
            for ticket in tickets {
                let bytes = results.take(ticket)?;
                // One that is gone by now weighs nothing, and says nothing of the others.
                samples += u64::from(bytes > 0);
                weight += bytes;
            }
        }
        let bytes = match samples {
            0 => 0,
            _ => u128::from(weight) * u128::from(keys) / u128::from(samples),
        };
        Ok(ServerStatistics { keys, bytes: u64::try_from(bytes).unwrap_or(u64::MAX) })
    }
}

impl Inner {
    /// Takes what was counted since it was last taken.
    fn unpublished(&self) -> [(&'static str, u64); COUNTERS] {
        let mut published = self.counters.published.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = self.counters.now().by_name();
        for ((_, count), published) in new.iter_mut().zip(published.iter_mut()) {
            let all = *count;
            *count = all.saturating_sub(*published);
            *published = all;
        }
        new
    }

    /// Puts back what was taken.
    fn unpublish(&self, counts: [u64; COUNTERS]) {
        let mut published = self.counters.published.lock().unwrap_or_else(PoisonError::into_inner);
        for (published, count) in published.iter_mut().zip(counts) {
            *published = published.saturating_sub(count);
        }
    }
}
