//! Who wants what, and which line it comes over.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    line::{self, Line},
    message::Message,
    queue::Queue,
    topic::{Kind, Topic},
};
use crate::{
    Codec, Error, Pattern, Result,
    conn::{Core, Place},
};

/// The subscribers of a connection, and the lines over which their messages come.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    book: Mutex<Book>,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Book {
    wanted: HashMap<Topic, Wanted>,
    lines: HashMap<Place, Arc<Line>>,
    ended: bool,
}

/// A topic that somebody wants.
#[derive(Debug, Default)]
struct Wanted {
    /// Where it is subscribed to; nowhere while nobody has its slot.
    place: Option<Place>,
    /// The server has confirmed it on the link of now.
    live: bool,
    subscribers: Vec<Subscriber>,
}

#[derive(Debug)]
struct Subscriber {
    id: Id,
    queue: Arc<Queue>,
    codec: Codec,
    /// What the server's wildcard may find beyond what is meant.
    pattern: Option<Arc<Pattern>>,
    /// Told when the server has confirmed or refused.
    waiting: Option<oneshot::Sender<Result<()>>>,
    /// It has been told of a gap and not of its end.
    down: bool,
}

/// Names one subscriber.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Id(u64);

/// The answer to a wish for a topic.
pub(super) type Confirmation = oneshot::Receiver<Result<()>>;

/// What somebody wants to hear.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Wish {
    pub(super) topic: Topic,
    pub(super) pattern: Option<Arc<Pattern>>,
}

/// What a message did not find room for.
pub(super) type Crowded = (Arc<Queue>, Message);

impl Hub {
    /// Puts a subscriber down for all of `wishes`; the answers come one by one.
    pub(super) fn join(
        self: &Arc<Self>,
        core: &Arc<Core>,
        wishes: Vec<Wish>,
        queue: &Arc<Queue>,
        codec: Codec,
    ) -> (Id, Vec<Confirmation>) {
        let id = Id(self.next.fetch_add(1, Ordering::Relaxed));
        let mut book = self.lock();
        let mut answers = Vec::with_capacity(wishes.len());
        for Wish { topic, pattern } in wishes {
            let (answer, confirmation) = oneshot::channel();
            answers.push(confirmation);
            if book.ended {
                // Whoever waits for it may have gone.
                let _ = answer.send(Err(Error::closed()));
                continue;
            }
            let wanted = book
                .wanted
                .entry(topic.clone())
                .or_insert_with(|| Wanted { place: place_of(core, &topic), ..Wanted::default() });
            let (queue, waiting) = (Arc::clone(queue), Some(answer));
            let mut subscriber = Subscriber { id, queue, codec, pattern, waiting, down: false };
            if wanted.live {
                subscriber.answer(Ok(()));
            }
            wanted.subscribers.push(subscriber);
            if let Some(place) = wanted.place.clone().filter(|_| !wanted.live) {
                self.line(&mut book, core, place).changed(topic);
            }
        }
        (id, answers)
    }

    /// Has a subscriber begin with a gap instead of waiting for answers.
    pub(super) fn begin_without(&self, id: Id, topics: &[Topic]) {
        let mut book = self.lock();
        for topic in topics {
            let subscribers =
                book.wanted.get_mut(topic).into_iter().flat_map(|wanted| &mut wanted.subscribers);
            for subscriber in subscribers.filter(|subscriber| subscriber.id == id) {
                // No answer has come yet.
                if subscriber.waiting.take().is_some() {
                    subscriber.down = true;
                    subscriber.queue.lost(1, Instant::now());
                }
            }
        }
    }

    /// Forgets a subscriber.
    pub(super) fn leave(&self, id: Id, topics: &[Topic]) {
        let mut book = self.lock();
        for topic in topics {
            let Some(wanted) = book.wanted.get_mut(topic) else { continue };
            wanted.subscribers.retain(|subscriber| subscriber.id != id);
            if wanted.subscribers.is_empty() {
                let place = wanted.place.clone();
                book.wanted.remove(topic);
                if let Some(line) = place.and_then(|place| book.lines.get(&place)) {
                    line.changed(topic.clone());
                }
            }
        }
    }

