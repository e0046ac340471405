//! Behaviour of the fixtures themselves, on whichever server can be had (`REDIS_SERVER` picks one).

mod client;
mod cluster;
mod orphans;
mod provision;
mod proxy;
mod sentinel;
mod server;
mod shared;
#[cfg(feature = "tls")]
mod tls;
