//! The fault table.

mod load;
mod stalls;

use std::time::Duration;

use redbrick_testkit::Server;
use tokio::time::Instant;

use load::{Load, Tally};

/// From the moment at which a link is stuck to the first answer over another one.
const REPLACED: Duration = Duration::from_secs(2);
/// By how much a bound may be exceeded on a machine that runs many tests at once.
const SLACK: Duration = Duration::from_secs(2);

/// The counter at `key` as the server has it.
fn count(server: &Server, key: &str) -> i64 {
    let stored = server.command(["GET", key]).expect("the server");
    if stored.is_nil() { 0 } else { stored.as_int().expect("a counter") }
}

/// Tells how long something took since `started`, for those who run the tests with `--nocapture`.
#[expect(clippy::print_stdout, reason = "the measured time beside the bound it is held to")]
fn measured(what: &str, started: Instant) -> Duration {
    let took = started.elapsed();
    println!("{what}: {took:?}");
    took
}
