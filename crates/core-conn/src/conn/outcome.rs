//! What came of a command on a link, and what is learned from it.

use fred::error::Error as FredError;
use tokio::time::Instant;

use super::{
    Conn, left,
    link::{Address, Link},
    owner::Core,
};
use crate::{
    Error, ErrorKind, Reply, Result,
    commands::Request,
    error::fred::{from_call, is_dropped, unsent},
};

impl Conn {
    /// Sends `request` once, on a link that was chosen before.
    pub(crate) async fn send_once(
        &self,
        link: &Link,
        request: &Request,
        deadline: Instant,
    ) -> Result<Reply> {
        let answer = self.answer_once(link, request, deadline).await?;
        self.reply_of(request, answer)
    }

    /// The same, with the answer as it came.
    pub(super) async fn answer_once(
        &self,
        link: &Link,
        request: &Request,
        deadline: Instant,
    ) -> Result<Reply> {
        link.check(request)?;
        let outcome = link.sender.run(request.clone(), left(deadline)).await;
        self.read(link, outcome)
    }

    /// What `request` was answered. A script's own errors come to light only here.
    pub(crate) fn reply_of(&self, request: &Request, answer: Reply) -> Result<Reply> {
        self.doubting(request.unwrap_alone(answer))
    }

    /// What `request` was answered as one of a transaction.
    pub(crate) fn queued_reply_of(&self, request: &Request, answer: Reply) -> Result<Reply> {
        self.doubting(request.unwrap_queued(answer))
    }

    /// Has the links to masters made anew when `outcome` says that a server takes no writes.
    fn doubting<T>(&self, outcome: Result<T>) -> Result<T> {
        self.owner.core.doubting(outcome)
    }

    /// Reads what came of a command on `link`.
    pub(super) fn read<T>(&self, link: &Link, reply: Result<T, FredError>) -> Result<T> {
        self.owner.core.read(link, reply)
    }

    /// Learns from what came of a command on `link`.
    pub(super) fn note<T>(&self, link: &Link, outcome: Result<T>) -> Result<T> {
        self.owner.core.note(link, outcome)
    }
}

impl Core {
    fn doubting<T>(&self, outcome: Result<T>) -> Result<T> {
        if outcome.as_ref().is_err_and(|err| err.kind() == ErrorKind::ReadOnly) {
            self.doubt_writers();
        }
        outcome
    }

    /// Reads what came of a command on `link`.
    pub(crate) fn read<T>(&self, link: &Link, reply: Result<T, FredError>) -> Result<T> {
        let read = reply.map_err(|err| {
            // Those that were in flight when it broke have been told so one by one.
            if is_dropped(&err) && link.is_broken() { unsent(err) } else { from_call(err) }
        });
        self.note(link, read)
    }

    fn note<T>(&self, link: &Link, outcome: Result<T>) -> Result<T> {
        let err = match outcome {
            Ok(value) => {
                link.heard();
                return Ok(value);
            }
            Err(err) => match &link.address {
                Address::Tcp(node) => err.answered_by(&node.host),
                Address::Unix(_) => err,
            },
        };
        if err.is_answer() {
            link.heard();
        }
        if err.redirect().is_some() && !self.is_cluster() {
            let what = "this server is a node of a cluster and holds only some of the keys; use a `redis-cluster://` URL";
            return Err(Error::config(what).with_source(err));
        }
        let err = if err.is_outcome_unknown() { err } else { self.ended().unwrap_or(err) };
        self.doubting(Err(err))
    }
}
