#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(unix))]
compile_error!(
    "redbrick-testkit starts servers through sh and Unix sockets; it needs Linux or macOS"
);

pub mod poison;
pub mod provision;

mod builder;
mod cluster;
mod config;
mod counts;
mod error;
mod external;
mod launch;
mod link;
mod masters;
#[cfg(feature = "metrics")]
mod metrics;
mod ports;
mod process;
mod proxy;
mod reply;
mod sentinel;
mod server;
mod shared;
#[cfg(feature = "tls")]
mod tls;
mod unique;
mod version;
mod wait;

pub use builder::ServerBuilder;
pub use cluster::{Cluster, ClusterBuilder, Migration};
pub use counts::CommandCounts;
pub use error::Error;
pub use masters::Masters;
#[cfg(feature = "metrics")]
pub use metrics::Metrics;
pub use proxy::{Fault, Proxy};
pub use reply::Reply;
pub use sentinel::Sentinel;
pub use server::{Paused, Server};
pub use shared::{Shared, Topology, shared};
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsFiles};
pub use unique::unique;
pub use version::{Kind, Version};
pub use wait::wait_until;
