use std::fmt;

use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

/// The runtimes that services use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Flavor {
    /// Everything on one thread: callers and clients share a core.
    CurrentThread,
    /// Two worker threads, between which tasks move.
    TwoWorkers,
}

impl Flavor {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::CurrentThread, Self::TwoWorkers];

    /// Starts one. Clients are connected on the runtime that they are measured on, since that is where their tasks run.
    ///
    /// # Panics
    ///
    /// When threads cannot be had.
    #[must_use]
    pub fn runtime(self) -> Runtime {
        let mut builder = match self {
            Self::CurrentThread => Builder::new_current_thread(),
            Self::TwoWorkers => Builder::new_multi_thread(),
        };
        builder.worker_threads(2).enable_all().build().expect("a runtime can be had")
    }
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::CurrentThread => "1 thread",
            Self::TwoWorkers => "2 threads",
        })
    }
}
