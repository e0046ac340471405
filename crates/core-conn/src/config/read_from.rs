use serde::Deserialize;

/// Which servers answer reads: calls on one key that change nothing, and [`Conn::get_many`](crate::Conn::get_many).
/// Pipelines, transactions and scripts go to masters, and so do walks.
///
/// A replica lags behind its master, by milliseconds as a rule and without a bound when the two have lost each
/// other: what was just written may not be there yet, and what was just deleted may still be.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ReadFrom {
    /// The master. In a configuration file: `master`.
    #[default]
    Master,
    /// A replica of it, in turn, and the master while none is up. In a configuration file: `replica`.
    Replica,
}

impl ReadFrom {
    pub(crate) fn may_be_replica(self) -> bool {
        self == Self::Replica
    }
}
