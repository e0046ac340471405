/// How requests are counted.
///
/// With all of them, a request that is denied counts for nothing, and each subject has one key.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Algorithm {
    /// The generic cell rate algorithm, which is a leaky bucket as a meter (ITU-T I.371): requests pass at an even rate, one after
    /// each `period / amount`, and a [burst](crate::Quota::burst) of them at once.
    ///
    /// One number per subject, whatever the quota. In any stretch of time pass at most the burst and what the rate gives.
    #[default]
    Gcra,
    /// At most the amount in any stretch of time as long as the period.
    ///
    /// An entry of about 80 bytes for each request that passed within the period: for small amounts.
    SlidingLog,
    /// At most the amount in a window, which begins with the first request and lasts for the period.
    ///
    /// One number per subject. Around the end of a window up to twice the amount can pass in a short time.
    FixedWindow,
}

impl Algorithm {
    /// The last part of its keys.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Gcra => "gcra",
            Self::SlidingLog => "log",
            Self::FixedWindow => "window",
        }
    }
}