    /// Has shard channels follow their slots.
    pub(crate) fn rearranged(self: &Arc<Self>, core: &Arc<Core>) {
        let mut book = self.lock();
        let sharded = book.wanted.iter().filter(|(topic, _)| topic.kind == Kind::Sharded);
        let place = |topic: &Topic| place_of(core, topic);
        let moved = sharded.filter(|(topic, wanted)| place(topic) != wanted.place);
        let moved: Vec<Topic> = moved.map(|(topic, _)| topic.clone()).collect();
        for topic in moved {
            let to = place(&topic);
            let Some(wanted) = book.wanted.get_mut(&topic) else { continue };
            let from = std::mem::replace(&mut wanted.place, to.clone());
            if let Some(from) = from.and_then(|from| book.lines.get(&from)).cloned() {
                self.lost_in(&mut book, &topic, from.proven());
                from.changed(topic.clone());
            }
            if let Some(to) = to {
                self.line(&mut book, core, to).changed(topic);
            }
        }
    }

    /// Ends all lines and all subscriptions.
    pub(crate) fn end(&self) {
        let mut book = self.lock();
        book.ended = true;
        for (_, line) in book.lines.drain() {
            line.end();
        }
        for wanted in book.wanted.drain().map(|(_, wanted)| wanted) {
            for mut subscriber in wanted.subscribers {
                subscriber.queue.close();
                subscriber.answer(Err(Error::closed()));
            }
        }
    }

    /// The lines that somebody wants something of.
    pub(crate) fn lines(&self) -> Vec<Arc<Line>> {
        let book = self.lock();
        let is_wanted = |line: &&Arc<Line>| {
            book.wanted.values().any(|wanted| wanted.place.as_ref() == Some(&line.place))
        };
        book.lines.values().filter(is_wanted).cloned().collect()
    }

    /// Whether a line is to be subscribed to `topic`.
    pub(super) fn wants(&self, line: &Line, topic: &Topic) -> bool {
        self.lock()
            .wanted
            .get(topic)
            .is_some_and(|wanted| wanted.place.as_ref() == Some(&line.place))
    }

    /// All that a line is to be subscribed to.
    pub(super) fn wanted_at(&self, line: &Line) -> Vec<Topic> {
        let book = self.lock();
        let here =
            book.wanted.iter().filter(|(_, wanted)| wanted.place.as_ref() == Some(&line.place));
        here.map(|(topic, _)| topic.clone()).collect()
    }

    /// Whether all that a line is to be subscribed to is confirmed.
    pub(super) fn is_complete(&self, line: &Line) -> bool {
        let book = self.lock();
        let mut here =
            book.wanted.values().filter(|wanted| wanted.place.as_ref() == Some(&line.place));
        here.all(|wanted| wanted.live)
    }

    /// Forgets a line that nobody wants anything of; returns whether that is so.
    pub(super) fn let_go(&self, line: &Line) -> bool {
        let mut book = self.lock();
        if book.wanted.values().any(|wanted| wanted.place.as_ref() == Some(&line.place)) {
            return false;
        }
        book.lines.remove(&line.place);
        true
    }

    /// The server has confirmed a topic on a line.
    pub(super) fn confirmed(&self, line: &Line, topic: &Topic) {
        let mut book = self.lock();
        let wanted = book.wanted.get_mut(topic);
        let Some(wanted) = wanted.filter(|wanted| wanted.place.as_ref() == Some(&line.place))
        else {
            return;
        };
        wanted.live = true;
        for subscriber in &mut wanted.subscribers {
            if std::mem::take(&mut subscriber.down) {
                subscriber.queue.found();
            }
            subscriber.answer(Ok(()));
        }
    }

