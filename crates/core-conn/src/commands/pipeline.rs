use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{Call, call::Read, reply::Reply, request::Request};
use crate::{
    Codec, Conn, Error, ErrorKind, ReadFrom, Replay, Result,
    conn::{Manner, after, left, together},
};

/// Several calls that are sent at once, each with a result of its own.
///
/// ```no_run
/// # async fn f(conn: redbrick_core_conn::Conn) -> Result<(), redbrick_core_conn::Error> {
/// let mut pipeline = conn.pipeline();
/// let name = pipeline.add(conn.get::<String>("name"));
/// let visits = pipeline.add(conn.increment("visits", 1));
/// let mut results = pipeline.send().await;
/// let (name, visits) = (results.take(name)?, results.take(visits)?);
/// # Ok(()) }
/// ```
///
/// It saves waiting, not work: one round trip in all, on Cluster one per node, at the same time. Commands of others
/// may come in between; for all or nothing there is [`Transaction`](crate::Transaction). Commands on one key run in the
/// order in which they were added, except while the key moves from one node of a cluster to another: one that was sent
/// elsewhere runs after those that were not. The first call of each [`Script`](crate::Script) carries its text (`EVAL`).
///
/// Nothing is repeated, except what a node of a cluster has sent elsewhere. A `timeout` or `replay` said to one
/// of the calls does not count here; an `or_empty` does, when its result is taken. More calls than
/// [`max_waiting`](crate::ConfigBuilder::max_waiting) are refused whole. A call of another connection is refused with
/// [`ErrorKind::InvalidArgument`].
#[must_use = "nothing is sent until `send` is awaited"]
pub struct Pipeline<'a> {
    pub(super) conn: &'a Conn,
    pub(super) batch: Batch,
    pub(super) timeout: Duration,
}

/// What a pipeline and a transaction are given.
pub(super) struct Batch {
    pub(super) id: u64,
    pub(super) requests: Vec<Result<Request>>,
}

/// Where the result of one call is found among the [`Results`].
pub struct Ticket<T> {
    batch: u64,
    index: usize,
    codec: Codec,
    read: Read<T>,
    empty: fn() -> T,
    or_empty: bool,
}

/// The results of a [`Pipeline`] or a [`Transaction`](crate::Transaction), to be taken one by one.
#[must_use = "each call has a result of its own; `check` returns the first error"]
pub struct Results {
    batch: u64,
    replies: Vec<Option<Answer>>,
}

/// What became of one call; nothing when it was answered without a server.
pub(super) type Answer = Result<Option<Reply>>;

impl Conn {
    /// Begins a pipeline.
    pub fn pipeline(&self) -> Pipeline<'_> {
        Pipeline { conn: self, batch: Batch::new(), timeout: self.command_timeout() }
    }
}

impl<'a> Pipeline<'a> {
    /// Adds a call, and returns the ticket for its result.
    pub fn add<T>(&mut self, call: impl Into<Call<'a, T>>) -> Ticket<T> {
        self.batch.add(self.conn, call.into())
    }

    /// Sets how long the whole may take; less than a millisecond counts as one.
    ///
    /// Default: the connection's [`command_timeout`](crate::ConfigBuilder::command_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Returns how many calls were added.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.requests.len()
    }

    /// Returns whether no call was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.requests.is_empty()
    }

    /// Sends the calls, and waits for all results. An error of one leaves the others alone.
    ///
    /// When the future is dropped, any of them may still run.
    #[tracing::instrument(level = "debug", name = "core_conn.pipeline", skip_all, fields(calls = self.len()))]
    pub async fn send(self) -> Results {
        let Self { conn, batch, timeout } = self;
        let Batch { id, requests } = batch;
        Results::new(id, conn.send_all(requests, timeout).await)
    }
}

impl Batch {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), requests: Vec::new() }
    }

    pub(super) fn add<T>(&mut self, conn: &Conn, mut call: Call<'_, T>) -> Ticket<T> {
        let index = self.requests.len();
        let or_empty = call.is_or_empty();
        let (codec, request) = call.request(conn);
        self.requests.push(request);
        Ticket { batch: self.id, index, codec, read: call.read, empty: call.empty, or_empty }
    }
}

impl Results {
    pub(super) fn new(batch: u64, replies: Vec<Answer>) -> Self {
        Self { batch, replies: replies.into_iter().map(Some).collect() }
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
        let Ticket { batch, index, codec, read, empty, or_empty } = ticket;
        let own = self.batch == batch;
        let answer = self.replies.get_mut(index).filter(|_| own).and_then(Option::take);
        let foreign =
            || Error::new(ErrorKind::InvalidArgument, "the ticket is from another pipeline");
        match answer.ok_or_else(foreign)? {
            Ok(Some(reply)) => read(codec, reply),
            Ok(None) => Ok(empty()),
            Err(err) if or_empty && err.is_retryable() => Ok(empty()),
            Err(err) => Err(err),
        }
    }

