//! All bricks together, on a real server.

mod leftovers;

use std::time::Duration;

/// How long a test waits for what must happen; far more than it takes, so that a slow machine passes.
const PATIENCE: Duration = Duration::from_secs(20);
