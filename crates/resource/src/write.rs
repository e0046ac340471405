use std::{
    fmt,
    future::IntoFuture,
    pin::Pin,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use redbrick_core_conn::{Counter, Replay, Script};
use serde::Serialize;
use tracing::{Instrument, Span};

use crate::{Error, Record, Resource, answer, fields::Fields, indexes::Entries, life::Life, patch};

static WRITE: Script = Script::new(
    "resource.write",
    concat!(include_str!("lua/index.lua"), include_str!("lua/write.lua")),
);
static FORGET: Script = Script::new(
    "resource.forget",
    concat!(include_str!("lua/index.lua"), include_str!("lua/forget.lua")),
)
.replay(Replay::Idempotent);

static CONFLICTS: Counter = Counter::new(
    "redbrick.resource.conflicts",
    "Writes that were refused: the record was there, or another one had its unique value",
);

/// How often a write is tried while what holds its unique values turns out to be gone.
const TRIES: usize = 4;

/// What [`Resource::save`] did.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Saved {
    /// The record was not there before.
    Created,
    /// The record was there, and is another one now.
    Replaced,
}

/// A write that has not been sent yet: say how long the record lives, or await it. See [`Resource::create`],
/// [`save`](Resource::save), [`replace`](Resource::replace) and [`update`](Resource::update).
#[must_use = "nothing is sent until it is awaited"]
pub struct Write<'a, R, T> {
    resource: &'a Resource<R>,
    mode: Mode,
    id: String,
    content: Result<Content, Error>,
    life: Life,
    read: fn(Answer) -> Result<T, Error>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Create,
    Save,
    Replace,
    Update,
}

#[derive(Debug)]
struct Content {
    fields: Fields,
    entries: Entries,
}

/// What `write.lua` returns: what it did, the place of an entry, whose that is, what is stored now.
pub(crate) type Answer = (i64, Option<usize>, Option<Bytes>, Option<Vec<Bytes>>);

impl<'a, R: Record, T> Write<'a, R, T> {
    pub(crate) fn whole(
        resource: &'a Resource<R>,
        mode: Mode,
        record: &R,
        read: fn(Answer) -> Result<T, Error>,
    ) -> Self {
        let content = Fields::split(record).and_then(|fields| {
            if fields.fields.is_empty() {
                return Err(Error::misshaped("it has no field"));
            }
            Ok(Content { entries: Entries::of::<R>(&fields), fields })
        });
        let life = Life::of(resource.inner().time_to_live);
        Self { resource, mode, id: record.id().into_owned(), content, life, read }
    }
}

impl<'a, R: Record> Write<'a, R, R> {
    pub(crate) fn patch<P: Serialize + ?Sized>(
        resource: &'a Resource<R>,
        id: &str,
        patch: &P,
    ) -> Self {
        let content = Fields::split(patch).and_then(|fields| {
            patch::check::<R>(id, &fields)?;
            Ok(Content { entries: Entries::of::<R>(&fields), fields })
        });
        let read = |(_, _, _, found): Answer| Fields::stored(found.unwrap_or_default()).decode();
        Self { resource, mode: Mode::Update, id: id.to_owned(), content, life: Life::Keep, read }
    }
}

impl<R, T> Write<'_, R, T> {
    /// Sets how long the record lives from now on; anything below one millisecond counts as one.
    ///
    /// Default: the resource's [`time_to_live`](crate::ResourceBuilder::time_to_live); for an update, as it would have
    /// lived without it.
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.life = Life::For(time_to_live);
        self
    }

    /// Sets the point in time until which the record lives, by the clock of the server, to the millisecond. One that has passed
    /// there is [refused](Error::Expired).
    ///
    /// Default: as for [`time_to_live`](Self::time_to_live).
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.life = Life::Until(at);
        self
    }
}

impl<R: Record, T> Write<'_, R, T> {
    async fn run(self) -> Result<T, Error> {
        let name = self.resource.name();
        let outcome = self.attempt().await;
        if matches!(outcome, Err(Error::Exists | Error::UniqueTaken { .. })) {
            CONFLICTS.add(1, name);
        }
        outcome
    }

    async fn attempt(self) -> Result<T, Error> {
        let Self { resource, mode, id, content, life, read } = self;
        let content = content?;
        let mut tries = 0;
        loop {
            let answer = send(resource, mode, &id, &content, life).await?;
            let (field, holder) = match answer {
                (answer::NOT_AS_WANTED, ..) if mode == Mode::Create => return Err(Error::Exists),
                (answer::NOT_AS_WANTED, ..) => return Err(Error::Unknown),
                (answer::DONE | answer::REPLACED, ..) => return read(answer),
                (answer::TAKEN, Some(place), Some(holder), _) => {
                    let taken = content.entries.unique.get(place.wrapping_sub(1));
                    (taken.map_or("", |(field, _)| field), holder)
                }
                (answer::EXPIRED, ..) => return Err(Error::Expired),
                _ => return Err(Error::misshaped("what is stored is of another format")),
            };
            tries += 1;
            // The record that has the value may have gone by another hand, as by eviction; then it has it no more.
            if tries == TRIES || !forget(resource, &holder).await? {
                return Err(Error::UniqueTaken { field });
            }
        }
    }
}

async fn send<R: Record>(
    resource: &Resource<R>,
    mode: Mode,
    id: &str,
    content: &Content,
    life: Life,
) -> Result<Answer, Error> {
    let Content { fields, entries } = content;
    let (life, ms) = life.args();
    let mut call = resource.call(&WRITE, id.as_bytes());
    call = call.arg(id).arg(mode.word()).arg(life).arg(ms).arg(fields.header.clone());
    call = call.arg(entries.names.len()).arg(entries.unique.len()).arg(entries.lookup.len());
    let unique = entries.unique.iter().map(|(_, entry)| entry);
    let pairs = fields.fields.iter().flat_map(|(name, value)| [name, value]);
    for arg in entries.names.iter().chain(unique).chain(&entries.lookup).chain(pairs) {
        call = call.arg(arg.clone());
    }
    Ok(call.run::<Answer>().needs_server().await?)
}

/// Removes what finds a record that is not there; returns whether it was not.
pub(crate) async fn forget<R: Record>(resource: &Resource<R>, id: &[u8]) -> Result<bool, Error> {
    Ok(resource.call(&FORGET, id).arg(id).run::<bool>().await?)
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Save => "save",
            Self::Replace => "replace",
            Self::Update => "update",
        }
    }

    fn span(self) -> Span {
        match self {
            Self::Create => tracing::debug_span!("resource.create"),
            Self::Save => tracing::debug_span!("resource.save"),
            Self::Replace => tracing::debug_span!("resource.replace"),
            Self::Update => tracing::debug_span!("resource.update"),
        }
    }
}

impl<'a, R: Record, T: 'a> IntoFuture for Write<'a, R, T> {
    type Output = Result<T, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let span = self.mode.span();
        Box::pin(self.run().instrument(span))
    }
}

impl<R, T> fmt::Debug for Write<'_, R, T> {
    /// Shows neither the id nor the record.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write")
            .field("mode", &self.mode)
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}
