use std::{fmt, time::Duration};

use super::{
    Call, Results, Ticket,
    batch::{Answer, Batch},
    request::Request,
};
use crate::{
    Conn, Replay, Result,
    conn::{Manner, after, left},
    telemetry,
};

/// Several calls that the server runs as one, with nothing of others in between (`MULTI` … `EXEC`).
///
/// ```no_run
/// # async fn f(conn: redbrick_core_conn::Conn) -> Result<(), redbrick_core_conn::Error> {
/// let mut transaction = conn.transaction();
/// let left = transaction.add(conn.decrement("stock:{7}", 1));
/// let sold = transaction.add(conn.increment("sold:{7}", 1));
/// let mut results = transaction.send().await?;
/// let (left, sold) = (results.take(left)?, results.take(sold)?);
/// # Ok(()) }
/// ```
///
/// One round trip, on a link that only transactions use. It is opened with the first one, and asks whether the user may
/// use `MULTI`. On Cluster all keys must lie in
/// one slot: give them a common hash tag. A call that fails while it runs, as on a key of another type, leaves the
/// others done: Redis takes nothing back. To decide by what was read, use a [`Script`](crate::Script).
///
/// A `timeout`, `replay` or `or_empty` said to one of the calls does not count here.
#[must_use = "nothing is sent until `send` is awaited"]
pub struct Transaction<'a> {
    conn: &'a Conn,
    batch: Batch,
    timeout: Duration,
}

impl Conn {
    /// Begins a transaction.
    pub fn transaction(&self) -> Transaction<'_> {
        Transaction { conn: self, batch: Batch::new(), timeout: self.command_timeout() }
    }
}

impl<'a> Transaction<'a> {
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

    /// Runs the calls as one, and returns their results.
    ///
    /// It is repeated only when it surely did not run. When the future is dropped, it runs as a whole or not at all.
    ///
    /// # Errors
    ///
    /// That of the first call that could not be encoded or was refused before it ran:
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) when the keys lie in several slots of a
    /// cluster, there are more calls than [`max_waiting`](crate::ConfigBuilder::max_waiting), or a call is of another connection, [`ErrorKind::Denied`](crate::ErrorKind::Denied) without the right to
    /// one of the commands, to `MULTI`, `PING` or `EXEC`; those of [every call](Conn#errors-of-every-call). Unless the
    /// [outcome is unknown](crate::Error::is_outcome_unknown), nothing has run.
    pub async fn send(self) -> Result<Results> {
        telemetry::within(telemetry::transaction(self.len()), self.run()).await
    }

    async fn run(self) -> Result<Results> {
        let Self { conn, batch, timeout } = self;
        let deadline = after(timeout);
        let expected = batch.expected(conn);
        let requests = batch.added.into_iter().map(|added| added.request);
        let requests = requests.collect::<Result<Vec<Request>>>()?;
        let keys: Vec<_> = requests.iter().flat_map(Request::keys).cloned().collect();
        conn.check_slots(&keys)?;
        // What is known already takes no place in the transaction.
        let sent: Vec<Request> = requests
            .iter()
            .filter(|request| !matches!(request, Request::Known(_)))
            .cloned()
            .collect();
        let route = sent.iter().find(|request| !request.keys().is_empty());
        let route = route.or(sent.first()).map(Request::route);
        let mut outcomes = Vec::new();
        if let Some(route) = route {
            let manner = Manner { route, timeout, ..conn.anywhere(Replay::IfUnsent) };
            if !manner.waits {
                if let Some(outage) = conn.absence(&manner, deadline).await {
                    return Err(outage);
                }
            } else if conn.does_without(&manner, deadline, false).await {
                return Ok(expected.with(requests.iter().map(|_| Ok(None)).collect()));
            }
            let manner = Manner { timeout: left(deadline), ..manner };
            outcomes = conn.transact(manner, &sent).await?;
        }
        let mut outcomes = outcomes.into_iter();
        let answers = requests.iter().map(|request| -> Answer {
            if let Request::Known(reply) = request {
                return Ok(Some(reply.clone()));
            }
            outcomes.next().map(|answer| conn.queued_reply_of(request, answer)).transpose()
        });
        Ok(expected.with(answers.collect()))
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("len", &self.len()).finish_non_exhaustive()
    }
}
