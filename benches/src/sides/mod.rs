//! The clients that are compared, each with one link, and what they do.

mod cache;
mod cluster;
mod fred;
mod redbrick;
mod redis_rs;
mod rustis;

use std::fmt;

use redbrick_core_conn::Conn;
use tokio::runtime::Runtime;

use crate::{Keys, Side};

pub use self::{cache::CacheClients, cluster::ClusterClients};

/// All of them, connected to one server, on the runtime that connected them.
///
/// Nothing here is an async function: its code would be compiled into each benchmark again.
pub struct Clients<'a> {
    runtime: &'a Runtime,
    conn: Conn,
    fred: ::fred::clients::Client,
    redis_rs: ::redis::aio::MultiplexedConnection,
    rustis: ::rustis::client::Client,
}

impl<'a> Clients<'a> {
    /// Connects all.
    ///
    /// # Panics
    ///
    /// When one cannot connect.
    #[must_use]
    pub fn connect(runtime: &'a Runtime, url: &str) -> Self {
        runtime.block_on(async {
            Self {
                runtime,
                conn: redbrick::connect(url).await,
                fred: fred::connect(url).await,
                redis_rs: redis_rs::connect(url).await,
                rustis: rustis::connect(url).await,
            }
        })
    }

    /// Stores values and has each read them.
    ///
    /// # Panics
    ///
    /// When the server refuses a value.
    #[must_use]
    pub fn reads(&self, keys: &Keys) -> Vec<Side> {
        self.runtime.block_on(keys.fill(&self.conn));
        self.reads_of_stored(keys)
    }

    /// Has each read values that are there.
    #[must_use]
    pub fn reads_of_stored(&self, keys: &Keys) -> Vec<Side> {
        vec![
            redbrick::get(&self.conn, keys),
            fred::get(&self.fred, keys),
            redis_rs::get(&self.redis_rs, keys),
            rustis::get(&self.rustis, keys),
        ]
    }

    /// Has each write values.
    #[must_use]
    pub fn writes(&self, keys: &Keys) -> Vec<Side> {
        vec![
            redbrick::set(&self.conn, keys),
            fred::set(&self.fred, keys),
            redis_rs::set(&self.redis_rs, keys),
            rustis::set(&self.rustis, keys),
        ]
    }

    /// Has each run a script; the first one is redbrick's batch script, the second one redbrick's plain script.
    ///
    /// # Panics
    ///
    /// When the server does not take the script.
    #[must_use]
    pub fn decisions(&self, subjects: &Keys) -> Vec<Side> {
        vec![
            redbrick::decide_each(&self.conn, subjects),
            redbrick::decide(&self.conn, subjects),
            self.runtime.block_on(fred::decide(&self.fred, subjects)),
            redis_rs::decide(&self.redis_rs, subjects),
            self.runtime.block_on(rustis::decide(&self.rustis, subjects)),
        ]
    }
}

impl fmt::Debug for Clients<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}
