use std::{ops::Range, time::Duration};

/// What a [`Proxy`](crate::Proxy) does to its connections; one at a time.
///
/// Requests go up, from the client to the server; replies go down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Every byte arrives later, in order, with nothing lost from the throughput as long as no more than 4 MiB are
    /// under way in one direction of a connection; more stay with the sender. Bytes that are under way when the fault
    /// ends keep their delay. Exact to milliseconds.
    Latency {
        /// How much later requests arrive.
        up: Duration,
        /// How much later replies arrive.
        down: Duration,
    },
    /// Requests stand still: nothing is read from clients, so that their sends fill up and block. Replies pass.
    StallRequests,
    /// Replies stand still: nothing is read from the server, so that its output fills up. Requests pass and run.
    StallReplies,
    /// Both stand still, as when the cable is cut: connections stay open, nothing arrives, nothing fails.
    Stall,
    /// Each direction of each connection carries this many bytes in a second; zero is as [`Stall`](Self::Stall).
    Throttle {
        /// Bytes per second.
        bytes_per_second: u64,
    },
    /// Requests arrive and are executed, replies are thrown away.
    DropReplies,
    /// Each connection carries this many more bytes of replies and is then reset (RST). With zero it is reset when the
    /// next reply comes: the request was executed, and its client learns nothing. Stays in force for new connections.
    CutAfterReplyBytes(u64),
}

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Requests,
    Replies,
}

/// A fault and when it was set, so that setting the same one again is seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) fault: Option<Fault>,
    pub(super) epoch: u64,
    /// The numbers of the connections that it is for; none when it is for all.
    pub(super) only: Option<Range<u64>>,
}

impl Plan {
    /// What of it concerns one connection.
    pub(super) fn of(self, connection: u64) -> Self {
        let concerns = self.only.as_ref().is_none_or(|only| only.contains(&connection));
        let fault = self.fault.filter(|_| concerns);
        Self { fault, ..self }
    }

    pub(super) fn stalls(&self, direction: Direction) -> bool {
        match self.fault {
            Some(Fault::Stall | Fault::Throttle { bytes_per_second: 0 }) => true,
            Some(Fault::StallRequests) => direction == Direction::Requests,
            Some(Fault::StallReplies) => direction == Direction::Replies,
            _ => false,
        }
    }

    pub(super) fn delay(&self, direction: Direction) -> Duration {
        match (self.fault, direction) {
            (Some(Fault::Latency { up, .. }), Direction::Requests) => up,
            (Some(Fault::Latency { down, .. }), Direction::Replies) => down,
            _ => Duration::ZERO,
        }
    }

    pub(super) fn rate(&self) -> Option<u64> {
        match self.fault {
            Some(Fault::Throttle { bytes_per_second }) if bytes_per_second > 0 => {
                Some(bytes_per_second)
            }
            _ => None,
        }
    }

    pub(super) fn drops(&self, direction: Direction) -> bool {
        self.fault == Some(Fault::DropReplies) && direction == Direction::Replies
    }

    /// After how many bytes to reset.
    pub(super) fn cut(&self, direction: Direction) -> Option<u64> {
        match self.fault {
            Some(Fault::CutAfterReplyBytes(bytes)) if direction == Direction::Replies => {
                Some(bytes)
            }
            _ => None,
        }
    }
}
