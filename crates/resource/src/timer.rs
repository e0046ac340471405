use std::{pin::Pin, time::Duration};

use tokio::time::Sleep;

/// Longer than anything runs, and still what a timer can count: 34 years.
const FAR: Duration = Duration::from_secs(1 << 30);

/// What is ready when the life of a subscription is over.
#[expect(clippy::disallowed_methods, reason = "the one timer of this crate")]
pub(crate) fn end_of(life: Duration) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep(life.min(FAR)))
}
