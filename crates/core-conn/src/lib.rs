#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod codec;
mod commands;
mod config;
mod conn;
mod credentials;
mod error;
mod health;
mod registry;
mod secret;
mod server;
#[cfg(feature = "tls")]
mod tls;

pub use codec::Codec;
pub use commands::{Set, SetIf, Ttl};
pub use config::{
    Config, ConfigBuilder, DEFAULT_COMMAND_TIMEOUT, DEFAULT_CONNECT_TIMEOUT, DEFAULT_HOST,
    DEFAULT_MAX_WAITING, DEFAULT_PORT, DEFAULT_RECONNECT_DELAY, DEFAULT_RETRIES,
    DEFAULT_SENTINEL_PORT, SentinelParts,
};
pub use conn::{CloseReport, Conn, State, StateChange, StateChanges};
pub use credentials::{CredentialProvider, Credentials, Rotation};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use health::{Health, HealthChecks};
pub use registry::{DEFAULT_ALIAS, Registry};
pub use secret::Secret;
pub use server::{Feature, Features, Mode, ServerInfo, ServerKind, Version};
#[cfg(feature = "tls")]
pub use tls::Tls;
