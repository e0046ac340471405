//! What a call says of the entries that it stores.

use std::time::Duration;

use bytes::Bytes;
use redbrick_core_conn::LONGEST_TIME_TO_LIVE;

use crate::{
    Error,
    settings::{Settings, check},
    tags,
};

/// How long an entry lives, and what its tags are.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) time_to_live: Duration,
    /// For how long an entry is served after that while it is loaded anew.
    pub(crate) stale: Duration,
    pub(crate) tags: Vec<Bytes>,
}

impl Terms {
    /// Those of a call that says nothing of them.
    pub(crate) fn new(settings: &Settings) -> Self {
        let (time_to_live, stale) = (settings.time_to_live, settings.stale_while_revalidate);
        Self { time_to_live, stale, tags: Vec::new() }
    }

    /// What is asked of an entry that is there.
    pub(crate) fn wanted(&self) -> Wanted<'_> {
        Wanted { tags: &self.tags, stale: self.stale, loads: true }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        check(self.time_to_live)?;
        if self.stale > LONGEST_TIME_TO_LIVE {
            return Err(Error::InvalidDuration);
        }
        tags::check(&self.tags)
    }
}

/// What a read asks of an entry.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Which tags it must have.
    pub(crate) tags: &'a [Bytes],
    /// For how long it is served past its time while it is loaded anew.
    pub(crate) stale: Duration,
    /// Whether it is loaded anew where that is due.
    pub(crate) loads: bool,
}

impl Wanted<'_> {
    /// A fresh one, with any tags.
    pub(crate) const FRESH: Self = Self { tags: &[], stale: Duration::ZERO, loads: false };
}
