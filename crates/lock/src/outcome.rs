/// What came of an attempt to extend a lease.
#[must_use = "a lock that is lost protects nothing"]
#[expect(clippy::exhaustive_enums, reason = "there is no third outcome")]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Extended {
    /// The lease counts anew, and nobody else had the lock in between.
    Extended,
    /// The token has it no more: its lease ended, it was released, or taken away by force. Nothing has changed.
    Lost,
}

impl Extended {
    pub(crate) fn of(extended: bool) -> Self {
        if extended { Self::Extended } else { Self::Lost }
    }
}

/// What came of a release.
#[expect(clippy::exhaustive_enums, reason = "there is no third outcome")]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Released {
    /// It was held until now, and is free.
    Released,
    /// The token had it no more: its lease ended before, or it was taken away by force. Somebody else may have had it
    /// meanwhile. Nothing has changed.
    AlreadyLost,
}

impl Released {
    pub(crate) fn of(released: bool) -> Self {
        if released { Self::Released } else { Self::AlreadyLost }
    }
}
