#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod error;
mod resource;

pub use builder::ResourceBuilder;
pub use error::Error;
pub use resource::Resource;
