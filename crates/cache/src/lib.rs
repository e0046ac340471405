#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod at_once;
#[cfg(feature = "macros")]
mod attributes;
mod builder;
mod cache;
mod clear;
mod codec;
mod count;
mod entry;
mod error;
mod feed;
mod get_or_load;
mod invalidations;
mod lives;
mod local;
mod owed;
mod rules;
mod set;
mod settings;
mod statistics;
mod tags;
mod terms;

pub use builder::CacheBuilder;
pub use cache::Cache;
pub use codec::ValueCodec;
pub use entry::Compression;
pub use error::Error;
pub use get_or_load::{
    Fetched, GetOrLoad, GetOrLoadMany, GetOrLoadWithOrigin, Loaded, Origin, Warm, Warmed,
};
pub use invalidations::{Invalidated, Invalidations};
pub use lives::{LONG, MEDIUM, SHORT, STATIC, VERY_LONG};
#[cfg(feature = "local")]
pub use local::{Local, LocalSize};
#[cfg(feature = "macros")]
pub use redbrick_macros::{cached, invalidates, warms};
pub use rules::{Applied, Change, Rule, Rules, RulesBuilder, Target};
pub use set::Set;
#[cfg(feature = "local")]
pub use settings::DEFAULT_LOCAL_BOUND;
pub use settings::{
    DEFAULT_LEASE, DEFAULT_LOAD_TIMEOUT, DEFAULT_REDIS_TIMEOUT, OnError, OnWaitTimeout,
};
pub use statistics::{ServerStatistics, Statistics};
