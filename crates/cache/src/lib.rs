#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod apply;
mod bounded;
mod breaker;
mod builder;
mod cache;
mod clear;
mod clock;
mod codec;
mod compress;
mod count;
mod entry;
mod error;
mod fetch;
mod fill;
mod fleet;
mod flight;
mod follow;
mod fresh;
mod invalidations;
mod known;
mod lead;
mod lease;
mod life;
mod load;
mod loader;
mod many;
mod owed;
mod read;
mod remembered;
mod rules;
mod statistics;
mod tags;
mod template;
mod warm;
mod write;

pub use apply::Applied;
pub use builder::{
    CacheBuilder, DEFAULT_LEASE, DEFAULT_LOAD_TIMEOUT, DEFAULT_REDIS_TIMEOUT, OnError,
    OnWaitTimeout,
};
pub use cache::Cache;
pub use codec::ValueCodec;
pub use compress::Compression;
pub use error::Error;
pub use fleet::ServerStatistics;
pub use invalidations::{Invalidated, Invalidations};
pub use life::{LONG, MEDIUM, SHORT, STATIC, VERY_LONG};
pub use load::{Fetched, GetOrLoad, GetOrLoadWithOrigin, Origin};
pub use loader::Loaded;
pub use many::GetOrLoadMany;
pub use rules::{Change, Rule, Rules, RulesBuilder, Target};
pub use statistics::Statistics;
pub use warm::{Warm, Warmed};
pub use write::{Set, SetMany};
