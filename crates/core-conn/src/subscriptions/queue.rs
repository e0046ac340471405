//! What waits for one subscriber: bounded, with a policy for when it is full.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout};

use super::message::{Event, Message};

/// What happens to a subscription whose queue is full when another message comes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Overflow {
    /// The oldest messages are dropped, and [`Event::Lagged`] stands in their place.
    #[default]
    DropOldest,
    /// The subscription ends: what is in the queue can still be read, then comes [`Event::Lagged`] for the message that
    /// had no room, then nothing.
    Close,
    /// Nothing more is read from the server until there is room, for at most this long; after that the oldest messages
    /// are dropped until the queue has been emptied once.
    ///
    /// Such a subscription has a connection of its own, so that nobody else waits. The server keeps what is not read,
    /// up to its `client-output-buffer-limit pubsub`, and closes the connection beyond it: that is an [`Event::Gap`].
    Wait(Duration),
}

/// How much may wait for one subscriber, and what happens beyond.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) messages: NonZeroUsize,
    pub(super) bytes: usize,
    pub(super) overflow: Overflow,
}

/// What waits for one subscriber.
#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    waiting: Mutex<Waiting>,
    /// There is room again.
    room: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Between two messages there are at most three other events.
    events: VecDeque<Event>,
    messages: usize,
    bytes: usize,
    /// How many of its topics do not arrive.
    down: usize,
    /// It was waited for in vain, and is not waited for again before it is empty.
    given_up: bool,
    closed: bool,
    reader: Option<Waker>,
}

