#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod channel;
mod close;
mod error;
mod handler;
mod handlers;
mod members;
mod message;
mod publish;
mod pubsub;
mod received;
mod room;
mod run;
mod subscription;
mod topic;

pub use builder::PubSubBuilder;
pub use channel::{Channel, Event};
pub use close::CloseReport;
pub use error::Error;
pub use handler::{Handled, Handler, Missed, On, Tally};
pub use handlers::Active;
pub use members::{Joined, Member, Members, Unreadable};
pub use message::Message;
pub use publish::{Publish, PublishMany, Published};
pub use pubsub::PubSub;
pub use received::Received;
pub use room::{DEFAULT_HISTORY, DEFAULT_HISTORY_LIFE, DEFAULT_LEASE, LONGEST_LIFE, Recent, Room};
pub use subscription::{Subscribe, Subscription};
pub use topic::Topic;
