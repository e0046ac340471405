//! What a [`Pipeline`](crate::Pipeline) and a [`Transaction`](crate::Transaction) are given, and how it is had back.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    Call,
    ending::{Ending, Label, Read},
    reply::Reply,
    request::Request,
};
use crate::{Codec, Conn, Error, ErrorKind, Result};

/// The calls that were added.
pub(super) struct Batch {
    id: u64,
    pub(super) added: Vec<Added>,
}

pub(super) struct Added {
    pub(super) request: Result<Request>,
    pub(super) or_empty: bool,
}

/// Where the result of one call is found among the [`Results`].
pub struct Ticket<T> {
    batch: u64,
    index: usize,
    codec: Codec,
    read: Read<T>,
    empty: fn() -> T,
}

/// The results of a [`Pipeline`](crate::Pipeline) or a [`Transaction`](crate::Transaction), to be taken one by one.
#[must_use = "each call has a result of its own; `check` returns the first error"]
pub struct Results {
    batch: u64,
    prefix: String,
    entries: Vec<Entry>,
}

struct Entry {
    /// None where the call could not be encoded.
    label: Option<Label>,
    /// Until it is taken.
    answer: Option<Answer>,
}

/// What became of one call; nothing when it was answered without a server.
pub(super) type Answer = Result<Option<Reply>>;

impl Batch {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), added: Vec::new() }
    }

    pub(super) fn add<T>(&mut self, conn: &Conn, mut call: Call<'_, T>) -> Ticket<T> {
        let index = self.added.len();
        let Ending { or_empty, read, empty, .. } = call.ending;
        let (codec, request) = call.request(conn);
        self.added.push(Added { request, or_empty });
        Ticket { batch: self.id, index, codec, read, empty }
    }

    /// The results to come.
    pub(super) fn expected(&self, conn: &Conn) -> Results {
        let entry = |added: &Added| Entry {
            label: added.request.as_ref().ok().map(Label::of),
            answer: None,
        };
        Results {
            batch: self.id,
            prefix: conn.config().key_prefix.clone(),
            entries: self.added.iter().map(entry).collect(),
        }
    }
}

impl Results {
    pub(super) fn with(mut self, answers: Vec<Answer>) -> Self {
        for (entry, answer) in self.entries.iter_mut().zip(answers) {
            entry.answer = Some(answer);
        }
        self
    }

    /// Returns the result of the call that `ticket` was given for.
    ///
    /// # Errors
    ///
    /// Those of the call; [`ErrorKind::InvalidArgument`] for a ticket of another pipeline or transaction.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a result can be taken once, and so can its ticket"
    )]
    pub fn take<T>(&mut self, ticket: Ticket<T>) -> Result<T> {
        let Ticket { batch, index, codec, read, empty } = ticket;
        let own = self.batch == batch;
        let entry = self.entries.get_mut(index).filter(|_| own);
        let taken = entry.and_then(|entry| Some((entry.answer.take()?, entry.label)));
        let Some((answer, label)) = taken else {
            let what = "the ticket is from another pipeline";
            return Err(Error::new(ErrorKind::InvalidArgument, what));
        };
        let value =
            answer.and_then(|reply| reply.map_or_else(|| Ok(empty()), |reply| read(codec, reply)));
        value.map_err(|err| located(label, &self.prefix, err))
    }

    /// Returns the first error among the results that were not taken yet: whether all were answered. That a value has
    /// another shape than its call wants shows in [`take`](Self::take).
    ///
    /// # Errors
    ///
    /// That error.
    pub fn check(&self) -> Result<()> {
        let mut errors = self.entries.iter().filter_map(|entry| match &entry.answer {
            Some(Err(err)) => Some(located(entry.label, &self.prefix, err.clone())),
            _ => None,
        });
        errors.next().map_or(Ok(()), Err)
    }
}

fn located(label: Option<Label>, prefix: &str, err: Error) -> Error {
    match label {
        Some(label) => label.on(prefix, err),
        None => err,
    }
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("index", &self.index).finish_non_exhaustive()
    }
}

impl fmt::Debug for Results {
    /// Shows no replies.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").field("len", &self.entries.len()).finish_non_exhaustive()
    }
}
