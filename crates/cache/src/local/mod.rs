//! The tier in the process: values that were read are kept here for as long as nobody says that they have changed.

pub(crate) mod bearing;
mod find;
pub(crate) mod kept;
#[cfg(feature = "local")]
mod lfu;
#[cfg(feature = "local")]
mod settings;
pub(crate) mod tier;

pub(crate) use find::Got;
#[cfg(feature = "local")]
pub use settings::{Local, LocalSize};
pub(crate) use tier::Near;
