use std::{fmt, time::Duration};

use tokio::{
    task::AbortHandle,
    time::{Instant, MissedTickBehavior},
};

use crate::{
    Config, Conn, Error, ErrorKind, FromReply, Listening, Result, ServerInfo, ServerMode, State,
    commands::Request, conn::FAR, server::field_of,
};

/// How a connection and the server behind it are doing.
///
/// What the server did not say is `None`: without the right to `INFO` it still answers a PING.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// Whether the server answered.
    pub healthy: bool,
    /// The state of the connection.
    pub state: State,
    /// How long the server took to answer a PING.
    pub response_time: Option<Duration>,
    /// Which server answers, its version and its mode.
    pub server: Option<ServerInfo>,
    /// The host this connection talks to; none for a Unix socket and for Cluster.
    pub host: Option<String>,
    /// The port this connection talks to; none for a Unix socket and for Cluster.
    pub port: Option<u16>,
    /// How many clients are connected to the server.
    pub connected_clients: Option<u64>,
    /// How much memory the server uses, in bytes.
    pub used_memory: Option<u64>,
    /// The same for people, such as `1.02M`.
    pub used_memory_human: Option<String>,
    /// The server's own memory limit, in bytes; none when it has none.
    pub max_memory: Option<u64>,
    /// What the server does at its limit, such as `noeviction` or `allkeys-lru`.
    pub eviction_policy: Option<String>,
    /// How subscriptions are doing; none while nobody has subscribed.
    pub subscriptions: Option<Listening>,
    /// How feeds of [what changes](Conn::track) are doing; none while there are none.
    pub tracking: Option<Listening>,
    /// What is not wrong yet but should be looked at.
    pub warnings: Vec<String>,
    /// Why the server did not answer, or would not say more.
    pub error: Option<Error>,
}

/// Health checks that run in the background until this is dropped or the connection is gone.
#[derive(Debug)]
#[must_use = "dropping it stops the checks"]
pub struct HealthChecks(AbortHandle);

impl HealthChecks {
    /// Stops the checks; a callback that is running is not interrupted.
    pub fn stop(self) {}
}

impl Drop for HealthChecks {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Conn {
    /// Finds out how the server is doing. A failure is part of the answer.
    ///
    /// Two round trips (`PING`, `INFO`); on Cluster each to any one node. None while no link is up: it answers
    /// at once then. A server that does not answer costs the command timeout; for a probe that must be
    /// faster, `conn.with_command_timeout(…).health()`.
    #[tracing::instrument(level = "debug", name = "core_conn.health", skip_all)]
    pub async fn health(&self) -> Health {
        let mut health = Health::of(self);
        if let Some(err) = self.outage() {
            health.error = Some(err);
            return health;
        }
        match self.ping().await {
            Ok(response_time) => health.response_time = Some(response_time),
            // A refusal is an answer too.
            Err(err) if err.kind() == ErrorKind::Denied => health.error = Some(err),
            Err(err) => {
                health.state = self.state();
                health.error = Some(err);
                return health;
            }
        }
        health.healthy = true;
        health.state = self.state();
        (health.host, health.port) = self.address().unzip();
        match self.info().await {
            Ok(info) => health.read(&info, self.config()),
            Err(err) => health.error = Some(err),
        }
        if self.reads_fall_back() {
            let what = "no replica is up for some of the data: its reads go to the master";
            health.warnings.push(what.to_owned());
        }
        if let Some(err) = self.amiss() {
            health.warnings.push(err.to_string());
        }
        let listening = [("subscriptions", &health.subscriptions), ("tracking", &health.tracking)];
        for (what, listening) in listening {
            if let Some(listening) = listening.as_ref().filter(|listening| !listening.live) {
                health.warnings.push(format!("{what} {listening}"));
            }
        }
        if let Some(err) = self.stale_login() {
            let what = "the newest credentials do not work, the link still uses those before";
            health.warnings.push(format!("{what}: {err}"));
        }
        health
    }

