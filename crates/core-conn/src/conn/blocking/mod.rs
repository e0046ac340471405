//! Calls that wait at the server, each on a link of its own, so that nothing else waits behind them.

mod links;
mod replicated;

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::SemaphorePermit,
    time::{Instant, timeout_at},
};

use super::{
    Conn, Route,
    dial::dial,
    handoff::{Giving, handoff},
    introduction::ClientId,
    lane::Purpose,
    link::Link,
    time::{Backoff, after, pause},
};
use crate::{
    Credentials, Error, ErrorKind, Reply, Result, commands::Request, error::fred::from_call,
};

pub(super) use links::BlockingLinks;

use links::Kept;

/// How long the server is asked to wait at once. A link on which it has fallen silent is noticed after that and the
/// command timeout.
const AT_ONCE: Duration = Duration::from_secs(5);
/// The same where it cannot be told to stop.
const AT_ONCE_UNTOLD: Duration = Duration::from_secs(1);
/// The shortest time: none at all means for ever to a server, and before Redis 7 they take a millisecond for none.
const SHORTEST: Duration = Duration::from_millis(2);
/// The pauses between attempts that did not get to the server.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));
/// The server stops waiting by itself, because the key has gone elsewhere.
const UNBLOCKED: &str = "UNBLOCKED";

/// Something to wait for at the server.
pub(crate) struct Blocking {
    /// The command that takes what is there already.
    pub(crate) look: Request,
    /// The command that waits for so long.
    pub(crate) request: Box<dyn Fn(Duration) -> Request + Send + Sync>,
    /// The command that puts back what was taken for nobody.
    pub(crate) undo: Box<dyn Fn(Reply) -> Option<Request> + Send + Sync>,
}

impl Conn {
    /// Waits at the server until there is an answer that is not nil, at most for `wait`.
    ///
    /// When the returned future is dropped, the server is told to stop, and what it may have taken by then is put back.
    pub(crate) async fn block(&self, blocking: Blocking, wait: Duration) -> Result<Reply> {
        let core = self.begun()?;
        let (giving, taking) = handoff();
        let request = (blocking.request)(SHORTEST);
        let (name, began) = (request.name(), Instant::now());
        let route = self.manner_of(&request).route;
        let waiting = Waiting { conn: self.clone(), blocking, route, deadline: after(wait) };
        core.spawn(waiting.run(giving));
        let answer = taking.await;
        core.telemetry.waited(name, began, Instant::now(), answer.as_ref().err());
        answer
    }
}

/// The task behind one call.
struct Waiting {
    conn: Conn,
    blocking: Blocking,
    route: Route,
    deadline: Instant,
}

impl Waiting {
    async fn run(self, giving: Giving) {
        // It counts until what it took was taken or put back, so that closing waits for that.
        let call = self.conn.enter(1);
        let answer = match &call {
            Ok(_) => self.answer(&giving).await,
            Err(err) => Err(err.clone()),
        };
        let closing = self.conn.owner.core.calls.refused();
        let Some(Ok(untaken)) = giving.give(answer, closing).await else { return };
        if let Some(undo) = (self.blocking.undo)(untaken) {
            self.put_back(&undo).await;
        }
        drop(call);
    }

    async fn answer(&self, giving: &Giving) -> Result<Reply> {
        let conn = &self.conn;
        let core = &conn.owner.core;
        let mut backoff = Backoff::new(RETRY_DELAY);
        let mut given_up = pin!(async {
            tokio::select! {
                () = giving.given_up() => Ok(Reply::Nil),
                () = core.calls.refused() => Err(Error::closed()),
            }
        });
        // Whoever finds something there needs no link of its own.
        loop {
            let looked = tokio::select! {
                biased;
                ended = &mut given_up => return ended,
                reached = conn.link_to(&self.route, self.deadline) => match reached {
                    Ok(_) => self.look().await,
                    Err(err) => Err(err),
                },
            };
            match looked {
                Ok(Reply::Nil) => break,
                Err(err) if comes_again(&err) && Instant::now() < self.deadline => {
                    // The deadline is looked at above.
                    let _ = timeout_at(self.deadline, backoff.pause()).await;
                }
                Err(err) if conn.does_without_any(&err) => return Ok(Reply::Nil),
                answer => return answer,
            }
        }
        while Instant::now() < self.deadline {
            let found = tokio::select! {
                biased;
                ended = &mut given_up => return ended,
                found = self.link() => found,
            };
            let (permit, kept) = match found {
                Ok(Some(found)) => found,
                // As many wait as may, until the end.
                Ok(None) => return self.look().await,
                Err(err) if comes_again(&err) && Instant::now() < self.deadline => {
                    // The deadline is looked at above.
                    let _ = timeout_at(self.deadline, backoff.pause()).await;
                    continue;
                }
                Err(err) if conn.does_without_any(&err) => return Ok(Reply::Nil),
                Err(err) => return Err(err),
            };
            let (answer, ended) = {
                let commands = kept.commands();
                let known = commands.zip(kept.link.client.clone());
                let mut answer = pin!(self.ask(&kept.link, known.is_some()));
                tokio::select! {
                    biased;
                    answer = &mut answer => (answer, None),
                    ended = &mut given_up => {
                        let stopping = stop(known, conn.command_timeout());
                        tokio::select! {
                            biased;
                            answer = &mut answer => (answer, Some(ended)),
                            () = stopping => (answer.await, Some(ended)),
                        }
                    }
                }
            };
            match answer {
                Ok(answer) => {
                    core.blocking.keep(core, kept);
                    drop(permit);
                    match (answer, ended) {
                        (Reply::Nil, Some(ended)) => return ended,
                        (Reply::Nil, None) if Instant::now() >= self.deadline => {
                            return Ok(Reply::Nil);
                        }
                        (Reply::Nil, None) => backoff.reset(),
                        (answer, _) => return Ok(answer),
                    }
                }
                Err(err) => {
                    if err.is_answer() && err.kind() != ErrorKind::ReadOnly {
                        core.blocking.keep(core, kept);
                    } else {
                        kept.link.abort();
                    }
                    if ended.is_some() || !comes_again(&err) {
                        return Err(err);
                    }
                    core.doubt_layout();
                    // On its way to another node, it is found there by a plain command.
                    if err.redirect().is_some_and(|redirect| redirect.ask) {
                        match self.look().await {
                            Ok(Reply::Nil) => {}
                            answer => return answer,
                        }
                    }
                    // The deadline is looked at above.
                    let _ = timeout_at(self.deadline, backoff.pause()).await;
                }
            }
        }
        Ok(Reply::Nil)
    }

