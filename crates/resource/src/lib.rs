#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod builder;
mod error;
mod fields;
mod indexes;
mod life;
mod list;
mod listener;
mod messages;
mod patch;
mod record;
mod resource;
mod resources;
mod timer;
mod touch;
mod write;

pub use builder::{DEFAULT_PAGE_SIZE, ResourceBuilder};
pub use error::Error;
pub use list::{List, Page};
pub use listener::Listener;
pub use messages::{Listen, Messages, Notice, Publish};
pub use record::Record;
pub use redbrick_core_conn::DEFAULT_ALIAS;
pub use resource::Resource;
pub use resources::Resources;
pub use touch::Touch;
pub use write::{Saved, Write};
