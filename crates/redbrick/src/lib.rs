#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "cache")]
pub use redbrick_cache as cache;
pub use redbrick_core_conn as core_conn;
#[cfg(feature = "lock")]
pub use redbrick_lock as lock;
#[cfg(feature = "pubsub")]
pub use redbrick_pubsub as pubsub;
#[cfg(feature = "ratelimit")]
pub use redbrick_ratelimit as ratelimit;
#[cfg(feature = "resource")]
pub use redbrick_resource as resource;
#[cfg(feature = "session")]
pub use redbrick_session as session;

/// The examples of the guide, so that they compile.
#[cfg(all(doctest, feature = "cache"))]
#[doc = include_str!("../../../docs/guide/caching.md")]
mod caching {}

/// What most programs need: `use redbrick::prelude::*;`.
///
/// `Error` is that of `core_conn`; each brick has one of its own in its module. A type of one of these names that you define
/// or import yourself wins over it.
pub mod prelude {
    #[cfg(feature = "cache")]
    #[doc(no_inline)]
    pub use redbrick_cache::Cache;
    #[doc(no_inline)]
    pub use redbrick_core_conn::{
        BatchScript, Codec, Config, Conn, Credentials, Error, ErrorKind, Event, Health,
        Invalidation, Key, Overflow, Pattern, Prefix, ReadFrom, Registry, Replay, Script, State,
        Ttl,
    };
    #[cfg(feature = "lock")]
    #[doc(no_inline)]
    pub use redbrick_lock::Locks;
    #[cfg(feature = "pubsub")]
    #[doc(no_inline)]
    pub use redbrick_pubsub::PubSub;
    #[cfg(feature = "ratelimit")]
    #[doc(no_inline)]
    pub use redbrick_ratelimit::{Quota, RateLimiter};
    #[cfg(feature = "resource")]
    #[doc(no_inline)]
    pub use redbrick_resource::{Record, Resource};
    #[cfg(feature = "session")]
    #[doc(no_inline)]
    pub use redbrick_session::{SessionId, Sessions};
}
