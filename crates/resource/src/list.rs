use std::{fmt, future::IntoFuture, num::NonZeroU32, pin::Pin};

use bytes::Bytes;
use redbrick_core_conn::{Codec, Replay, Script};
use serde::Serialize;
use tracing::Instrument;

use crate::{
    Error, Record, Resource,
    fields::{Fields, HEADER, NIL},
    indexes::{self, Kind},
    write,
};

static LIST: Script = Script::new(
    "resource.list",
    concat!(include_str!("lua/index.lua"), include_str!("lua/list.lua")),
)
.replay(Replay::Idempotent);

/// How many records one script reads, so that no other client waits long for it.
const AT_ONCE: usize = 500;
/// More records than any resource has; Lua counts exactly so far.
const FAR: u64 = 1 << 52;

/// A page of records.
#[derive(Clone)]
#[non_exhaustive]
pub struct Page<R> {
    /// The records, in the order of their creation by the clock of the server, and of their ids where that is the same. It stays
    /// the same through saves and updates.
    pub items: Vec<R>,
    /// The number of this page; the first one is 0.
    pub page: u64,
    /// How many records a page has; the last one may have fewer.
    pub size: NonZeroU32,
    /// How many records there are on all pages together.
    pub total: u64,
    /// The ids of records of this page that cannot be read: another program, or another release, wrote them.
    pub unreadable: Vec<String>,
}

impl<R> Page<R> {
    /// Returns how many pages there are in all.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.total.div_ceil(self.size.get().into())
    }
}

/// A list that has not been asked for yet: say which records, or await it. See [`Resource::list`].
#[must_use = "nothing is sent until it is awaited"]
pub struct List<'a, R> {
    resource: &'a Resource<R>,
    criteria: Result<Vec<(Kind, Bytes)>, Error>,
    page: u64,
    size: NonZeroU32,
}

impl<'a, R: Record> List<'a, R> {
    pub(crate) fn new(resource: &'a Resource<R>) -> Self {
        let size = resource.inner().page_size;
        Self { resource, criteria: Ok(Vec::new()), page: 0, size }
    }

    /// Wants only records that have `value` in `field`, which must be [unique](Record::UNIQUE) or for
    /// [lookup](Record::LOOKUP). With several, records that have them all; with one the server's work is that of the page,
    /// with several that of the records which have the rarest of them.
    ///
    /// Values are the same when their MessagePack is: texts, whole numbers of any size and sign, `Some` and what is in it. An
    /// `f32` is another value than an `f64`.
    pub fn where_eq<V: Serialize + ?Sized>(mut self, field: &str, value: &V) -> Self {
        let criterion = indexes::kind::<R>(field).and_then(|kind| {
            let value = encoded(value)?;
            if value == NIL {
                let what = "records without a value in a field cannot be listed by that";
                return Err(Error::Unsupported { what });
            }
            Ok((kind, indexes::entry(field, &value)))
        });
        self.criteria = self.criteria.and_then(|mut criteria| {
            criteria.push(criterion?);
            Ok(criteria)
        });
        self
    }

    /// Chooses a page, from 0 on. One behind the last is empty.
    ///
    /// Default: 0.
    pub fn page(mut self, page: u64) -> Self {
        self.page = page;
        self
    }

    /// Sets how many records a page has.
    ///
    /// Default: the resource's [`page_size`](crate::ResourceBuilder::page_size).
    pub fn size(mut self, size: NonZeroU32) -> Self {
        self.size = size;
        self
    }

    async fn run(self) -> Result<Page<R>, Error> {
        let Self { resource, criteria, page, size } = self;
        let criteria = criteria?;
        let (total, ids) = find(resource, &criteria, page, size).await?;
        let mut found = Page { items: Vec::new(), page, size, total, unreadable: Vec::new() };
        let mut missing = Vec::new();
        for ids in ids.chunks(AT_ONCE) {
            let records = resource.read_many(ids).await?;
            for (id, record) in ids.iter().zip(records) {
                match record.map(Fields::stored) {
                    Ok(fields) if fields.fields.is_empty() && fields.header.is_empty() => {
                        missing.push(id.clone());
                    }
                    Ok(fields) => match fields.decode() {
                        Ok(record) => found.items.push(record),
                        Err(_) => found.unreadable.push(text(id)),
                    },
                    Err(_) => found.unreadable.push(text(id)),
                }
            }
        }
        for id in missing {
            // Removed since, or gone by another hand: then what finds it goes too. The page is right without it.
            if write::forget(resource, &id).await.is_err() {
                break;
            }
        }
        Ok(found)
    }
}

/// Finds the ids of a page, and how many there are in all.
async fn find<R: Record>(
    resource: &Resource<R>,
    criteria: &[(Kind, Bytes)],
    page: u64,
    size: NonZeroU32,
) -> Result<(u64, Vec<Bytes>), Error> {
    let skip = page.saturating_mul(size.get().into()).min(FAR);
    let keys = &resource.inner().keys;
    loop {
        let call = keys.call(resource.conn(), &LIST, &keys.order);
        let mut call = call.arg(skip).arg(size.get());
        for (kind, entry) in criteria {
            let kind = if *kind == Kind::Unique { "u" } else { "l" };
            call = call.arg(kind).arg(entry.clone());
        }
        let (total, ids) = call.run::<(i64, Option<Vec<Bytes>>)>().await?;
        // A negative one says that there is more to remove first.
        if let Ok(total) = u64::try_from(total) {
            return Ok((total, ids.unwrap_or_default()));
        }
    }
}

/// A value as it stands in a field.
pub(crate) fn encoded<V: Serialize + ?Sized>(value: &V) -> Result<Bytes, Error> {
    let mut encoded = Codec::MessagePack.encode(value).map_err(Error::unwritable)?;
    Ok(encoded.split_off(HEADER))
}

fn text(id: &[u8]) -> String {
    String::from_utf8_lossy(id).into_owned()
}

impl<'a, R: Record> IntoFuture for List<'a, R> {
    type Output = Result<Page<R>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run().instrument(tracing::debug_span!("resource.list")))
    }
}

impl<R> fmt::Debug for Page<R> {
    /// Shows how many records there are, and neither those nor the ids of unreadable ones.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("items", &self.items.len())
            .field("page", &self.page)
            .field("size", &self.size)
            .field("total", &self.total)
            .field("unreadable", &self.unreadable.len())
            .finish()
    }
}

impl<R> fmt::Debug for List<'_, R> {
    /// Does not show the values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List")
            .field("page", &self.page)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
