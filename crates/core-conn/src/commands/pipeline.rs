use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{Call, call::Read, reply::Reply, request::Request};
use crate::{
    Codec, Conn, Error, ErrorKind, ReadFrom, Result,
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
/// order in which they were added. The first call of each [`Script`](crate::Script) carries its text (`EVAL`).
///
/// Nothing is repeated, except what a node of a cluster has sent elsewhere. A `timeout`, `replay` or `or_empty` said
/// to one of the calls does not count here. A call of another connection is refused with
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
}

/// The results of a [`Pipeline`] or a [`Transaction`](crate::Transaction), to be taken one by one.
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
        let (codec, request) = call.request(conn);
        self.requests.push(request);
        Ticket { batch: self.id, index, codec, read: call.read, empty: call.empty }
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
        let Ticket { batch, index, codec, read, empty } = ticket;
        let own = self.batch == batch;
        let answer = self.replies.get_mut(index).filter(|_| own).and_then(Option::take);
        let foreign =
            || Error::new(ErrorKind::InvalidArgument, "the ticket is from another pipeline");
        match answer.ok_or_else(foreign)?? {
            Some(reply) => read(codec, reply),
            None => Ok(empty()),
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

impl Conn {
    /// Sends requests at once, those to one server in their order, and then what was sent elsewhere one by one.
    async fn send_all(&self, requests: Vec<Result<Request>>, timeout: Duration) -> Vec<Answer> {
        let deadline = after(timeout);
        let entered = match self.enter(requests.len()) {
            Ok(calls) => calls,
            Err(err) => return requests.iter().map(|_| Err(err.clone())).collect(),
        };
        // One link per server, so that its commands stay in order.
        let mut links = BTreeMap::new();
        // The first call of each script carries its text: asked for by its digest only, it could turn out to be
        // unknown, and run after what was added behind it.
        let mut told = BTreeSet::new();
        let mut steps = Vec::with_capacity(requests.len());
        for request in requests {
            let mut step = self.step(request, timeout);
            let mut link = None;
            if let Ok((request, manner)) = &mut step
                && !matches!(request, Request::Known(_))
            {
                let mut server = self.server_of(&manner.route);
                if !links.contains_key(&server) {
                    let found = if self.does_without(manner).await {
                        Ok(None)
                    } else {
                        self.link_to(&manner.route, deadline).await.map(Some)
                    };
                    // It may have become known only now.
                    server = self.server_of(&manner.route);
                    links.entry(server).or_insert(found);
                }
                link = links.get(&server).cloned();
                if let Some(script) = request.script()
                    && told.insert((server, script.digest()))
                {
                    *request = std::mem::replace(request, Request::Ping).by_text();
                }
            }
            steps.push((step, link));
        }
        let calls = steps.into_iter().map(|(step, link)| {
            Box::pin(async move {
                let (request, manner) = step?;
                let link = match (&request, link) {
                    (Request::Known(answer), _) => {
                        let reply = Ok(Some(Reply::Int(*answer)));
                        return Ok((request, manner, reply));
                    }
                    (_, Some(Ok(Some(link)))) => link,
                    (_, Some(Err(err))) => return Err(err),
                    (_, Some(Ok(None)) | None) => return Ok((request, manner, Ok(None))),
                };
                let reply = self.send_once(&link, &request, deadline).await;
                Ok((request, manner, reply.map(Some)))
            })
        });
        let mut answers = Vec::new();
        let steps = together(calls.collect::<Vec<_>>()).await;
        // Those that follow count one by one.
        drop(entered);
        for step in steps {
            answers.push(match step {
                Ok((request, manner, Err(err))) if err.redirect().is_some() => {
                    let manner = Manner { timeout: left(deadline), ..manner };
                    self.ask(&request, manner).await.map(Some)
                }
                Ok((_, _, answer)) => answer,
                Err(err) => Err(err),
            });
        }
        answers
    }

    /// A request of a pipeline or a transaction with its manner. Replicas are left out: what was just written is to
    /// be read.
    fn step(&self, request: Result<Request>, timeout: Duration) -> Result<(Request, Manner)> {
        let request = request?;
        self.check_slots(request.keys())?;
        let (route, replay) = (request.route(), request.replay());
        Ok((request, Manner { route, replay, read_from: ReadFrom::Master, timeout }))
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
