//! Links that listen: what servers send of their own accord comes over sockets that this crate reads itself.
//!
//! fred has no place for it: it hands messages on without the pattern that they came through, drops those from a
//! channel whose name is no UTF-8, loses what its queue has no room for, and does not say whether a subscription was
//! confirmed or refused. A listening link asks for nothing else, so there is no reply that could be mistaken.

mod condition;
mod keep;
mod resp;
mod socket;
mod wire;

pub(crate) use condition::Condition;
pub use condition::Listening;
pub(crate) use keep::{LINGER, Listens, keep};
pub(crate) use resp::Frame;
pub(crate) use wire::{Wire, late};
