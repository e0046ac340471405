//! Which link a command takes, and the wait for it.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::{Conn, Replay, Route, State, link::Link, owner::Core, time::after};
use crate::{Error, ErrorKind, ReadFrom, Result};

/// What refused credentials mean to somebody who waits for a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    Fails,
    /// There may be others soon.
    Waits,
}

impl Conn {
    /// Waits for a link to the server that takes writes for `route`.
    pub(crate) async fn link_to(&self, route: &Route, deadline: Instant) -> Result<Arc<Link>> {
        self.link(route, ReadFrom::Master, deadline, Refusal::Fails).await
    }

    /// A route to each server that takes writes.
    pub(crate) async fn masters(&self) -> Result<Vec<Route>> {
        let deadline = after(self.command_timeout());
        if !self.config().endpoint.is_cluster()
            || self.does_without(&self.anywhere(Replay::Idempotent), deadline, false).await
        {
            return Ok(vec![Route::Any]);
        }
        // A node of the cluster may be up before it has said who else there is.
        let pick = || {
            let known = !self.owner.core.layout.load().shards.is_empty();
            known.then(|| self.pick(&Route::Any, ReadFrom::Master)).flatten()
        };
        self.link_by(pick, deadline, Refusal::Fails).await?;
        let layout = self.owner.core.layout.load();
        let nodes = layout.shards.iter().filter_map(|shard| shard.master.node());
        Ok(nodes.cloned().map(Box::new).map(Route::Node).collect())
    }

    /// Waits until it is known which server has what, as it always is but on a cluster.
    pub(crate) async fn layout_known(&self, deadline: Instant) {
        let core = &self.owner.core;
        if core.layout.load().shards.is_empty() && self.owner.start().is_ok() {
            let mut status = core.status.watch();
            let known = status.wait_for(|now| {
                let over = now.is_settled() || now.state() == State::End;
                over || !core.layout.load().shards.is_empty()
            });
            // Who is asked next finds out the same.
            let _ = timeout_at(deadline, known).await;
        }
    }

    /// Tells servers apart: the same number for two routes that lead to one of them.
    pub(crate) fn server_of(&self, route: &Route) -> usize {
        let layout = self.owner.core.layout.load();
        layout.server(route, 0).map_or(0, |server| Arc::as_ptr(server).addr())
    }

    /// Picks a link that is up, and waits for one until `deadline`.
    pub(super) async fn link(
        &self,
        route: &Route,
        read_from: ReadFrom,
        deadline: Instant,
        refusal: Refusal,
    ) -> Result<Arc<Link>> {
        let core = &self.owner.core;
        if let Route::Slot(slot) = route
            && core.layout.load().shard(*slot).is_none()
        {
            // Nobody will send this call elsewhere.
            core.doubt_layout();
        }
        self.link_by(|| self.pick(route, read_from), deadline, refusal).await
    }

    pub(super) async fn link_by<T>(
        &self,
        pick: impl Fn() -> Option<T>,
        deadline: Instant,
        refusal: Refusal,
    ) -> Result<T> {
        if let Some(picked) = pick() {
            return Ok(picked);
        }
        self.owner.start()?;
        let mut status = self.owner.core.status.watch();
        loop {
            let (state, error) = {
                let now = status.borrow_and_update();
                (now.state(), now.error.clone())
            };
            if let Some(picked) = pick() {
                return Ok(picked);
            }
            if let Some(ended) = self.owner.ended() {
                return Err(ended);
            }
            if state == State::Error && refusal == Refusal::Fails {
                let refused = || Error::new(ErrorKind::Auth, "the server refuses the credentials");
                return Err(error.unwrap_or_else(refused));
            }
            // The sender lives in `self`, so only the deadline can end the wait early.
            if timeout_at(deadline, status.changed()).await.is_err() {
                let late = |reason: &str| {
                    let what = format!("not connected in time, nothing was sent: {reason}");
                    Error::new(ErrorKind::Connect, what)
                };
                return Err(match error {
                    Some(err) => late(&err.to_string()).with_source(err),
                    None if state == State::Connecting => late("still connecting"),
                    None => late("the server that has it now has not answered yet"),
                });
            }
        }
    }

    /// The next link that is up.
    pub(super) fn pick(&self, route: &Route, read_from: ReadFrom) -> Option<Arc<Link>> {
        self.owner.core.pick(route, read_from)
    }
}

impl Core {
    /// The next link that is up.
    pub(crate) fn pick(&self, route: &Route, read_from: ReadFrom) -> Option<Arc<Link>> {
        let layout = self.layout.load();
        if read_from.may_be_replica() {
            let slot = if let Route::Slot(slot) = route { *slot } else { 0 };
            if let Some(link) = layout.replica(slot, self.turn()) {
                return Some(link);
            }
        }
        let anywhere = layout.is_cluster() && *route == Route::Any;
        layout.server(route, if anywhere { self.turn() } else { 0 })?.commands.pick()
    }
}
