use std::time::Duration;

/// Who must know of a lock before it is granted.
///
/// Redis replicates behind the answer, so that a server that takes over may not know of a lock that was just granted, and grants it again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Durability {
    /// Its server alone.
    #[default]
    None,
    /// So many replicas have it too, or it is released and the error is [`Error::NotReplicated`](crate::Error::NotReplicated). It is
    /// waited for (`WAIT`) over a link that nobody else waits for, of which there are
    /// [as many as `blocking_links`](redbrick_core_conn::ConfigBuilder::blocking_links). Two more round trips, and that to the replicas.
    ///
    /// It helps as far as the replica that takes over is one of those: with one replica, 1 is enough; with more, Sentinel and Cluster
    /// prefer the one that has received most. What renews the lock is not waited for: a replica may believe in a lease that is shorter by as
    /// much as it is behind. Replicas may lose what they have when they restart without persistence.
    Wait {
        /// How many replicas must have it.
        replicas: u32,
        /// For how long they are waited for; the lease counts on meanwhile.
        timeout: Duration,
    },
}
