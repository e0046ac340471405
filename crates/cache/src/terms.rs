//! What a call says of the entries that it stores.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    Error,
    settings::{Settings, check},
    tags,
};

/// How long an entry lives, and what its tags are.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) time_to_live: Duration,
    pub(crate) tags: Vec<Bytes>,
}

impl Terms {
    /// Those of a call that says nothing of them.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self { time_to_live: settings.time_to_live, tags: Vec::new() }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        check(self.time_to_live)?;
        tags::check(&self.tags)
    }
}
