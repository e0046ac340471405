#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod acquire;
mod all;
#[cfg(feature = "macros")]
mod attributes;
mod builder;
mod claim;
mod close;
mod durability;
mod election;
mod error;
mod fenced;
mod group;
mod guard;
mod held;
mod hold;
mod holder;
mod info;
mod keeper;
mod keys;
mod lease;
mod line;
mod locks;
mod mutex;
mod outcome;
mod post;
mod quorum;
mod rw_lock;
mod semaphore;
mod time;
mod wait;

pub use acquire::Acquire;
pub use all::{AcquireAll, LockGuards};
#[cfg(feature = "macros")]
pub use attributes::NotHeld;
pub use builder::{DEFAULT_FENCE_MEMORY, DEFAULT_LEASE, DEFAULT_NAME, LocksBuilder};
pub use close::CloseReport;
pub use durability::Durability;
pub use election::{Election, Observer};
pub use error::Error;
pub use fenced::{Fenced, Written};
pub use guard::LockGuard;
pub use info::LockInfo;
pub use lease::{LONGEST_LEASE, SHORTEST_LEASE};
pub use locks::Locks;
pub use mutex::Mutex;
pub use outcome::{Extended, Released};
pub use quorum::{AcquireQuorum, Quorum, QuorumGuard};
#[cfg(feature = "macros")]
pub use redbrick_macros::locked;
pub use rw_lock::RwLock;
pub use semaphore::Semaphore;
pub use wait::{DEFAULT_TIMEOUT, Wait};
