#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod error;
mod ratelimit;

pub use builder::RatelimitBuilder;
pub use error::Error;
pub use ratelimit::Ratelimit;
