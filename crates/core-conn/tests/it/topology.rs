//! Cluster and Sentinel.

use redbrick_core_conn::{Config, Conn};

use crate::server;

#[tokio::test]
async fn a_cluster_url_to_a_single_server_says_so() {
    let server = server();
    let config = Config::builder().cluster([format!("127.0.0.1:{}", server.port())]);
    let err = Conn::connect(config).await.unwrap_err();
    assert_eq!(err.kind(), redbrick_core_conn::ErrorKind::Topology, "{err:?}");
}
