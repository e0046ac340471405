//! One link of a line: what it is subscribed to, what was asked and not answered yet, and whether it works.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    hub::{Crowded, Hub},
    line::Line,
    probe::Probe,
    topic::{Heard, Kind, Topic, read},
};
use crate::{
    Error, ErrorKind, Result,
    conn::{Core, Place},
    error::fred::from_refusal,
    listen::{Frame, Wire},
};

/// How many topics are asked for in one command.
const AT_ONCE: usize = 256;

pub(super) struct Session<'a> {
    core: &'a Core,
    hub: &'a Hub,
    line: &'a Line,
    /// What the server sends once it has answered all that was asked.
    subscribed: HashSet<Topic>,
    /// What was asked, in order; answers come in the same one.
    asked: VecDeque<Asked>,
    /// In how many commands among them a topic is named.
    unanswered: HashMap<Topic, usize>,
    /// What was refused or has no place at this server now, and is asked for again.
    later: Vec<Topic>,
    probe: Probe,
    pings: u64,
    heard_at: Instant,
    /// When the last answer came to something that was asked.
    answered_at: Instant,
    ticked_at: Instant,
    /// How much of a frame had arrived then.
    buffered: usize,
    began: Instant,
    /// When the probe that arrived last was begun.
    arrived: Instant,
}

/// A command whose answer is to come.
#[derive(Debug)]
enum Asked {
    /// One confirmation for each, or one refusal for all.
    Subscribe(VecDeque<Topic>),
    Unsubscribe(VecDeque<Topic>),
    Ping {
        word: String,
        sent: Instant,
    },
}

impl<'a> Session<'a> {
    /// Asks for all that is wanted.
    pub(super) fn begin(core: &'a Core, hub: &'a Hub, line: &'a Line, wire: &mut Wire) -> Self {
        let now = Instant::now();
        let mut session = Self {
            core,
            hub,
            line,
            subscribed: HashSet::new(),
            asked: VecDeque::new(),
            unanswered: HashMap::new(),
            later: Vec::new(),
            probe: Probe::new(core, &line.place),
            pings: 0,
            heard_at: now,
            answered_at: now,
            ticked_at: now,
            buffered: 0,
            began: now,
            arrived: now,
        };
        // By itself, so that nobody is refused together with it.
        let probe = session.probe.topic.clone();
        session.reconcile(wire, vec![probe]);
        session.reconcile(wire, hub.wanted_at(line));
        session
    }

    /// Asks for those of `topics` that are wanted, and to be spared those that are not.
    pub(super) fn reconcile(&mut self, wire: &mut Wire, topics: impl IntoIterator<Item = Topic>) {
        let (mut wanted, mut unwanted) = (BTreeMap::new(), BTreeMap::new());
        for topic in topics {
            let wants = topic == self.probe.topic || self.hub.wants(self.line, &topic);
            if wants == self.subscribed.contains(&topic) {
                if wants && !self.unanswered.contains_key(&topic) {
                    // Somebody left, and somebody came before it was said.
                    self.hub.confirmed(self.line, &topic);
                }
                continue;
            }
            let by_command = if wants { &mut wanted } else { &mut unwanted };
            // What one command names has to lie in one slot.
            let slot = if topic.kind == Kind::Sharded { topic.slot() } else { 0 };
            let together: &mut BTreeSet<Topic> = by_command.entry((topic.kind, slot)).or_default();
            together.insert(topic);
        }
        for topics in unwanted.into_values() {
            for topics in Vec::from_iter(topics).chunks(AT_ONCE) {
                self.unsubscribe(wire, topics);
            }
        }
        for topics in wanted.into_values() {
            for topics in Vec::from_iter(topics).chunks(AT_ONCE) {
                self.subscribe(wire, topics);
            }
        }
    }

    fn subscribe(&mut self, wire: &mut Wire, topics: &[Topic]) {
        let Some(first) = topics.first() else { return };
        say(wire, first.kind.subscribe(), topics);
        self.subscribed.extend(topics.iter().cloned());
        self.asks_about(topics);
        self.asked.push_back(Asked::Subscribe(topics.to_vec().into()));
    }

    fn unsubscribe(&mut self, wire: &mut Wire, topics: &[Topic]) {
        let Some(first) = topics.first() else { return };
        say(wire, first.kind.unsubscribe(), topics);
        for topic in topics {
            self.subscribed.remove(topic);
        }
        self.asks_about(topics);
        self.asked.push_back(Asked::Unsubscribe(topics.to_vec().into()));
    }

    fn asks_about(&mut self, topics: &[Topic]) {
        for topic in topics {
            *self.unanswered.entry(topic.clone()).or_default() += 1;
        }
    }

    /// Notes an answer about `topic`; returns whether it is the last one to come.
    fn answered(&mut self, topic: &Topic) -> bool {
        let Some(unanswered) = self.unanswered.get_mut(topic) else { return true };
        *unanswered -= 1;
        let last = *unanswered == 0;
        if last {
            self.unanswered.remove(topic);
        }
        last
    }