/// How many events before the first message are kept apart.
const MOST_LOSSES: usize = 6;

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, waiting: Mutex::default(), room: Notify::new() }
    }

    /// Puts `message` behind the others; gives it back when there is no room and room is to be [waited](Self::wait)
    /// for.
    pub(super) fn push(&self, message: Message) -> Option<Message> {
        let mut waiting = self.lock();
        while !waiting.closed && !waiting.has_room(&self.limits, message.size()) {
            match self.limits.overflow {
                Overflow::Close => {
                    waiting.lose();
                    waiting.closed = true;
                }
                Overflow::Wait(_) if !waiting.given_up => return Some(message),
                Overflow::Wait(_) | Overflow::DropOldest => waiting.drop_oldest(),
            }
        }
        if !waiting.closed {
            waiting.messages += 1;
            waiting.bytes += message.size();
            waiting.events.push_back(Event::Message(message));
        }
        waiting.wake();
        None
    }

    /// Puts `message` behind the others as soon as there is room, or when the time for that is over.
    pub(super) async fn wait(&self, mut message: Message) {
        let Overflow::Wait(longest) = self.limits.overflow else { return };
        let waited = async {
            loop {
                let room = self.room.notified();
                match self.push(message.clone()) {
                    Some(_) => room.await,
                    None => return,
                }
            }
        };
        if timeout(longest, waited).await.is_err() {
            self.lock().given_up = true;
            while let Some(again) = self.push(message) {
                message = again;
            }
        }
    }

    /// So many of its topics stopped arriving.
    pub(super) fn lost(&self, topics: usize, since: Instant) {
        let mut waiting = self.lock();
        waiting.down += topics;
        if !waiting.closed {
            waiting.gap(since);
            waiting.wake();
        }
    }

    /// One of its topics arrives again.
    pub(super) fn found(&self) {
        let mut waiting = self.lock();
        waiting.down -= 1;
        if waiting.down == 0 && !waiting.closed {
            waiting.events.push_back(Event::Resumed);
            waiting.wake();
        }
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.wake();
    }

    /// How many messages wait.
    pub(super) fn messages(&self) -> usize {
        self.lock().messages
    }

    /// Takes the next event; none at the end.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut waiting = self.lock();
        let Some(event) = waiting.events.pop_front() else {
            if waiting.closed {
                return Poll::Ready(None);
            }
            if waiting.reader.as_ref().is_none_or(|reader| !reader.will_wake(cx.waker())) {
                waiting.reader = Some(cx.waker().clone());
            }
            return Poll::Pending;
        };
        if let Event::Message(message) = &event {
            waiting.messages -= 1;
            waiting.bytes -= message.size();
            waiting.given_up &= waiting.messages > 0;
            self.room.notify_one();
        }
        Poll::Ready(Some(event))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// One message has room in any case.
    fn has_room(&self, limits: &Limits, size: usize) -> bool {
        self.messages == 0
            || (self.messages < limits.messages.get() && self.bytes + size <= limits.bytes)
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Counts a message that comes last and has no room.
    fn lose(&mut self) {
        match self.events.back_mut() {
            Some(Event::Lagged(lost)) => *lost += 1,
            _ => self.events.push_back(Event::Lagged(1)),
        }
    }

    fn drop_oldest(&mut self) {
        let is_message = |event: &Event| matches!(event, Event::Message(_));
        let Some(first) = self.events.iter().position(is_message) else { return };
        let mut lost = 1;
        if let Some(Event::Message(message)) = self.events.remove(first) {
            self.messages -= 1;
            self.bytes -= message.size();
        }
        // Losses that have nothing between them any more are one.
        if let Some(Event::Lagged(after)) = self.events.get(first) {
            lost += after;
            self.events.remove(first);
        }
        match first.checked_sub(1).and_then(|before| self.events.get_mut(before)) {
            Some(Event::Lagged(before)) => *before += lost,
            _ => self.events.insert(first, Event::Lagged(lost)),
        }
        self.merge_losses();
    }

    /// Makes one of all losses before the first message, when there are many.
    fn merge_losses(&mut self) {
        let is_message = |event: &Event| matches!(event, Event::Message(_));
        let losses = self.events.iter().position(is_message).unwrap_or(self.events.len());
        if losses <= MOST_LOSSES {
            return;
        }
        let (mut lagged, mut gap, mut resumed) = (0, None::<Instant>, false);
        for event in self.events.drain(..losses) {
            match event {
                Event::Lagged(lost) => lagged += lost,
                Event::Gap { since } => {
                    gap = Some(gap.map_or(since, |first| first.min(since)));
                    resumed = false;
                }
                Event::Resumed => resumed = true,
                Event::Message(_) => {}
            }
        }
        if resumed {
            self.events.push_front(Event::Resumed);
        }
        if let Some(since) = gap {
            self.events.push_front(Event::Gap { since });
        }
        if lagged > 0 {
            self.events.push_front(Event::Lagged(lagged));
        }
    }

    fn gap(&mut self, since: Instant) {
        // One that nothing came after is the same one still.
        if matches!(self.events.back(), Some(Event::Resumed)) && self.events.len() > 1 {
            let before = self.events.get(self.events.len() - 2);
            if matches!(before, Some(Event::Gap { .. })) {
                self.events.pop_back();
            }
        }
        match self.events.back_mut() {
            Some(Event::Gap { since: first }) => *first = since.min(*first),
            _ => self.events.push_back(Event::Gap { since }),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Codec;

    const SECOND: Duration = Duration::from_secs(1);

    fn queue(messages: usize) -> Queue {
        let messages = NonZeroUsize::new(messages).unwrap();
        Queue::new(Limits { messages, bytes: 1000, overflow: Overflow::DropOldest })
    }

    fn message(text: &'static str) -> Message {
        let channel = Bytes::from_static(b"c");
        Message {
            channel,
            payload: Bytes::from_static(text.as_bytes()),
            codec: Codec::Plain,
            pattern: None,
        }
    }

    /// All that waits, in words.
    fn read(queue: &Queue, start: Instant) -> Vec<String> {
        let mut events = Vec::new();
        while let Poll::Ready(Some(event)) =
            queue.poll_next(&mut Context::from_waker(Waker::noop()))
        {
            events.push(match event {
                Event::Message(message) => message.value::<String>().unwrap(),
                Event::Lagged(lost) => format!("lost {lost}"),
                Event::Gap { since } => format!("gap {}", since.duration_since(start).as_secs()),
                Event::Resumed => "resumed".to_owned(),
            });
        }
        events
    }

    #[test]
    fn losses_stand_where_they_happened() {
        let (queue, start) = (queue(2), Instant::now());
        for text in ["a", "b", "c"] {
            assert!(queue.push(message(text)).is_none());
        }
        queue.lost(1, start + SECOND);
        queue.found();
        assert_eq!(read(&queue, start), ["lost 1", "b", "c", "gap 1", "resumed"]);
        queue.lost(1, start + 2 * SECOND);
        queue.found();
        for text in ["d", "e", "f"] {
            assert!(queue.push(message(text)).is_none());
        }
        assert_eq!(read(&queue, start), ["gap 2", "resumed", "lost 1", "e", "f"]);
    }

    #[test]
    fn a_gap_is_over_when_all_that_was_lost_is_back() {
        let (queue, start) = (queue(9), Instant::now());
        queue.lost(1, start + 2 * SECOND);
        queue.lost(1, start + SECOND);
        queue.found();
        assert!(queue.push(message("a")).is_none());
        queue.found();
        assert_eq!(read(&queue, start), ["gap 1", "a", "resumed"]);
    }

    #[test]
    fn gaps_with_nothing_between_them_are_one() {
        let (queue, start) = (queue(9), Instant::now());
        for second in 1..100 {
            queue.lost(1, start + second * SECOND);
            queue.found();
        }
        assert!(queue.push(message("a")).is_none());
        queue.lost(1, start + 200 * SECOND);
        assert_eq!(read(&queue, start), ["gap 1", "resumed", "a", "gap 200"]);
    }

    #[test]
    fn however_much_is_lost_few_events_tell_of_it() {
        let (queue, start) = (queue(2), Instant::now());
        for second in 1..1000 {
            queue.lost(1, start + second * SECOND);
            queue.found();
            assert!(queue.push(message("a")).is_none());
        }
        let events = read(&queue, start);
        assert!(events.len() < MOST_LOSSES + 8, "{events:?}");
        assert_eq!(events[1..3], ["gap 1", "resumed"], "{events:?}");
        let lost = events.iter().filter_map(|event| event.strip_prefix("lost "));
        assert_eq!(lost.map(|lost| lost.parse::<u32>().unwrap()).sum::<u32>(), 997);
        assert_eq!(events.iter().filter(|event| *event == "a").count(), 2);
    }

    #[test]
    fn bytes_count_as_messages_do_and_one_has_room_in_any_case() {
        let (queue, start) = (queue(9), Instant::now());
        let big = message(Box::leak("x".repeat(600).into_boxed_str()));
        assert!(queue.push(big.clone()).is_none() && queue.push(big).is_none());
        let events = read(&queue, start);
        assert_eq!((events.len(), &*events[0]), (2, "lost 1"));
        assert!(queue.push(message(Box::leak("x".repeat(5000).into_boxed_str()))).is_none());
        assert_eq!(read(&queue, start).len(), 1);
    }
}
