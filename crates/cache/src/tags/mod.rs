//! Tags: a random version each, which an entry remembers. Another one, or none, and the entry counts no more.

pub(crate) mod known;
pub(crate) mod moved;

use std::time::{Duration, Instant};

use bytes::Bytes;
use redbrick_core_conn::{Call, Conn, LONGEST_TIME_TO_LIVE, Script, Token};

use crate::{
    Cache, Error, STATIC,
    cache::Inner,
    entry::{Tag, Version},
    owed::About,
};

static TAG: Script = Script::new("cache.tag", include_str!("../lua/tag.lua"));

/// How many tags an entry may have.
pub(crate) const MOST_TAGS: usize = 1000;

impl<V> Cache<V> {
    /// Makes every entry with this tag count no more, and returns whether the tag was in use. What is being loaded
    /// under it right now, anywhere, will not count either. Entries stay in memory until they expire or are stored anew.
    ///
    /// One round trip (`UNLINK`), however many entries have the tag. It works also when the server is out of memory.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`]; after an unknown outcome the tag may be invalidated.
    #[tracing::instrument(level = "debug", name = "cache.invalidate_tag", skip_all)]
    pub async fn invalidate_tag(&self, tag: impl AsRef<[u8]> + Send) -> Result<bool, Error> {
        let (inner, tag) = (&self.inner, &named([tag])[..]);
        let call = inner.conn.delete(inner.tags.tagged(&tag[0])).into_future();
        Ok(inner.owing(About::Tags(tag), call).await?)
    }

    /// Makes every entry with one of these tags count no more, and returns how many of the tags were in use; otherwise as
    /// [`invalidate_tag`](Self::invalidate_tag).
    ///
    /// One round trip (`UNLINK`); on Cluster one for each slot, all at once.
    ///
    /// # Errors
    ///
    /// [`Error::Conn`]; some tags may be invalidated.
    #[tracing::instrument(level = "debug", name = "cache.invalidate_tags", skip_all)]
    pub async fn invalidate_tags<T: AsRef<[u8]>>(
        &self,
        tags: impl IntoIterator<Item = T> + Send,
    ) -> Result<u64, Error> {
        let (inner, tags) = (&self.inner, named(tags));
        let keys: Vec<_> = tags.iter().map(|tag| inner.tags.tagged(tag)).collect();
        Ok(inner.owing(About::Tags(&tags), inner.conn.delete_many(keys)).await?)
    }
}

impl Inner {
    /// The call that gets or makes the version of a tag, for an entry that lives as long, and says how long it is there.
    fn tag_version<'a>(
        &self,
        conn: &'a Conn,
        tag: &Bytes,
        time_to_live: Duration,
    ) -> Call<'a, (Bytes, i64)> {
        let life = life(time_to_live);
        let new = Token::<8>::random();
        let call = conn.script(&TAG).key(self.tags.tagged(tag)).arg(new.as_bytes().as_slice());
        // Never repeated: a version that entries carry already, and that was invalidated since, must not come back.
        call.arg(time_to_live).arg(life).run()
    }

    /// Gets or makes the versions of tags: one round trip, or none without tags, and where all of them are followed.
    pub(crate) async fn tag_versions(
        &self,
        conn: &Conn,
        tags: &[Bytes],
        time_to_live: Duration,
    ) -> redbrick_core_conn::Result<Vec<Tag>> {
        let (mut versions, unknown) = self.followed(tags, Some(time_to_live));
        let asking = self.feed.asking();
        let mut learn = |tag: &Bytes, (version, left): (Bytes, i64)| {
            let version = version_of(&version);
            if let Some(asking) = asking {
                let left = u64::try_from(left).ok().map(Duration::from_millis);
                self.feed.known.learn(asking, self.flights.moment(), tag, version, left);
            }
            versions.push((tag.clone(), version));
        };
        if let [tag] = &*unknown {
            let version = self.tag_version(conn, tag, time_to_live).await?;
            learn(tag, version);
            return Ok(versions);
        }
        for some in unknown.chunks(IN_A_PIPELINE) {
            let mut pipeline = conn.pipeline();
            let tickets: Vec<_> = some
                .iter()
                .map(|tag| (tag, pipeline.add(self.tag_version(conn, tag, time_to_live))))
                .collect();
            let mut results = Box::pin(pipeline.send()).await;
            for (tag, ticket) in tickets {
                learn(tag, results.take(ticket)?);
            }
        }
        Ok(versions)
    }

    /// The versions of tags that are followed, and the other tags.
    pub(crate) fn followed(
        &self,
        tags: &[Bytes],
        life: Option<Duration>,
    ) -> (Vec<Tag>, Vec<Bytes>) {
        if tags.is_empty() || !self.settings.follow_tags {
            return (Vec::with_capacity(tags.len()), tags.to_vec());
        }
        self.listen();
        let (mut versions, mut unknown) = (Vec::with_capacity(tags.len()), Vec::new());
        if self.feed.epoch_at(Instant::now()).is_none() {
            return (versions, tags.to_vec());
        }
        for (tag, version) in tags.iter().zip(self.feed.known.now(tags, life)) {
            match version {
                Some(version) => versions.push((tag.clone(), version)),
                None => unknown.push(tag.clone()),
            }
        }
        (versions, unknown)
    }

    /// The tags that a load has found out, with versions that they had already when it began; nothing where that cannot be told
    /// of one of them. Those of `known` have theirs.
    pub(crate) async fn tags_of_load(
        &self,
        tags: &[Bytes],
        known: &[Tag],
        life: Duration,
        began: u64,
    ) -> redbrick_core_conn::Result<Option<Vec<Tag>>> {
        let is_new = |tag: &&Bytes| !known.iter().any(|(name, _)| name == *tag);
        let tags: Vec<Bytes> = tags.iter().filter(is_new).cloned().collect();
        if tags.is_empty() {
            return Ok(Some(Vec::new()));
        }
        self.feed.known.use_it();
        let before: Vec<_> = tags.iter().map(|tag| self.feed.known.before(tag, began)).collect();
        let now = self.tag_versions(&self.quick, &tags, life).await?;
        let is_same = |(tag, version): &Tag| {
            let at = tags.iter().position(|it| it == tag);
            at.is_some_and(|at| before[at] == Some(*version))
        };
        Ok(now.iter().all(is_same).then_some(now))
    }
}

/// The life that a tag is given by an entry that lives for so long: twice as long, so that it is not made longer for each entry.
pub(crate) fn life(time_to_live: Duration) -> Duration {
    STATIC.max(time_to_live.saturating_mul(2).min(LONGEST_TIME_TO_LIVE))
}

/// How many calls go out in one pipeline.
pub(crate) const IN_A_PIPELINE: usize = 256;

/// What the server answered. Without one there is none, and an entry under this version never counts.
fn version_of(answer: &[u8]) -> Version {
    answer.try_into().unwrap_or_else(|_none| *Token::<8>::random().as_bytes())
}

/// The names of tags, each once.
pub(crate) fn named<T: AsRef<[u8]>>(tags: impl IntoIterator<Item = T>) -> Vec<Bytes> {
    let mut tags: Vec<Bytes> =
        tags.into_iter().map(|tag| Bytes::copy_from_slice(tag.as_ref())).collect();
    tags.sort_unstable();
    tags.dedup();
    tags
}

pub(crate) fn check(tags: &[Bytes]) -> Result<(), Error> {
    if tags.len() > MOST_TAGS { Err(Error::TooManyTags) } else { Ok(()) }
}
