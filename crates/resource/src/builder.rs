use std::{fmt, marker::PhantomData, num::NonZeroU32, time::Duration};

use redbrick_core_conn::{Conn, Prefix, ReadFrom};

use crate::{Record, Resource, indexes::Keys, resource::Inner};

/// How many records a page has unless another size is chosen: 10.
pub const DEFAULT_PAGE_SIZE: NonZeroU32 = NonZeroU32::new(10).expect("it is not zero");

/// The settings of a [`Resource`], each with a default.
#[must_use = "nothing is made until `build` is called"]
pub struct ResourceBuilder<R> {
    conn: Conn,
    name: String,
    partition: Option<Vec<u8>>,
    time_to_live: Option<Duration>,
    page_size: NonZeroU32,
    of: PhantomData<fn() -> R>,
}

impl<R: Record> ResourceBuilder<R> {
    pub(crate) fn new(conn: Conn) -> Self {
        Self {
            conn,
            name: R::NAME.to_owned(),
            partition: None,
            time_to_live: None,
            page_size: DEFAULT_PAGE_SIZE,
            of: PhantomData,
        }
    }

    /// Sets the name, which its keys begin with: `resource:name`. Two resources of one name and partition are the same one.
    ///
    /// Default: [`Record::NAME`].
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the part of the keys that decides where they lie on Cluster, such as a tenant. Each partition is a resource of its
    /// own, with its own records, unique values and lists, and lies on one node.
    ///
    /// Default: the name, so that all records of one name lie on one node.
    pub fn partition(mut self, partition: impl AsRef<[u8]>) -> Self {
        self.partition = Some(partition.as_ref().to_vec());
        self
    }

    /// Sets how long a record lives after it was created, saved or replaced, where the call says nothing else. Anything below
    /// one millisecond counts as one.
    ///
    /// Default: until somebody removes it.
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = Some(time_to_live);
        self
    }

    /// Sets how many records a page has, where a list says nothing else.
    ///
    /// Default: [`DEFAULT_PAGE_SIZE`].
    pub fn page_size(mut self, page_size: NonZeroU32) -> Self {
        self.page_size = page_size;
        self
    }

    /// Makes it; sends nothing.
    #[must_use]
    pub fn build(self) -> Resource<R> {
        let Self { conn, name, partition, time_to_live, page_size, .. } = self;
        // What a replica does not know yet would be told as if it were so.
        let conn = conn.with_read_from(ReadFrom::Master);
        let prefix = Prefix::new("resource").join(&name);
        let keys = Keys::new(&prefix, partition.as_deref().unwrap_or(name.as_bytes()));
        Resource::from_inner(Inner { conn, name, prefix, keys, time_to_live, page_size })
    }
}

impl<R> fmt::Debug for ResourceBuilder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}
