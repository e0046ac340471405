use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest life in milliseconds: 142,808 years. Lua's numbers are exact that far, and a moment that far from now too.
const LONGEST: u128 = 1 << 52;

/// How long a record is there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Life {
    /// As long as it would have been.
    Keep,
    Endless,
    For(Duration),
    Until(SystemTime),
}

impl Life {
    /// The life that a resource gives where a call names none.
    pub(crate) fn of(default: Option<Duration>) -> Self {
        default.map_or(Self::Endless, Self::For)
    }

    /// In the words of the scripts: the kind, and its milliseconds.
    pub(crate) fn args(self) -> (&'static str, u64) {
        let (kind, ms) = match self {
            Self::Keep => ("keep", 0),
            Self::Endless => ("none", 0),
            Self::For(life) => ("in", life.as_millis().max(1)),
            Self::Until(at) => {
                ("at", at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis()))
            }
        };
        (kind, u64::try_from(ms.min(LONGEST)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_life_has_its_words() {
        assert_eq!(Life::Keep.args(), ("keep", 0));
        assert_eq!(Life::of(None).args(), ("none", 0));
        assert_eq!(Life::For(Duration::ZERO).args(), ("in", 1));
        assert_eq!(Life::For(Duration::MAX).args(), ("in", 1 << 52));
        assert_eq!(Life::Until(UNIX_EPOCH - Duration::from_secs(1)).args(), ("at", 0));
        assert_eq!(Life::Until(UNIX_EPOCH + Duration::from_millis(5)).args(), ("at", 5));
    }
}
