use std::{fmt, sync::Arc};

use tokio::sync::{broadcast, watch};

use crate::Error;

/// How many changes a [`StateChanges`] keeps for a slow reader.
const KEPT_CHANGES: usize = 64;

/// What a [`Conn`](crate::Conn) as a whole is doing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum State {
    /// Nothing was tried yet: a lazy connection before its first call.
    Disconnected,
    /// The first connection is being made.
    Connecting,
    /// Every link is up and, with the ready check on, has answered.
    Connected,
    /// A link is down and is being made again. Calls wait, up to their timeout.
    Reconnecting,
    /// The server refused the credentials and trying again is pointless: calls fail at once. With a
    /// [`CredentialProvider`](crate::CredentialProvider) new credentials lead out of this state, otherwise
    /// nothing does.
    Error,
    /// Closed, for good.
    End,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected => "disconnected",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Reconnecting => "reconnecting",
            Self::Error => "error",
            Self::End => "end",
        })
    }
}

/// A step from one [`State`] to another.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StateChange {
    /// The state before.
    pub previous: State,
    /// The state from now on.
    pub current: State,
    /// What caused it, when it was a failure.
    pub error: Option<Arc<Error>>,
}

/// The changes of a connection's state from [`Conn::state_changes`](crate::Conn::state_changes) on, in order.
///
/// It keeps the last 64 for a reader that is slow and drops older ones; the newest is never lost. It does
/// not keep the connection open.
#[derive(Debug)]
pub struct StateChanges {
    changes: broadcast::Receiver<StateChange>,
}

impl StateChanges {
    /// Waits for the next change; `None` when the connection is gone.
    ///
    /// Cancel safe: a change that was not returned is returned by the next call.
    pub async fn next(&mut self) -> Option<StateChange> {
        loop {
            match self.changes.recv().await {
                Ok(change) => return Some(change),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// The state, kept by the tasks that look after the links and watched by calls.
#[derive(Debug)]
pub(crate) struct Status {
    now: watch::Sender<Now>,
    changes: broadcast::Sender<StateChange>,
}

#[derive(Clone, Debug)]
pub(crate) struct Now {
    pub(crate) state: State,
    /// Why the state is not `Connected`, if that is known.
    pub(crate) error: Option<Arc<Error>>,
    up: Vec<bool>,
}

impl Status {
    pub(crate) fn new(links: usize) -> Self {
        let now = Now { state: State::Disconnected, error: None, up: vec![false; links] };
        Self { now: watch::Sender::new(now), changes: broadcast::Sender::new(KEPT_CHANGES) }
    }

    pub(crate) fn state(&self) -> State {
        self.now.borrow().state
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Now> {
        self.now.subscribe()
    }

    pub(crate) fn changes(&self) -> StateChanges {
        StateChanges { changes: self.changes.subscribe() }
    }

    pub(crate) fn connecting(&self) {
        self.step(|now| (now.state == State::Disconnected).then_some((State::Connecting, None)));
    }

    pub(crate) fn link_up(&self, slot: usize) {
        self.step(|now| {
            now.up[slot] = true;
            now.up.iter().all(|up| *up).then_some((State::Connected, None))
        });
    }

    pub(crate) fn link_down(&self, slot: usize, error: Arc<Error>) {
        self.step(|now| {
            now.up[slot] = false;
            Some((State::Reconnecting, Some(error)))
        });
    }

    pub(crate) fn give_up(&self, slot: usize, error: Arc<Error>) {
        self.step(|now| {
            now.up[slot] = false;
            Some((State::Error, Some(error)))
        });
    }

    pub(crate) fn end(&self) {
        self.step(|_| Some((State::End, None)));
    }

    /// Changes the state and tells both kinds of watchers, in one order for all.
    fn step(&self, next: impl FnOnce(&mut Now) -> Option<(State, Option<Arc<Error>>)>) {
        self.now.send_if_modified(|now| {
            if now.state == State::End {
                return false;
            }
            let Some((state, error)) = next(now) else { return false };
            let previous = std::mem::replace(&mut now.state, state);
            now.error.clone_from(&error);
            if previous != state {
                tracing::debug!(%previous, current = %state, "connection state");
                // No receiver is no failure: nobody asked for the changes.
                let _ = self.changes.send(StateChange { previous, current: state, error });
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn lost() -> Arc<Error> {
        Arc::new(Error::new(ErrorKind::Connect, "lost"))
    }

    #[tokio::test]
    async fn connected_means_every_link_is_up() {
        let status = Status::new(2);
        let mut changes = status.changes();
        status.connecting();
        status.link_up(0);
        assert_eq!(status.state(), State::Connecting);
        status.link_up(1);
        status.link_down(0, lost());
        status.link_down(1, lost());
        status.link_up(1);
        assert_eq!(status.state(), State::Reconnecting);
        status.link_up(0);
        status.end();
        status.link_up(0);
        assert_eq!(status.state(), State::End, "the end is the end");

        let mut seen = Vec::new();
        drop(status);
        while let Some(change) = changes.next().await {
            seen.push((change.previous, change.current, change.error.is_some()));
        }
        assert_eq!(
            seen,
            [
                (State::Disconnected, State::Connecting, false),
                (State::Connecting, State::Connected, false),
                (State::Connected, State::Reconnecting, true),
                (State::Reconnecting, State::Connected, false),
                (State::Connected, State::End, false),
            ]
        );
    }

    #[tokio::test]
    async fn a_slow_reader_still_sees_the_newest_change() {
        let status = Status::new(1);
        let mut changes = status.changes();
        for _ in 0..KEPT_CHANGES {
            status.link_up(0);
            status.link_down(0, lost());
        }
        status.end();
        drop(status);
        let mut last = None;
        while let Some(change) = changes.next().await {
            last = Some(change.current);
        }
        assert_eq!(last, Some(State::End));
    }
}