    fn ping(&mut self, wire: &mut Wire) {
        self.pings += 1;
        let word = self.pings.to_string();
        wire.say(&[b"PING", word.as_bytes()]);
        self.asked.push_back(Asked::Ping { word, sent: Instant::now() });
    }

    /// Takes what the server said; returns messages that found no room.
    pub(super) fn heard(&mut self, wire: &mut Wire, frame: Frame) -> Result<Vec<Crowded>> {
        self.heard_at = Instant::now();
        match read(frame) {
            Some(Heard::Message { topic, payload, .. }) if topic == self.probe.topic => {
                self.probed(wire, &payload)?;
            }
            // Those of others, which a wide pattern finds.
            Some(Heard::Message { channel, .. }) if Probe::is_one(self.core, &channel) => {}
            Some(Heard::Message { topic, channel, payload }) => {
                let prefix = self.core.config.key_prefix.len();
                return Ok(self.hub.deliver(prefix, &topic, &channel, &payload));
            }
            Some(answer) => {
                self.answered_at = self.heard_at;
                match answer {
                    Heard::Subscribed(topic) => self.confirmed(wire, &topic)?,
                    Heard::Unsubscribed(topic) => self.unsubscribed(topic),
                    Heard::Pong(word) => self.pong(wire, &word)?,
                    Heard::Refused(text) => self.refused(wire, text)?,
                    Heard::Message { .. } => {}
                }
            }
            None => {}
        }
        Ok(Vec::new())
    }

    /// A probe has arrived. What was asked long before it was published has been answered, or has never got there.
    fn probed(&mut self, wire: &Wire, word: &[u8]) -> Result<()> {
        let Some(began) = self.probe.arrived(word) else { return Ok(()) };
        // Between nodes one message may overtake another, so there the one before counts.
        let proves = if self.is_one_server() { began } else { self.arrived };
        self.arrived = began;
        self.prove(proves);
        let half = self.core.config.probe_interval / 2;
        let Some(long_before) = began.checked_sub(half) else { return Ok(()) };
        let is_overdue =
            |asked: &Asked| matches!(asked, Asked::Ping { sent, .. } if *sent < long_before);
        if self.asked.iter().any(is_overdue) && self.answered_at < long_before {
            return Err(wire.lost("nothing that is asked on it arrives any more"));
        }
        Ok(())
    }

    fn confirmed(&mut self, wire: &Wire, topic: &Topic) -> Result<()> {
        let Some(Asked::Subscribe(topics)) = self.asked.front_mut() else {
            return Err(wire.out_of_step());
        };
        if topics.pop_front().as_ref() != Some(topic) {
            return Err(wire.out_of_step());
        }
        if topics.is_empty() {
            self.asked.pop_front();
        }
        let last = self.answered(topic);
        if *topic == self.probe.topic {
            self.probe.confirmed();
            self.prove(self.began);
        } else if last && self.subscribed.contains(topic) {
            self.hub.confirmed(self.line, topic);
        }
        self.settle();
        Ok(())
    }

    fn unsubscribed(&mut self, topic: Topic) {
        if let Some(Asked::Unsubscribe(topics)) = self.asked.front_mut()
            && topics.front() == Some(&topic)
        {
            topics.pop_front();
            if topics.is_empty() {
                self.asked.pop_front();
            }
            self.answered(&topic);
            return;
        }
        // Its slot has moved to another node.
        self.core.doubt_layout();
        if !self.subscribed.remove(&topic) {
            return;
        }
        if topic == self.probe.topic {
            self.probe = Probe::new(self.core, &self.line.place);
            self.later.push(self.probe.topic.clone());
        } else {
            self.hub.lost(&topic, self.line.proven());
            self.later.push(topic);
        }
    }

    fn pong(&mut self, wire: &Wire, word: &[u8]) -> Result<()> {
        match self.asked.pop_front() {
            Some(Asked::Ping { word: expected, sent }) if expected.as_bytes() == word => {
                self.alive(wire, sent)
            }
            _ => Err(wire.out_of_step()),
        }
    }

    /// A PING that was sent at `sent` was answered.
    fn alive(&mut self, wire: &Wire, sent: Instant) -> Result<()> {
        // An answer says nothing about where messages are published; only a probe does.
        if self.probe.is_off() {
            self.prove(sent);
        }
        self.probe.passed_by(sent);
        // What one server took before it answers comes before the answer. Between nodes it may take longer.
        if self.is_one_server() && self.probe.missing_since().is_some() {
            return Err(nothing_arrives(wire));
        }
        self.settle();
        Ok(())
    }

