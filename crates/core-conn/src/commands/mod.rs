//! Typed commands on a [`Conn`].
//!
//! A key is given without the configured prefix. Its bytes are sent as they are; the prefix goes before
//! them.

mod arg;
mod around;
mod batch;
mod batch_script;
mod call;
mod counters;
mod ending;
mod flush;
mod hash;
mod keys;
mod list;
mod many;
mod members;
mod never_set;
mod pipeline;
mod publish;
mod reply;
mod request;
mod scan;
mod script;
mod sending;
mod sorted_set;
mod tell;
mod transaction;
mod values;
mod wire_key;

use crate::{
    Conn, ReadFrom, Replay,
    conn::{Manner, Route},
};

pub use arg::Arg;
pub use batch::{Results, Ticket};
pub(crate) use batch_script::Each;
pub use batch_script::{BatchScript, BatchScriptCall};
pub use call::Call;
pub use flush::Confirm;
pub use hash::Hash;
pub use keys::{LONGEST_TIME_TO_LIVE, Ttl};
pub use list::List;
pub use members::Members;
pub(crate) use never_set::{behind_never_set, values_behind};
pub use pipeline::Pipeline;
pub use reply::{FromReply, Reply};
pub(crate) use request::{COMMANDS, Request};
pub use scan::Scan;
pub use script::{Script, ScriptCall};
pub(crate) use sending::{Outcome, Sender, Sending};
pub use sorted_set::SortedSet;
pub use transaction::Transaction;
pub use values::Set;

impl Conn {
    /// The manner of a request, unless its caller says otherwise. Slots are told apart on a cluster only.
    pub(crate) fn manner_of(&self, request: &Request) -> Manner {
        Manner {
            route: if self.config().endpoint.is_cluster() { request.route() } else { Route::Any },
            replay: request.replay(),
            read_from: if request.only_reads() { self.read_from() } else { ReadFrom::Master },
            timeout: self.command_timeout(),
            waits: self.waits(),
        }
    }

    /// The manner of a command that any server can answer.
    pub(crate) fn anywhere(&self, replay: Replay) -> Manner {
        Manner {
            route: Route::Any,
            replay,
            read_from: ReadFrom::Master,
            timeout: self.command_timeout(),
            waits: self.waits(),
        }
    }
}