    /// Takes what is there already.
    async fn look(&self) -> Result<Reply> {
        self.send(&self.blocking.look).await
    }

    /// Sends a plain command, wherever its key is just now.
    async fn send(&self, request: &Request) -> Result<Reply> {
        let conn = &self.conn;
        let answer = conn.uncounted_attempts(conn.manner_of(request)).run(request, None).await?;
        conn.reply_of(request, answer)
    }

    /// Has the server wait once, for less long where it cannot be told to stop.
    async fn ask(&self, link: &Link, can_stop: bool) -> Result<Reply> {
        let most = if can_stop { AT_ONCE } else { AT_ONCE_UNTOLD };
        let left = self.deadline.saturating_duration_since(Instant::now());
        let wait = left.clamp(SHORTEST, most);
        let deadline = after(wait + self.conn.command_timeout());
        self.conn.telemetry().sent();
        self.conn.send_once(link, &(self.blocking.request)(wait), deadline).await
    }

    /// A link that nobody else uses, to the server that the call goes to.
    async fn link(&self) -> Result<Option<(SemaphorePermit<'_>, Kept)>> {
        self.conn.blocking_link(&self.route, self.deadline).await
    }

    /// Puts back what was taken for somebody who had gone.
    async fn put_back(&self, undo: &Request) {
        if let Err(err) = self.send(undo).await {
            tracing::warn!(error = %err, "what was taken for a call that had been given up is lost");
        }
    }
}

impl Conn {
    /// A link that nobody else uses, to the server that a call goes to; none when as many wait as may, until the
    /// deadline.
    async fn blocking_link(
        &self,
        route: &Route,
        deadline: Instant,
    ) -> Result<Option<(SemaphorePermit<'_>, Kept)>> {
        let core = &self.owner.core;
        let Ok(permit) = timeout_at(deadline, core.blocking.free.acquire()).await else {
            return Ok(None);
        };
        let permit = permit.map_err(|closed| Error::closed().with_source(closed))?;
        let commands = self.link_to(route, deadline).await?;
        let credentials = core.known_login(deadline).await?;
        while let Some(mut idle) = self.idle_link(&commands, &credentials) {
            if !idle.end.has_come().await {
                core.blocking.take_up(&idle.link);
                return Ok(Some((permit, idle)));
            }
        }
        let endpoint = {
            let layout = core.layout.load();
            let server = layout.server(route, 0).ok_or_else(Error::unsent)?;
            server.commands.endpoint.clone()
        };
        let deadline = deadline.min(after(core.config.connect_timeout));
        let dialed = dial(&core.config, &endpoint, &credentials, Purpose::Blocking, deadline).await;
        let (link, end) = dialed.map_err(|err| match err.kind() {
            // Nothing was asked of it yet.
            ErrorKind::Timeout => Error::unsent().with_source(err),
            _ => err,
        })?;
        let link = Arc::new(link);
        core.blocking.take_up(&link);
        let beside = Arc::downgrade(&commands);
        Ok(Some((permit, Kept { link, end, credentials, beside })))
    }

    /// Takes a link out that is kept, and forgets those that have ended, use credentials of before, or may lead elsewhere than the
    /// links for commands by now.
    fn idle_link(&self, commands: &Link, credentials: &Credentials) -> Option<Kept> {
        let mut idle = self.owner.core.blocking.idle();
        idle.retain(|kept| {
            kept.link.is_up()
                && kept.credentials.logs_in_as(credentials)
                && kept.commands().is_some()
        });
        let at = idle.iter().position(|idle| idle.link.address == commands.address)?;
        Some(idle.swap_remove(at))
    }
}

/// Whether the server surely took nothing, and may do so when it is asked again.
fn comes_again(err: &Error) -> bool {
    let kinds = [
        ErrorKind::Connect,
        ErrorKind::Loading,
        ErrorKind::ReadOnly,
        ErrorKind::ServerBusy,
        ErrorKind::Topology,
    ];
    kinds.contains(&err.kind()) || err.code() == Some(UNBLOCKED)
}

/// Has the server stop waiting on a link, which it calls by this number. It may not have begun to, so it is told until
/// it says that it has stopped. Without the right to it, the server goes on for a while.
async fn stop(known: Option<(Arc<Link>, ClientId)>, timeout: Duration) {
    let Some((commands, client)) = known else { return };
    let order = ["UNBLOCK", &client.number];
    loop {
        match commands.ask::<i64>(timeout, "CLIENT", &order).await.map_err(from_call) {
            Ok(0) => pause(RETRY_DELAY.0).await,
            Ok(_) => return,
            Err(err) => {
                tracing::debug!(error = %err, "a call that was given up goes on waiting");
                return;
            }
        }
    }
}
