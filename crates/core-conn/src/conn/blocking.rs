//! Calls that wait at the server, each on a link of its own, so that nothing else waits behind them.

use std::{
    future::ready,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use super::{
    Conn, Core, Route,
    dial::dial,
    handoff::{Giving, handoff},
    lane::Purpose,
    link::{Link, LinkEnd},
    time::{Backoff, after},
};
use crate::{
    Credentials, Error, ErrorKind, FromReply, Reply, Result, commands::Request,
    error::fred::from_call,
};

/// How long the server is asked to wait at once. A link on which it has fallen silent is noticed after that and the command
/// timeout.
const AT_ONCE: Duration = Duration::from_secs(5);
/// The same where it cannot be told to stop.
const AT_ONCE_UNTOLD: Duration = Duration::from_secs(1);
/// The shortest time: none at all means for ever to a server.
const SHORTEST: Duration = Duration::from_millis(1);
/// The pauses between attempts that did not get to the server.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));
/// The server stops waiting by itself, because the key has gone elsewhere.
const UNBLOCKED: &str = "UNBLOCKED";

/// Something to wait for at the server.
pub(crate) struct Blocking {
    /// The command that waits for so long.
    pub(crate) request: Box<dyn Fn(Duration) -> Request + Send + Sync>,
    /// The command that puts back what was taken for nobody.
    pub(crate) undo: Box<dyn Fn(Reply) -> Option<Request> + Send + Sync>,
}

/// The links of a connection that calls wait on.
pub(super) struct BlockingLinks {
    /// One for each link that there may be.
    free: Semaphore,
    idle: Mutex<Vec<Idle>>,
    /// Those in use.
    used: Mutex<Vec<Weak<Link>>>,
}

/// A link that no call waits on.
struct Idle {
    link: Arc<Link>,
    end: LinkEnd,
    credentials: Credentials,
}

impl BlockingLinks {
    pub(super) fn new(most: usize) -> Self {
        let free = Semaphore::new(most.min(Semaphore::MAX_PERMITS));
        Self { free, idle: Mutex::default(), used: Mutex::default() }
    }

    /// Closes all.
    pub(super) fn end(&self) {
        self.idle().clear();
        for link in self.used().drain(..).filter_map(|link| link.upgrade()) {
            link.abort();
        }
    }

    /// Keeps a link for the next call.
    fn keep(&self, core: &Core, idle: Idle) {
        self.used().retain(|used| !std::ptr::eq(used.as_ptr(), Arc::as_ptr(&idle.link)));
        self.idle().push(idle);
        // The end may have come a moment before.
        if core.has_ended() {
            self.end();
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self) -> MutexGuard<'_, Vec<Weak<Link>>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conn {
    /// Waits at the server until there is an answer that is not nil, at most for `wait`. It looks at least once.
    ///
    /// When the returned future is dropped, the server is told to stop, and what it may have taken by then is put back.
    pub(crate) async fn block(&self, blocking: Blocking, wait: Duration) -> Result<Reply> {
        let core = self.begun()?;
        let (giving, taking) = handoff();
        let route = self.manner_of(&(blocking.request)(SHORTEST)).route;
        let waiting = Waiting { conn: self.clone(), blocking, route, deadline: after(wait) };
        core.runtime.get_or_init(Handle::current).spawn(waiting.run(giving));
        taking.await
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
        let answer = self.answer(&giving).await;
        let Some(Ok(untaken)) = giving.give(answer).await else { return };
        if let Some(undo) = (self.blocking.undo)(untaken) {
            self.put_back(&undo).await;
        }
    }

    async fn answer(&self, giving: &Giving) -> Result<Reply> {
        let conn = &self.conn;
        let _call = conn.enter(1)?;
        let core = &conn.owner.core;
        let mut backoff = Backoff::new(RETRY_DELAY);
        let mut given_up = pin!(async {
            tokio::select! {
                () = giving.given_up() => Ok(Reply::Nil),
                () = core.calls.refused() => Err(Error::closed()),
            }
        });
        loop {
            let (permit, Idle { link, end, credentials }) = tokio::select! {
                biased;
                ended = &mut given_up => return ended,
                link = self.link() => match link {
                    Err(err) if conn.does_without_any(&err) => return Ok(Reply::Nil),
                    link => link?,
                },
            };
            let (answer, ended) = {
                let known = self.known(&link);
                let mut answer = pin!(self.ask(&link, known.is_some()));
                tokio::select! {
                    biased;
                    answer = &mut answer => (answer, None),
                    ended = &mut given_up => {
                        if let Some((commands, number)) = &known {
                            unblock(commands, number, conn.command_timeout()).await;
                        }
                        (answer.await, Some(ended))
                    }
                }
            };
            match answer {
                Ok(answer) => {
                    core.blocking.keep(core, Idle { link, end, credentials });
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
                    link.abort();
                    if ended.is_some() || !comes_again(&err) || Instant::now() >= self.deadline {
                        return Err(err);
                    }
                    core.doubt_layout();
                    // The deadline is looked at above.
                    let _ = timeout_at(self.deadline, backoff.pause()).await;
                }
            }
        }
    }

    /// Has the server wait once, for less long where it cannot be told to stop.
    async fn ask(&self, link: &Link, can_stop: bool) -> Result<Reply> {
        let most = if can_stop { AT_ONCE } else { AT_ONCE_UNTOLD };
        let left = self.deadline.saturating_duration_since(Instant::now());
        let wait = left.clamp(SHORTEST, most);
        let deadline = after(wait + self.conn.command_timeout());
        self.conn.send_once(link, &(self.blocking.request)(wait), deadline).await
    }

    /// A link that nobody else uses, to the server that the call goes to.
    async fn link(&self) -> Result<(SemaphorePermit<'_>, Idle)> {
        let conn = &self.conn;
        let core = &conn.owner.core;
        let deadline = self.deadline;
        let permit = timeout_at(deadline, core.blocking.free.acquire()).await.map_err(|late| {
            let what =
                "as many calls wait at the server as may; retry later or raise `blocking_links`";
            Error::new(ErrorKind::Busy, what).with_source(late)
        })?;
        let permit = permit.map_err(|closed| Error::closed().with_source(closed))?;
        let commands = conn.link_to(&self.route, deadline).await?;
        let credentials = core.known_login(deadline).await?;
        while let Some(mut idle) = self.idle(&commands, &credentials) {
            let is_well = tokio::select! {
                biased;
                _ = idle.end.wait() => false,
                () = ready(()) => idle.link.is_up(),
            };
            if is_well {
                core.blocking.used().push(Arc::downgrade(&idle.link));
                return Ok((permit, idle));
            }
        }
        let endpoint = {
            let layout = core.layout.load();
            let server = layout.server(&self.route, 0).ok_or_else(Error::unsent)?;
            server.commands.endpoint.clone()
        };
        // However short the call waits, it may look once.
        let deadline = deadline.max(after(conn.command_timeout()));
        let deadline = deadline.min(after(core.config.connect_timeout));
        let (link, end) =
            dial(&core.config, &endpoint, &credentials, Purpose::Blocking, deadline).await?;
        let link = Arc::new(link);
        core.blocking.used().push(Arc::downgrade(&link));
        Ok((permit, Idle { link, end, credentials }))
    }

    /// Takes a link that is kept out, and forgets those that lead elsewhere or use credentials of before.
    fn idle(&self, commands: &Link, credentials: &Credentials) -> Option<Idle> {
        let core = &self.conn.owner.core;
        let mut idle = core.blocking.idle();
        idle.retain(|idle| idle.credentials.logs_in_as(credentials));
        let at = idle.iter().position(|idle| idle.link.address == commands.address)?;
        Some(idle.swap_remove(at))
    }

    /// A link for commands to the same server, and how that calls `link`.
    fn known(&self, link: &Link) -> Option<(Arc<Link>, String)> {
        let core = &self.conn.owner.core;
        let layout = core.layout.load();
        let commands = layout.server(&self.route, 0)?.commands.pick()?;
        let client = link.client.as_ref().filter(|_| link.address == commands.address)?;
        Some((commands, client.number.clone()))
    }

    /// Puts back what was taken for somebody who had gone.
    async fn put_back(&self, undo: &Request) {
        let conn = &self.conn;
        let deadline = after(conn.command_timeout());
        let mut backoff = Backoff::new(RETRY_DELAY);
        loop {
            let sent = async {
                let link = conn.link_to(&self.route, deadline).await?;
                conn.send_once(&link, undo, deadline).await
            };
            let Err(err) = sent.await else { return };
            if !comes_again(&err) || Instant::now() >= deadline {
                tracing::warn!(error = %err, "what was taken for a call that had been given up is lost");
                return;
            }
            conn.owner.core.doubt_layout();
            backoff.pause().await;
        }
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

/// Has the server stop waiting on the link that it calls by this number. Without the right to it, the server goes on for a
/// while.
async fn unblock(commands: &Link, number: &str, timeout: Duration) {
    let order = ["UNBLOCK", number];
    match commands.ask::<i64>(timeout, "CLIENT", &order).await.map_err(from_call) {
        Ok(_) => {}
        Err(err) => tracing::debug!(error = %err, "a call that was given up goes on waiting"),
    }
}

impl Reply {
    /// The second of two: what a server took, behind the key that it took it from.
    pub(crate) fn into_taken(self) -> Result<Self> {
        let (_, taken) = <(Self, Self)>::from_reply(self)?;
        Ok(taken)
    }
}
