#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod error;
mod session;

pub use builder::SessionBuilder;
pub use error::Error;
pub use session::Session;
