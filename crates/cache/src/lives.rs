//! Lives of entries by name.

use std::time::Duration;

/// For what changes often: 5 minutes.
pub const SHORT: Duration = Duration::from_secs(5 * 60);
/// For most things: 1 hour, the default of a [`Cache`](crate::Cache).
pub const MEDIUM: Duration = Duration::from_secs(60 * 60);
/// For what changes rarely: 24 hours.
pub const LONG: Duration = Duration::from_secs(24 * 60 * 60);
/// For what hardly changes: 7 days.
pub const VERY_LONG: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// For what does not change: 30 days.
pub const STATIC: Duration = Duration::from_secs(30 * 24 * 60 * 60);
