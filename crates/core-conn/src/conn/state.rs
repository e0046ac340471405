use std::{collections::BTreeMap, fmt};

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
    /// The first attempt to connect is being made.
    Connecting,
    /// Every link to a master is up and, with the ready check on, has answered.
    Connected,
    /// A link is down, or could not be made, and is being made again. Calls take the links that are up, or
    /// wait, up to their timeout.
    Reconnecting,
    /// The server refused the credentials on every link, and trying again is pointless: calls fail at
    /// once. With a [`CredentialProvider`](crate::CredentialProvider) new credentials lead out of this
    /// state, otherwise nothing does.
    Error,
    /// Closed, or the runtime has ended; for good.
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
    pub error: Option<Error>,
}

/// The changes of a connection's state from [`Conn::state_changes`](crate::Conn::state_changes) on, in order.
///
/// It keeps the last 64 for a reader that is slow and drops older ones; the newest is never lost. It does
/// not keep the connection open.
#[derive(Debug)]
pub struct StateChanges {
    changes: broadcast::Receiver<StateChange>,
    ended: bool,
}

impl StateChanges {
    /// Waits for the next change; `None` after the change to [`State::End`], and when the last handle is gone.
    ///
    /// Cancel safe: a change that was not returned is returned by the next call.
    pub async fn next(&mut self) -> Option<StateChange> {
        while !self.ended {
            match self.changes.recv().await {
                Ok(change) => {
                    self.ended = change.current == State::End;
                    return Some(change);
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => self.ended = true,
            }
        }
        None
    }
}

/// Names one link among those of a connection.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct SeatId(u64);

/// Whether the state of the whole depends on a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Weight {
    Counts,
    /// It is opened when it is needed, or may be missing: its ups and downs are only told to those who wait.
    Extra,
}

/// What one link is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LinkState {
    /// No attempt to make it has ended yet.
    New,
    Down,
    Up,
    /// The server refuses its credentials, and it waits for others.
    Refused,
}

/// The state, kept by the tasks that look after the links and watched by calls.
#[derive(Debug)]
pub(crate) struct Status {
    /// What is connected to, for logs.
    server: String,
    now: watch::Sender<Snapshot>,
    changes: broadcast::Sender<StateChange>,
}

/// What is known at one moment. The state of the whole follows from the rest.
#[derive(Clone, Default, Debug)]
pub(crate) struct Snapshot {
    links: BTreeMap<SeatId, (Weight, LinkState)>,
    next_id: u64,
    /// It is known which servers there are.
    complete: bool,
    /// The first attempt was begun, and has ended one way or the other.
    started: bool,
    settled: bool,
    ended: bool,
    /// How often a link came up: whoever waits for that sees it rise.
    pub(crate) ups: u64,
    /// Why not every link is up, if that is known, or what is amiss although all are.
    pub(crate) error: Option<Error>,
    /// What is amiss with the servers that there are, whatever links lead to them.
    amiss: Option<Error>,
}

impl Snapshot {
    pub(crate) fn state(&self) -> State {
        if self.ended {
            State::End
        } else if self.complete && self.all(LinkState::Up) {
            State::Connected
        } else if self.all(LinkState::Refused) {
            State::Error
        } else if self.settled {
            State::Reconnecting
        } else if self.started {
            State::Connecting
        } else {
            State::Disconnected
        }
    }

    fn all(&self, wanted: LinkState) -> bool {
        let mut links = self.counting().peekable();
        links.peek().is_some() && links.all(|state| state == wanted)
    }

    fn any(&self, wanted: LinkState) -> bool {
        self.counting().any(|state| state == wanted)
    }

    fn counting(&self) -> impl Iterator<Item = LinkState> {
        self.links.values().filter(|(weight, _)| *weight == Weight::Counts).map(|(_, state)| *state)
    }

    /// How many links are up, and how many are not.
    pub(crate) fn links_up_and_down(&self) -> (u64, u64) {
        let count = |up: bool| {
            let states = self.links.values().filter(|(_, state)| (*state == LinkState::Up) == up);
            u64::try_from(states.count()).unwrap_or(u64::MAX)
        };
        if self.ended { (0, 0) } else { (count(true), count(false)) }
    }

