//! Behaviour of the fixtures themselves, on whichever server can be had (`REDIS_SERVER` picks one).

mod client;
mod proxy;
mod server;