    /// Returns the first error among the results that were not taken yet.
    ///
    /// # Errors
    ///
    /// That error.
    pub fn check(&self) -> Result<()> {
        let mut errors = self.replies.iter().flatten().filter_map(|reply| reply.as_ref().err());
        errors.next().map_or(Ok(()), |err| Err(err.clone()))
    }
}

/// A request of a pipeline, and its place among the others.
struct Step {
    place: usize,
    request: Request,
    manner: Manner,
}

impl Conn {
    /// Sends requests at once, those to one server in their order, and then what was sent elsewhere one by one.
    async fn send_all(&self, requests: Vec<Result<Request>>, timeout: Duration) -> Vec<Answer> {
        let deadline = after(timeout);
        let entered = match self.enter(requests.len()) {
            Ok(calls) => calls,
            Err(err) => return requests.iter().map(|_| Err(err.clone())).collect(),
        };
        let mut answers: Vec<Answer> = requests.iter().map(|_| Ok(None)).collect();
        // A lazy connection to a cluster learns only now which server has what.
        self.layout_known(deadline).await;
        let mut groups = BTreeMap::<_, Vec<Step>>::new();
        for (place, request) in requests.into_iter().enumerate() {
            match self.step(place, request, timeout) {
                Ok(Step { request: Request::Known(reply), .. }) => {
                    answers[place] = Ok(Some(reply));
                }
                Ok(step) => {
                    groups.entry(self.server_of(&step.manner.route)).or_default().push(step);
                }
                Err(err) => answers[place] = Err(err),
            }
        }
        let groups = groups.into_values().map(|group| Box::pin(self.send_group(group, deadline)));
        let sent = together(groups.collect::<Vec<_>>()).await.into_iter().flatten();
        // Those that follow count one by one.
        drop(entered);
        let mut elsewhere = BTreeMap::new();
        for (step, answer) in sent {
            match answer {
                Err(err) if err.redirect().is_some() => {
                    elsewhere.insert(step.place, (step, err));
                }
                answer => answers[step.place] = answer,
            }
        }
        for (place, (step, err)) in elsewhere {
            let Step { request, manner, .. } = step;
            // Of the others nothing is repeated, so neither is this more than it was sent around.
            let manner = Manner { timeout: left(deadline), replay: Replay::IfUnsent, ..manner };
            answers[place] = self.ask_again(&request, manner, err).await.map(Some);
        }
        answers
    }

    /// Sends what goes to one server over one link, so that it stays in order.
    async fn send_group(&self, mut group: Vec<Step>, deadline: Instant) -> Vec<(Step, Answer)> {
        let Some(first) = group.first() else { return Vec::new() };
        if self.does_without(&first.manner, false).await {
            return group.into_iter().map(|step| (step, Ok(None))).collect();
        }
        let link = match self.link_to(&first.manner.route, deadline).await {
            Ok(link) => link,
            Err(err) => return group.into_iter().map(|step| (step, Err(err.clone()))).collect(),
        };
        // The first call of each script carries its text: asked for by its digest only, it could turn out to be
        // unknown, and run after what was added behind it.
        let mut told = BTreeSet::new();
        for step in &mut group {
            if let Some(script) = step.request.script()
                && told.insert(script.digest())
            {
                step.request = std::mem::replace(&mut step.request, Request::Ping).by_text();
            }
        }
        let link = &link;
        let calls = group.into_iter().map(|step| {
            Box::pin(async move {
                let reply = self.send_once(link, &step.request, deadline).await;
                (step, reply.map(Some))
            })
        });
        together(calls.collect::<Vec<_>>()).await
    }

    /// A request of a pipeline or a transaction with its manner. Replicas are left out: what was just written is to
    /// be read.
    fn step(&self, place: usize, request: Result<Request>, timeout: Duration) -> Result<Step> {
        let request = request?;
        self.check_slots(request.keys())?;
        let manner = Manner { read_from: ReadFrom::Master, timeout, ..self.manner_of(&request) };
        Ok(Step { place, request, manner })
    }
}

impl fmt::Debug for Pipeline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("len", &self.len()).finish_non_exhaustive()
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
        f.debug_struct("Results").field("len", &self.replies.len()).finish_non_exhaustive()
    }
}
