#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod apply;
mod builder;
mod cache;
mod clear;
mod count;
mod entry;
mod error;
mod fleet;
mod flight;
mod invalidations;
mod lease;
mod life;
mod load;
mod read;
mod rules;
mod statistics;
mod tags;
mod template;
mod warm;
mod write;

pub use apply::Applied;
pub use builder::{CacheBuilder, DEFAULT_LOAD_TIMEOUT, DEFAULT_REDIS_TIMEOUT, OnError};
pub use cache::Cache;
pub use error::Error;
pub use fleet::ServerStatistics;
pub use invalidations::{Invalidated, Invalidations};
pub use life::{LONG, MEDIUM, SHORT, STATIC, VERY_LONG};
pub use load::{Fetched, GetOrLoad, GetOrLoadWithOrigin, Origin};
pub use rules::{Change, Rule, Rules, RulesBuilder, Target};
pub use statistics::Statistics;
pub use warm::{Warm, Warmed};
pub use write::{Set, SetMany};