    /// Checks the health now and then `every` so often, and hands each result to `callback`.
    ///
    /// The checks do not keep the connection open: they end with its last handle, or after a check under way
    /// then. A check that takes longer than `every` delays the next one; less than a millisecond counts
    /// as one. A callback that panics ends the checks.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn check_health(
        &self,
        every: Duration,
        callback: impl Fn(Health) + Send + Sync + 'static,
    ) -> HealthChecks {
        let conn = self.downgrade();
        let mut ticks = tokio::time::interval(every.clamp(Duration::from_millis(1), FAR));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let checks = async move {
            loop {
                ticks.tick().await;
                let Some(conn) = conn.upgrade() else { return };
                let health = conn.health().await;
                drop(conn);
                let ended = health.state == State::End;
                callback(health);
                if ended {
                    return;
                }
            }
        };
        HealthChecks(tokio::spawn(checks).abort_handle())
    }

    /// Asks the server for a sign of life, and returns how long it took.
    ///
    /// One round trip (`PING`); on Cluster to any one node. Without a server it fails, also on an
    /// [optional](crate::ConfigBuilder::optional) connection.
    ///
    /// # Errors
    ///
    /// Those of [every call](Conn#errors-of-every-call); see [`ErrorKind`].
    #[tracing::instrument(level = "debug", name = "core_conn.ping", skip_all)]
    pub async fn ping(&self) -> Result<Duration> {
        let started = Instant::now();
        self.ask(&Request::Ping).await?;
        Ok(started.elapsed())
    }

    async fn info(&self) -> Result<String> {
        let info = Request::Raw { name: "INFO", args: Vec::new() };
        String::from_reply(self.ask(&info).await?)
    }
}

impl Health {
    fn of(conn: &Conn) -> Self {
        let (host, port) = conn.address().unzip();
        Self {
            healthy: false,
            state: conn.state(),
            response_time: None,
            server: None,
            host,
            port,
            connected_clients: None,
            used_memory: None,
            used_memory_human: None,
            max_memory: None,
            eviction_policy: None,
            subscriptions: conn.subscriptions(),
            tracking: conn.feeds(),
            warnings: Vec::new(),
            error: None,
        }
    }

    fn read(&mut self, info: &str, config: &Config) {
        let text = |field| field_of(info, field).map(str::to_owned);
        let number = |field| field_of(info, field).and_then(|number| number.parse::<u64>().ok());
        self.server = ServerInfo::read(info);
        if !config.endpoint.is_cluster()
            && self.server.as_ref().is_some_and(|server| server.mode == ServerMode::Cluster)
        {
            let what = "the server is a node of a cluster and holds only some of the keys; use a `redis-cluster://` URL";
            self.warnings.push(what.to_owned());
        }
        self.connected_clients = number("connected_clients");
        self.used_memory = number("used_memory");
        self.used_memory_human = text("used_memory_human");
        self.max_memory = number("maxmemory").filter(|limit| *limit > 0);
        self.eviction_policy = text("maxmemory_policy");
        if let (Some(used), Some(threshold)) = (self.used_memory, config.memory_threshold)
            && used > threshold
        {
            self.warnings
                .push(format!("the server uses {used} bytes of memory, above {threshold}"));
        }
        if self.used_memory >= self.max_memory
            && self.max_memory.is_some()
            && self.eviction_policy.as_deref() == Some("noeviction")
        {
            self.warnings.push(
                "the server is at its memory limit and evicts nothing: writes fail".to_owned(),
            );
        }
    }
}

impl fmt::Display for Health {
    /// One line for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.healthy { "healthy" } else { "unhealthy" })?;
        write!(f, ", {}", self.state)?;
        if let Some(server) = &self.server {
            write!(f, ", {} {} {}", server.kind, server.version, server.mode)?;
        }
        if let Some(response_time) = self.response_time {
            write!(f, ", answers in {response_time:.1?}")?;
        }
        if let Some(clients) = self.connected_clients {
            write!(f, ", clients: {clients}")?;
        }
        if let Some(memory) = &self.used_memory_human {
            write!(f, ", {memory} of memory")?;
        }
        for warning in &self.warnings {
            write!(f, ", warning: {warning}")?;
        }
        if let Some(error) = &self.error {
            write!(f, ", error: {error}")?;
        }
        Ok(())
    }
}
