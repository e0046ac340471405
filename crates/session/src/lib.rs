#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod change;
mod create;
mod delete;
mod device;
mod error;
mod id;
mod info;
mod layout;
mod life;
mod of_user;
mod record;
mod session;
mod sessions;

pub use builder::{DEFAULT_TIME_TO_LIVE, SessionsBuilder};
pub use change::Saved;
pub use create::Create;
pub use device::Device;
pub use error::Error;
pub use id::{SessionId, SessionKey};
pub use info::SessionInfo;
pub use life::DEFAULT_EXTENSION;
pub use session::Session;
pub use sessions::Sessions;
