//! Messages that a line publishes to itself, to see whether messages arrive.

use std::{
    future::{Future, pending},
    hash::{BuildHasher, RandomState},
    pin::Pin,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::topic::{Kind, Topic};
use crate::{
    Result,
    conn::{Core, Place},
};

/// What all channels of probes begin with, behind the connection's prefix.
const CHANNELS: &str = "redbrick:probe:";
/// How many names are tried for a channel in a slot of a given master: more than there are slots.
const MOST_NAMES: u32 = 1 << 18;

/// One message of a line to itself at a time.
pub(super) struct Probe {
    pub(super) topic: Topic,
    stage: Stage,
    /// How many there were: the words that are published.
    count: u64,
    /// When the one under way was begun.
    began: Instant,
}

enum Stage {
    /// The server has not confirmed the channel, or has refused it.
    Off,
    Idle,
    /// It is being handed to the server.
    Publishing(Pin<Box<dyn Future<Output = Result<()>> + Send>>),
    Published {
        at: Instant,
        /// The link has answered a PING since then.
        passed: bool,
    },
}

impl Probe {
    /// A probe with a channel that nobody else uses, which the server at `place` delivers to its own subscribers.
    pub(super) fn new(core: &Core, place: &Place) -> Self {
        let random = || RandomState::new().hash_one(());
        let prefix = &core.config.key_prefix;
        let name = format!("{prefix}{CHANNELS}{:016x}{:016x}", random(), random());
        let topic = |kind, name: String| Topic { kind, name: name.into() };
        let topic = match place {
            Place::Anywhere => topic(Kind::Channel, name),
            Place::Master(_) => {
                let named = |number| topic(Kind::Sharded, format!("{name}:{number}"));
                let is_there = |topic: &Topic| core.place_of(topic.slot()).as_ref() == Some(place);
                // Where no name fits, the server refuses the last one, and there is no probe.
                (0..MOST_NAMES).map(named).find(is_there).unwrap_or_else(|| named(0))
            }
        };
        Self { topic, stage: Stage::Off, count: 0, began: Instant::now() }
    }

    /// Whether messages to `channel` are probes, of whichever connection with the same prefix.
    pub(super) fn is_one(core: &Core, channel: &[u8]) -> bool {
        let rest = channel.strip_prefix(core.config.key_prefix.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(CHANNELS.as_bytes()))
    }

    /// The server has confirmed the channel.
    pub(super) fn confirmed(&mut self) {
        self.stage = Stage::Idle;
    }

    pub(super) fn is_off(&self) -> bool {
        matches!(self.stage, Stage::Off)
    }

    /// It cannot be subscribed to any more.
    pub(super) fn refused(&mut self) {
        self.stage = Stage::Off;
    }

    /// Publishes the next one, when the one before has arrived.
    pub(super) fn begin(&mut self, core: &Core, place: &Place) {
        if !matches!(self.stage, Stage::Idle) {
            return;
        }
        let Some(link) = core.link_at(place) else { return };
        self.count += 1;
        self.began = Instant::now();
        let command = if self.topic.kind == Kind::Sharded { "SPUBLISH" } else { "PUBLISH" };
        let (channel, word) = (self.topic.name.clone(), Bytes::from(self.count.to_string()));
        let timeout = core.config.probe_interval;
        self.stage = Stage::Publishing(Box::pin(async move {
            link.order(timeout, command, vec![channel, word]).await
        }));
    }

    /// Waits until the server has taken what is being published. Cancel safe.
    pub(super) async fn published(&mut self) -> Result<()> {
        match &mut self.stage {
            Stage::Publishing(publishing) => publishing.await,
            _ => pending().await,
        }
    }

    /// What came of publishing; returns whether it is to arrive now.
    pub(super) fn acknowledged(&mut self, published: Result<()>) -> bool {
        let taken = match published {
            Ok(_) => true,
            Err(err) => {
                tracing::debug!(error = %err, "subscriptions could not be probed");
                false
            }
        };
        self.stage = if taken {
            Stage::Published { at: Instant::now(), passed: false }
        } else {
            Stage::Idle
        };
        taken
    }

    /// A message came over the probe's channel. Returns when it was begun, if it is the one under way.
    pub(super) fn arrived(&mut self, word: &[u8]) -> Option<Instant> {
        let under_way = matches!(self.stage, Stage::Publishing(_) | Stage::Published { .. });
        if !under_way || word != self.count.to_string().as_bytes() {
            return None;
        }
        self.stage = Stage::Idle;
        Some(self.began)
    }

    /// The link has answered a PING that was sent at `sent`. What the server took before that has to be here.
    pub(super) fn passed_by(&mut self, sent: Instant) {
        if let Stage::Published { at, passed } = &mut self.stage {
            *passed |= sent >= *at;
        }
    }

    /// Since when it has been missing, although what was said after it has arrived.
    pub(super) fn missing_since(&self) -> Option<Instant> {
        match self.stage {
            Stage::Published { at, passed: true } => Some(at),
            _ => None,
        }
    }
}
