use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::{
    Call, Results, Ticket,
    batch::{Added, Answer, Batch},
    reply::Reply,
    request::Request,
};
use crate::{
    Conn, Error, ReadFrom, Replay, Result,
    conn::{Entered, Manner, after, left, together},
    telemetry,
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
/// of the calls does not count here; an `or_empty` does. More calls than
/// [`max_waiting`](crate::ConfigBuilder::max_waiting) are refused whole, and a call of another connection by itself, both
/// with [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument).
#[must_use = "nothing is sent until `send` is awaited"]
pub struct Pipeline<'a> {
    conn: &'a Conn,
    batch: Batch,
    timeout: Duration,
}

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
        self.batch.added.len()
    }

    /// Returns whether no call was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.added.is_empty()
    }

    /// Sends the calls, and waits for all results. An error of one leaves the others alone.
    ///
    /// When the future is dropped, any of them may still run.
    pub async fn send(self) -> Results {
        let Self { conn, batch, timeout } = self;
        let expected = batch.expected(conn);
        let span = telemetry::pipeline(batch.added.len());
        let sending = conn.send_all(batch.added, timeout, span.clone()).instrument(span);
        // Boxed, since it is large and callers put it into futures of their own.
        expected.with(Box::pin(sending).await)
    }
}

/// A request of a pipeline, and which one of them.
struct Step {
    index: usize,
    request: Request,
    manner: Manner,
    or_empty: bool,
}

impl Conn {
    /// Sends requests at once, those to one server in their order, and then what was sent elsewhere one by one.
    async fn send_all(&self, added: Vec<Added>, timeout: Duration, span: Span) -> Vec<Answer> {
        let (began, deadline) = (Instant::now(), after(timeout));
        let makes_do: Vec<_> = added.iter().map(|added| added.or_empty).collect();
        let answers = match self.enter(added.len()) {
            Ok(entered) => self.send_entered(entered, added, deadline).await,
            Err(err) => added.iter().map(|_| Err(err.clone())).collect(),
        };
        let failed = answers.iter().find_map(|answer| answer.as_ref().err());
        self.telemetry().ended("PIPELINE", began, Instant::now(), failed);
        if let Some(err) = failed {
            telemetry::failed(&span, err);
        }
        let answers = answers.into_iter().zip(makes_do).map(|(answer, or_empty)| match answer {
            Err(err) if self.makes_do(or_empty, &err) => Ok(None),
            answer => answer,
        });
        answers.collect()
    }

    async fn send_entered(
        &self,
        entered: Entered<'_>,
        added: Vec<Added>,
        deadline: Instant,
    ) -> Vec<Answer> {
        let mut answers: Vec<Answer> = added.iter().map(|_| Ok(None)).collect();
        // A lazy connection to a cluster learns only now which server has what.
        self.layout_known(deadline).await;
        let mut groups = BTreeMap::<_, Vec<Step>>::new();
        for (index, added) in added.into_iter().enumerate() {
            match self.step(index, added, deadline) {
                Ok(Step { request: Request::Known(reply), .. }) => {
                    answers[index] = Ok(Some(reply));
                }
                Ok(step) => {
                    groups.entry(self.server_of(&step.manner.route)).or_default().push(step);
                }
                Err(err) => answers[index] = Err(err),
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
                    elsewhere.insert(step.index, (step, err));
                }
                answer => answers[step.index] = answer,
            }
        }
        for (index, (step, err)) in elsewhere {
            // From here on it is a call of its own, repeated only while it surely did not run.
            answers[index] = self.send_elsewhere(step, err, deadline).await.map(Some);
        }
        answers
    }

    async fn send_elsewhere(&self, step: Step, err: Error, deadline: Instant) -> Result<Reply> {
        let Step { request, manner, .. } = step;
        let manner = Manner { timeout: left(deadline), replay: Replay::IfUnsent, ..manner };
        let answer = self.attempts(manner)?.run(&request, Some(err)).await?;
        self.reply_of(&request, answer)
    }

    /// Sends what goes to one server over one link, so that it stays in order.
    async fn send_group(&self, mut group: Vec<Step>, deadline: Instant) -> Vec<(Step, Answer)> {
        let Some(first) = group.first() else { return Vec::new() };
        let is_enough = group.iter().all(|step| step.or_empty);
        if !first.manner.waits {
            if let Some(outage) = self.absence(&first.manner, deadline).await {
                return group.into_iter().map(|step| (step, Err(outage.clone()))).collect();
            }
        } else if self.does_without(&first.manner, deadline, is_enough).await {
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
        self.telemetry().sent();
        let calls = group.into_iter().map(|step| {
            Box::pin(async move {
                let reply = self.send_once(link, &step.request, deadline).await;
                (step, reply.map(Some))
            })
        });
        together(calls.collect::<Vec<_>>()).await
    }

    /// A request with its manner. Replicas are left out: what was just written is to
    /// be read.
    fn step(&self, index: usize, added: Added, deadline: Instant) -> Result<Step> {
        let Added { request, or_empty } = added;
        let request = request?;
        self.check_slots(request.keys())?;
        let timeout = left(deadline);
        let manner = Manner { read_from: ReadFrom::Master, timeout, ..self.manner_of(&request) };
        Ok(Step { index, request, manner, or_empty })
    }
}

impl fmt::Debug for Pipeline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("len", &self.len()).finish_non_exhaustive()
    }
}
