use std::thread;

use crate::{Error, Server};

/// Several servers that know nothing of each other, as for locks that need a majority.
#[derive(Debug)]
pub struct Masters(Vec<Server>);

impl Masters {
    /// Starts this many servers at once.
    ///
    /// # Errors
    ///
    /// As [`Server::start`]; none is left then.
    pub fn start(count: usize) -> Result<Self, Error> {
        start_all(count, |_| Server::start()).map(Self)
    }

    /// The servers.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.0
    }

    /// Where clients connect, one URL for each server.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.0.iter().map(Server::url).collect()
    }
}

/// Makes several things that each take a moment, at once.
pub(crate) fn start_all<T: Send>(
    count: usize,
    start: impl Fn(usize) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|at| {
                scope.spawn({
                    let start = &start;
                    move || start(at)
                })
            })
            .collect();
        let started = threads.into_iter().map(|thread| match thread.join() {
            Ok(started) => started,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        started.collect()
    })
}