    /// The server has refused a topic. Returns whether somebody goes on waiting for it, who had it before.
    pub(super) fn refused(&self, topic: &Topic, err: &Error) -> bool {
        let mut book = self.lock();
        let Some(wanted) = book.wanted.get_mut(topic) else { return false };
        for subscriber in &mut wanted.subscribers {
            subscriber.answer(Err(err.clone()));
        }
        wanted.subscribers.iter().any(|subscriber| subscriber.down)
    }

    /// A topic does not arrive any more.
    pub(super) fn lost(&self, topic: &Topic, since: Instant) {
        self.lost_in(&mut self.lock(), topic, since);
    }

    fn lost_in(&self, book: &mut Book, topic: &Topic, since: Instant) {
        if let Some(wanted) = book.wanted.get_mut(topic) {
            tell_lost(wanted.lost(), since);
        }
    }

    /// Nothing arrives over a line any more.
    pub(super) fn lost_all(&self, line: &Line, since: Instant) {
        let mut book = self.lock();
        let here =
            book.wanted.values_mut().filter(|wanted| wanted.place.as_ref() == Some(&line.place));
        tell_lost(here.flat_map(Wanted::lost), since);
    }

    /// Hands out a message; returns it for those who want to be waited for.
    pub(super) fn deliver(
        &self,
        prefix: usize,
        topic: &Topic,
        channel: &Bytes,
        payload: &Bytes,
    ) -> Vec<Crowded> {
        let book = self.lock();
        let Some(wanted) = book.wanted.get(topic) else { return Vec::new() };
        if channel.len() < prefix {
            return Vec::new();
        }
        // What is handed out must not keep all that was read with it.
        let channel = Bytes::copy_from_slice(&channel[prefix..]);
        let payload = Bytes::copy_from_slice(payload);
        let mut crowded = Vec::new();
        for Subscriber { queue, codec, pattern, .. } in &wanted.subscribers {
            if pattern.as_ref().is_some_and(|pattern| !pattern.matches(&channel)) {
                continue;
            }
            let (channel, payload) = (channel.clone(), payload.clone());
            let message = Message { channel, payload, codec: *codec, pattern: pattern.clone() };
            if let Some(message) = queue.push(message) {
                crowded.push((Arc::clone(queue), message));
            }
        }
        crowded
    }

    /// The line to a place, which is begun when there is none yet.
    fn line<'a>(
        self: &Arc<Self>,
        book: &'a mut Book,
        core: &Arc<Core>,
        place: Place,
    ) -> &'a Arc<Line> {
        book.lines.entry(place.clone()).or_insert_with(|| {
            let line = Arc::new(Line::new(place));
            let task = line::keep(Arc::clone(core), Arc::clone(self), Arc::clone(&line));
            line.own(core.spawn(task));
            line
        })
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted {
    /// It does not arrive any more: the subscribers to be told so.
    fn lost(&mut self) -> impl Iterator<Item = (Id, Arc<Queue>)> {
        let was_live = std::mem::take(&mut self.live);
        self.subscribers.iter_mut().filter(move |_| was_live).map(|subscriber| {
            subscriber.down = true;
            (subscriber.id, Arc::clone(&subscriber.queue))
        })
    }
}

/// Tells each subscriber once, however many of its topics do not arrive any more.
fn tell_lost(lost: impl Iterator<Item = (Id, Arc<Queue>)>, since: Instant) {
    let mut told: HashMap<Id, (Arc<Queue>, usize)> = HashMap::new();
    for (id, queue) in lost {
        told.entry(id).or_insert((queue, 0)).1 += 1;
    }
    for (queue, topics) in told.into_values() {
        queue.lost(topics, since);
    }
}

impl Subscriber {
    fn answer(&mut self, answer: Result<()>) {
        if let Some(waiting) = self.waiting.take() {
            // Whoever waited may have gone.
            let _ = waiting.send(answer);
        }
    }
}

fn place_of(core: &Core, topic: &Topic) -> Option<Place> {
    match topic.kind {
        Kind::Channel | Kind::Pattern => Some(Place::Anywhere),
        Kind::Sharded => core.place_of(topic.slot()),
    }
}
