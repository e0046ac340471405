use std::fmt;

use redbrick_core_conn::Conn;
use redbrick_testkit::Cluster;
use redis::cluster_async::ClusterConnection;
use tokio::runtime::Runtime;

use super::{fred, redbrick, redis_rs};
use crate::{Keys, Side};

/// Clients of a cluster, on the runtime that connected them: a link to each master.
pub struct ClusterClients<'a> {
    runtime: &'a Runtime,
    conn: Conn,
    fred: ::fred::clients::Client,
    fred_apart: Vec<::fred::clients::Client>,
    redis_rs: ClusterConnection,
}

impl<'a> ClusterClients<'a> {
    /// Connects all.
    ///
    /// # Panics
    ///
    /// When one cannot connect.
    #[must_use]
    pub fn connect(runtime: &'a Runtime, cluster: &Cluster) -> Self {
        runtime.block_on(async {
            let fred = fred::connect(&cluster.url()).await;
            Self {
                runtime,
                conn: redbrick::connect(&cluster.url()).await,
                fred_apart: fred::connect_apart(&fred).await,
                fred,
                redis_rs: redis_rs::connect_cluster(cluster.urls()).await,
            }
        })
    }

    /// Stores values and has each read them.
    ///
    /// # Panics
    ///
    /// When the cluster refuses a value.
    #[must_use]
    pub fn reads(&self, keys: &Keys) -> Vec<Side> {
        self.runtime.block_on(keys.fill(&self.conn));
        vec![
            redbrick::get(&self.conn, keys),
            fred::get(&self.fred, keys),
            fred::get_apart(&self.fred, &self.fred_apart, keys),
            redis_rs::get(&self.redis_rs, keys),
        ]
    }
}

impl fmt::Debug for ClusterClients<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterClients").finish_non_exhaustive()
    }
}
