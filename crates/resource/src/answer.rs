//! What `write.lua` and `touch.lua` say that they did.

/// The record is there where it must not be, or the other way round.
pub(crate) const NOT_AS_WANTED: i64 = 0;
/// The record is there now, or has its new life.
pub(crate) const DONE: i64 = 1;
/// The record was there, and is another one now.
pub(crate) const REPLACED: i64 = 2;
/// Another record has a unique value.
pub(crate) const TAKEN: i64 = 3;
/// The life is over.
pub(crate) const EXPIRED: i64 = 4;
