#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod error;
mod lock;

pub use builder::LockBuilder;
pub use error::Error;
pub use lock::Lock;
