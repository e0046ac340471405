#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod cache;
mod error;

pub use builder::CacheBuilder;
pub use cache::Cache;
pub use error::Error;