    /// Whether the first attempt has ended.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Whether it is known which servers there are, and one of them answers.
    pub(crate) fn is_usable(&self) -> bool {
        self.complete && self.any(LinkState::Up)
    }

    fn set(&mut self, link: SeatId, state: LinkState) {
        // One that was let go has no state any more.
        if let Some((_, known)) = self.links.get_mut(&link) {
            *known = state;
        }
    }

    /// The first attempt is over when every link was tried. While one link is up and the others are still to be
    /// learned from it, it is not.
    fn settle(&mut self) {
        let learning = !self.complete && self.any(LinkState::Up);
        self.settled |= self.started && !learning && !self.any(LinkState::New);
        if self.state() == State::Connected {
            self.error = self.amiss.clone();
        }
    }
}

impl Status {
    pub(crate) fn new(server: String) -> Self {
        let (now, changes) = (watch::Sender::default(), broadcast::Sender::new(KEPT_CHANGES));
        Self { server, now, changes }
    }

    pub(crate) fn state(&self) -> State {
        self.now.borrow().state()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Snapshot> {
        self.now.subscribe()
    }

    pub(crate) fn changes(&self) -> StateChanges {
        StateChanges { changes: self.changes.subscribe(), ended: false }
    }

    pub(crate) fn connecting(&self) {
        self.step(|now| now.started = true);
    }

    /// Adds a link that is to be made.
    pub(crate) fn join(&self, weight: Weight) -> SeatId {
        let mut id = SeatId(0);
        self.step(|now| {
            id = SeatId(now.next_id);
            now.next_id += 1;
            now.links.insert(id, (weight, LinkState::New));
        });
        id
    }

    /// Forgets links that are no longer wanted, and notes whether it is known which servers there are, and what is amiss
    /// with them.
    pub(crate) fn rearranged(&self, gone: &[SeatId], complete: bool, amiss: Option<Error>) {
        self.step(|now| {
            now.links.retain(|id, _| !gone.contains(id));
            now.complete = complete;
            now.amiss = amiss;
            now.settle();
        });
    }

    pub(crate) fn link_up(&self, link: SeatId) {
        self.step(|now| {
            now.set(link, LinkState::Up);
            now.ups += 1;
            now.settle();
        });
    }

    /// Notes that a link is down or refused, and why.
    pub(crate) fn link_lost(&self, link: SeatId, state: LinkState, error: Error) {
        self.step(|now| {
            now.set(link, state);
            now.error = Some(error);
            now.settle();
        });
    }

    /// Notes why it is not known which servers there are.
    pub(crate) fn troubled(&self, error: Error) {
        self.step(|now| {
            now.settled |= now.started && !now.complete;
            now.error = Some(error);
        });
    }

    pub(crate) fn end(&self) {
        self.step(|now| {
            now.ended = true;
            (now.error, now.amiss) = (None, None);
        });
    }

    /// Changes what is known and tells both kinds of watchers, in one order for all.
    fn step(&self, change: impl FnOnce(&mut Snapshot)) {
        let server = &*self.server;
        self.now.send_if_modified(|now| {
            if now.ended {
                return false;
            }
            let previous = now.state();
            change(now);
            let current = now.state();
            if previous != current {
                match (&now.error, current) {
                    (Some(error), State::Reconnecting | State::Error) => {
                        tracing::warn!(server, %previous, %current, %error, "not connected");
                    }
                    (_, State::Connected) => {
                        tracing::info!(server, %previous, %current, "connected");
                    }
                    _ => tracing::debug!(server, %previous, %current, "connection state"),
                }
                // No receiver is no failure: nobody asked for the changes.
                let _ =
                    self.changes.send(StateChange { previous, current, error: now.error.clone() });
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn lost() -> Error {
        Error::new(ErrorKind::Connect, "lost")
    }

    /// Two links to the only server.
    fn with_links() -> (Status, [SeatId; 2]) {
        let status = Status::new("a server".to_owned());
        let links = [status.join(Weight::Counts), status.join(Weight::Counts)];
        status.rearranged(&[], true, None);
        (status, links)
    }

    async fn seen(status: Status, mut changes: StateChanges) -> Vec<(State, State, bool)> {
        drop(status);
        let mut seen = Vec::new();
        while let Some(change) = changes.next().await {
            seen.push((change.previous, change.current, change.error.is_some()));
        }
        seen
    }

    #[tokio::test]
    async fn connected_means_every_link_is_up() {
        let (status, [a, b]) = with_links();
        let changes = status.changes();
        status.connecting();
        status.link_up(a);
        status.link_up(b);
        status.link_lost(a, LinkState::Down, lost());
        status.link_lost(b, LinkState::Down, lost());
        status.link_up(b);
        status.link_up(a);
        status.end();
        status.link_up(a);
        assert_eq!(
            seen(status, changes).await,
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
    async fn refused_credentials_are_the_state_only_when_no_link_is_left() {
        let (status, [a, b]) = with_links();
        status.connecting();
        status.link_up(a);
        status.link_up(b);
        let changes = status.changes();
        status.link_lost(a, LinkState::Refused, lost());
        status.link_lost(b, LinkState::Down, lost());
        status.link_lost(b, LinkState::Refused, lost());
        status.link_up(a);
        status.link_up(b);
        assert_eq!(
            seen(status, changes).await,
            [
                (State::Connected, State::Reconnecting, true),
                (State::Reconnecting, State::Error, true),
                (State::Error, State::Reconnecting, true),
                (State::Reconnecting, State::Connected, false),
            ]
        );
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_every_link_that_comes_up() {
        let (status, [a, _]) = with_links();
        let mut watch = status.watch();
        status.link_up(a);
        assert!(watch.has_changed().unwrap());
        assert_eq!(watch.borrow_and_update().ups, 1);
    }

    #[tokio::test]
    async fn a_slow_reader_still_sees_the_newest_change() {
        let (status, [a, b]) = with_links();
        status.link_up(b);
        let changes = status.changes();
        for _ in 0..KEPT_CHANGES {
            status.link_up(a);
            status.link_lost(a, LinkState::Down, lost());
        }
        status.end();
        assert_eq!(seen(status, changes).await.last().unwrap().1, State::End);
    }
    #[tokio::test]
    async fn a_cluster_is_connected_when_its_nodes_are_known_and_answer() {
        let status = Status::new("a server".to_owned());
        let [dead, seed] = [status.join(Weight::Counts), status.join(Weight::Counts)];
        let changes = status.changes();
        status.connecting();
        status.link_lost(dead, LinkState::Down, lost());
        status.link_up(seed);
        assert_eq!(status.state(), State::Connecting, "its nodes are not known yet");
        let node = status.join(Weight::Counts);
        status.rearranged(&[dead], true, None);
        assert_eq!(status.state(), State::Connecting, "one of them was not tried yet");
        status.link_up(node);
        status.link_lost(node, LinkState::Down, lost());
        status.rearranged(&[node], true, None);
        assert_eq!(
            seen(status, changes).await,
            [
                (State::Disconnected, State::Connecting, false),
                (State::Connecting, State::Connected, false),
                (State::Connected, State::Reconnecting, true),
                (State::Reconnecting, State::Connected, false),
            ]
        );
    }

    #[test]
    fn what_is_amiss_with_the_servers_is_known_also_while_all_links_are_up() {
        let (status, [a, b]) = with_links();
        status.connecting();
        let error = || status.watch().borrow().error.clone();
        status.link_up(a);
        status.rearranged(&[], true, Some(lost()));
        status.link_up(b);
        assert!(status.state() == State::Connected && error().is_some());
        status.rearranged(&[], true, None);
        assert!(status.state() == State::Connected && error().is_none());
    }

    #[test]
    fn a_link_that_is_opened_on_demand_does_not_change_the_state() {
        let (status, [a, b]) = with_links();
        status.connecting();
        status.link_up(a);
        status.link_up(b);
        let extra = status.join(Weight::Extra);
        assert_eq!(status.state(), State::Connected);
        status.link_lost(extra, LinkState::Down, lost());
        assert_eq!(status.state(), State::Connected);
    }
}
