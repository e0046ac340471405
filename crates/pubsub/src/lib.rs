#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod error;
mod pubsub;

pub use builder::PubsubBuilder;
pub use error::Error;
pub use pubsub::Pubsub;
