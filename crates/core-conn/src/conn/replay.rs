use crate::{Error, ErrorKind};

/// When a command may be sent again after a failure.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Replay {
    /// Not at all: the first failure is the answer.
    Never,
    /// When it surely did not run: it was not sent, or the server refused it in a state that passes.
    IfUnsent,
    /// Also when the connection broke and it may have run: done twice is the same as done once.
    Idempotent,
}

impl Replay {
    pub(super) fn allows(self, err: &Error) -> bool {
        match err.kind() {
            ErrorKind::Interrupted => self == Self::Idempotent,
            ErrorKind::Connect
            | ErrorKind::Loading
            | ErrorKind::ReadOnly
            | ErrorKind::ServerBusy
            | ErrorKind::Topology => self != Self::Never,
            _ => false,
        }
    }
}