    fn refused(&mut self, wire: &mut Wire, text: String) -> Result<()> {
        let topics = match self.asked.pop_front() {
            Some(Asked::Subscribe(topics) | Asked::Unsubscribe(topics)) => topics,
            // A refusal is an answer too.
            Some(Asked::Ping { sent, .. }) => return self.alive(wire, sent),
            None => return Err(wire.lost(text)),
        };
        let err = from_refusal(text, &wire.address.to_string());
        let topics: Vec<Topic> =
            topics.into_iter().filter(|topic| self.is_refused(topic)).collect();
        if topics.len() > 1 {
            // One of them is enough for all to be refused.
            for topic in topics {
                self.subscribe(wire, &[topic]);
            }
            return Ok(());
        }
        for topic in topics {
            let moved = err.kind() == ErrorKind::Topology;
            if topic == self.probe.topic {
                tracing::debug!(error = %err, "subscriptions are not probed");
                self.probe.refused();
                if moved {
                    self.core.doubt_layout();
                    self.probe = Probe::new(self.core, &self.line.place);
                }
                // Without the right it goes on without; all else may pass.
                if err.kind() != ErrorKind::Denied {
                    self.later.push(self.probe.topic.clone());
                }
                continue;
            }
            if moved {
                self.core.doubt_layout();
            }
            if moved || self.hub.refused(&topic, &err) {
                self.line.condition().error = Some(err.clone());
                self.later.push(topic);
            }
        }
        Ok(())
    }

    /// Notes a refusal; returns whether that is the last word on `topic`.
    fn is_refused(&mut self, topic: &Topic) -> bool {
        self.answered(topic) && self.subscribed.remove(topic)
    }

    /// Asks for a sign of life, publishes the next probe, and asks again for what was refused. Fails when the signs
    /// that were asked for before have not come.
    pub(super) fn tick(&mut self, wire: &mut Wire) -> Result<()> {
        let period = self.core.config.probe_interval;
        let now = Instant::now();
        // Part of something big is a sign of life too.
        let buffered = wire.buffered();
        if buffered > self.buffered {
            self.heard_at = now;
        }
        self.buffered = buffered;
        // Where this task was not run for a while, what has arrived was not read.
        let was_kept =
            now.duration_since(std::mem::replace(&mut self.ticked_at, now)) > period * 3 / 2;
        if !was_kept {
            self.judge(wire, period, now)?;
        }
        if !self.is_owed(Duration::ZERO) {
            self.ping(wire);
        }
        let again = std::mem::take(&mut self.later);
        self.reconcile(wire, again);
        self.probe.begin(self.core, &self.line.place);
        Ok(())
    }

    /// Fails when the signs of life that were asked for a period ago have not come.
    fn judge(&self, wire: &Wire, period: Duration, now: Instant) -> Result<()> {
        if self.is_owed(period) && now.duration_since(self.heard_at) >= period {
            return Err(wire.lost("nothing arrives on it any more"));
        }
        let missing = self.probe.missing_since();
        if missing.is_some_and(|since| now.duration_since(since) >= period / 2) {
            return Err(nothing_arrives(wire));
        }
        Ok(())
    }

    /// Whether an answer to PING is owed for at least as long.
    fn is_owed(&self, at_least: Duration) -> bool {
        self.asked.iter().any(|asked| {
            matches!(asked, Asked::Ping { sent, .. } if sent.elapsed() + MARGIN >= at_least)
        })
    }

    /// Whether what is published goes through the server that is subscribed to, and no other.
    fn is_one_server(&self) -> bool {
        self.line.place != Place::Anywhere || !self.core.is_cluster()
    }

    /// Waits until the server has taken the probe under way.
    pub(super) async fn published(&mut self) -> Result<()> {
        self.probe.published().await
    }

    /// What the server said of the probe.
    pub(super) fn acknowledged(&mut self, wire: &mut Wire, published: Result<()>) {
        if self.probe.acknowledged(published) {
            self.ping(wire);
        }
    }

    /// Nothing was read for a while, because somebody had to be waited for.
    pub(super) fn waited(&mut self) {
        self.heard_at = Instant::now();
    }

    /// Whether nobody wants anything of it.
    pub(super) fn is_idle(&self) -> bool {
        self.subscribed.iter().all(|topic| *topic == self.probe.topic) && self.later.is_empty()
    }

    /// All that was published before `moment` has arrived.
    fn prove(&self, moment: Instant) {
        let mut condition = self.line.condition();
        condition.proven = condition.proven.max(moment);
    }

    /// Notes whether all is well.
    fn settle(&self) {
        if self.asked.iter().any(|asked| matches!(asked, Asked::Subscribe(_))) {
            return;
        }
        let live = self.later.is_empty() && self.hub.is_complete(self.line);
        let mut condition = self.line.condition();
        condition.live = live;
        if live {
            condition.error = None;
        }
    }
}

/// A timer may come a moment early.
const MARGIN: Duration = Duration::from_millis(5);

fn say(wire: &mut Wire, command: &str, topics: &[Topic]) {
    let names = topics.iter().map(|topic| &*topic.name);
    let parts: Vec<&[u8]> = std::iter::once(command.as_bytes()).chain(names).collect();
    wire.say(&parts);
}

fn nothing_arrives(wire: &Wire) -> Error {
    wire.lost("it answers, but what is published does not arrive")
}
