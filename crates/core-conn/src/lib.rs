#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod capabilities;
mod codec;
mod commands;
mod config;
mod conn;
mod credentials;
mod error;
mod gather;
#[cfg(test)]
mod golden;
mod health;
mod key;
mod listen;
mod registry;
mod secret;
mod server;
mod subscriptions;
mod telemetry;
#[cfg(feature = "tls")]
mod tls;
mod token;
mod tracking;

/// The client library underneath, for [`Conn::fred`]; it is no part of this crate's promises about versions.
pub use ::fred;
pub use async_trait::async_trait;
/// What bytes are given and taken as.
pub use bytes::Bytes;
pub use capabilities::{Capabilities, Capability};
pub use codec::Codec;
pub use commands::{
    Arg, BatchScript, BatchScriptCall, Call, Confirm, FromReply, Hash, LONGEST_TIME_TO_LIVE, List,
    Members, Pipeline, Reply, Results, Scan, Script, ScriptCall, Set, SortedSet, Ticket,
    Transaction, Ttl,
};
pub use config::{
    Config, ConfigBuilder, DEFAULT_BLOCKING_LINKS, DEFAULT_COMMAND_TIMEOUT,
    DEFAULT_CONNECT_TIMEOUT, DEFAULT_HOST, DEFAULT_MAX_WAITING, DEFAULT_PORT,
    DEFAULT_PROBE_INTERVAL, DEFAULT_RECONNECT_DELAY, DEFAULT_RETRIES, DEFAULT_SENTINEL_PORT,
    DEFAULT_SLOW_THRESHOLD, ReadFrom, SentinelConfig,
};
pub use conn::{
    CloseReport, Conn, RawClient, Replay, State, StateChange, StateChanges, WARNING_INTERVAL,
};
pub use credentials::{CredentialProvider, Credentials, RotatingCredentials};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use health::{Health, HealthChecks};
pub use key::{Key, Pattern, Prefix};
pub use listen::Listening;
pub use registry::{DEFAULT_ALIAS, Registry};
pub use secret::Secret;
pub use server::{ServerInfo, ServerKind, ServerMode, Version};
pub use subscriptions::{
    DEFAULT_SUBSCRIPTION_BYTES, DEFAULT_SUBSCRIPTION_MESSAGES, Event, Message, Overflow, Subscribe,
    Subscription,
};
pub use telemetry::{Counter, Histogram, Statistics};
#[cfg(feature = "tls")]
pub use tls::Tls;
pub use token::Token;
pub use tracking::{
    DEFAULT_TRACKING_BOUND, DEFAULT_TRACKING_QUEUE, Freshness, Invalidation, Track, Tracking,
};
