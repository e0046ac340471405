/// Why a call of a [`Resource`](crate::Resource) failed. No text of it holds an id, a value or a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no record of that id, or none with that value. Nothing has changed.
    #[error("there is no such record; create it, or use a call that takes its absence")]
    Unknown,
    /// There is a record of that id already. Nothing has changed.
    #[error("there is a record of that id already; use `save` or `replace` to write over it")]
    Exists,
    /// Another record has the same value in a field that is unique. Nothing has changed.
    #[error("another record has the same value in the unique field `{field}`")]
    #[non_exhaustive]
    UniqueTaken {
        /// The field, one of [`Record::UNIQUE`](crate::Record::UNIQUE).
        field: &'static str,
    },
    /// The life that was asked for has ended already, by the clock of the server. Nothing has changed.
    #[error(
        "the point in time at which the record would expire has passed at the server; choose a later one"
    )]
    Expired,
    /// A value has not the shape that it must have: one to be written (nothing was sent), or one that was found.
    ///
    /// `delete`, `pick` and `update` find what is stored only after they have done their work: then the record is gone, or
    /// the fields are written; an `update` of what is of another format has written nothing.
    #[error("misshaped record or message: {what}")]
    #[non_exhaustive]
    Misshaped {
        /// What is wrong with it.
        what: &'static str,
        /// What serde said; it can quote the value.
        #[source]
        source: Option<redbrick_core_conn::Error>,
    },
    /// What was asked for needs something that the record type does not have. Nothing was sent.
    #[error("this is not supported: {what}")]
    #[non_exhaustive]
    Unsupported {
        /// What is missing.
        what: &'static str,
    },
    /// The alias is taken in a [`Resources`](crate::Resources) for this type. Nothing has changed.
    #[error("there is a resource of that alias and type already; choose another alias")]
    AliasTaken,
    /// Redis could not be asked.
    #[error("the resource could not ask Redis")]
    Conn(#[from] redbrick_core_conn::Error),
}

impl Error {
    /// Returns whether the same call can succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Conn(error) if error.is_retryable())
    }

    /// Returns whether time ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Conn(error) if error.is_timeout())
    }

    /// Returns whether Redis may have done what was asked although the call failed.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Conn(error) if error.is_outcome_unknown())
    }

    pub(crate) fn misshaped(what: &'static str) -> Self {
        Self::Misshaped { what, source: None }
    }

    pub(crate) fn unwritable(source: redbrick_core_conn::Error) -> Self {
        Self::Misshaped { what: "it cannot be encoded", source: Some(source) }
    }

    pub(crate) fn unreadable(source: redbrick_core_conn::Error) -> Self {
        Self::Misshaped { what: "what is stored cannot be read as it", source: Some(source) }
    }
}
