use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    Error, Reply, Server,
    config::{Role, SERVICE},
    masters::start_all,
    wait::await_that,
};

/// A master, its replica and three sentinels that watch over them.
///
/// Starting takes a second or two, a failover a little longer. Redis 6.2, whose sentinels cannot be told to hurry, takes
/// many times as long.
#[derive(Debug)]
pub struct Sentinel {
    data: Vec<Server>,
    sentinels: Vec<Server>,
}

impl Sentinel {
    /// Starts them and waits until every sentinel knows the others and the replica is up to date.
    ///
    /// # Errors
    ///
    /// As [`Server::start`], and [`Error::Timeout`] when they do not find each other within a minute. No process is
    /// left then.
    pub fn start() -> Result<Self, Error> {
        let master = Server::start()?;
        let port = master.port();
        let replica = Server::builder().role(Role::Replica { master: port }).start()?;
        let start = |_| Server::builder().role(Role::Sentinel { master: port }).start();
        let this = Self { data: vec![master, replica], sentinels: start_all(SENTINELS, start)? };
        this.pace(Pace::Acquaintance)?;
        await_that("the acquaintance of sentinels", || this.is_settled(0))?;
        this.pace(Pace::Watch)?;
        Ok(this)
    }

    /// What the sentinels call the master that they watch: `mymaster`.
    #[must_use]
    pub fn service(&self) -> &str {
        SERVICE
    }

    /// Where the sentinels are.
    #[must_use]
    pub fn sentinel_addresses(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(Server::address).collect()
    }

    /// `redis-sentinel://127.0.0.1:PORT?node=127.0.0.1:PORT&node=…&sentinelServiceName=mymaster`.
    #[must_use]
    pub fn url(&self) -> String {
        let mut places = self.sentinel_addresses().into_iter();
        let first = places.next().map(|place| place.to_string()).unwrap_or_default();
        let others: String = places.map(|place| format!("node={place}&")).collect();
        format!("redis-sentinel://{first}?{others}sentinelServiceName={SERVICE}")
    }

    /// The two servers with data; first the one that was the master in the beginning.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.data
    }

    /// The sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// The master of the moment: the one that most sentinels name.
    ///
    /// # Errors
    ///
    /// [`Error::Reply`] when they do not agree, as [`Server::command`] otherwise.
    pub fn master(&self) -> Result<&Server, Error> {
        let mut votes = vec![0; self.data.len()];
        for sentinel in self.sentinels.iter().filter(|sentinel| sentinel.is_running()) {
            if let Some(at) = self.named_by(sentinel)? {
                votes[at] += 1;
            }
        }
        let elected = votes.iter().position(|&votes| votes > SENTINELS / 2);
        elected.map(|at| &self.data[at]).ok_or_else(|| Error::Reply {
            command: "SENTINEL GET-MASTER-ADDR-BY-NAME".into(),
            message: "the sentinels do not agree on a master".into(),
        })
    }

    /// The other one, running or not.
    ///
    /// # Errors
    ///
    /// As [`master`](Self::master).
    pub fn replica(&self) -> Result<&Server, Error> {
        let master = self.master()?.port();
        Ok(if self.data[0].port() == master { &self.data[1] } else { &self.data[0] })
    }

    /// Sends a command to the master of the moment; see [`Server::command`].
    ///
    /// # Errors
    ///
    /// As [`master`](Self::master) and [`Server::command`].
    pub fn command<A: AsRef<[u8]>>(
        &self,
        command: impl IntoIterator<Item = A>,
    ) -> Result<Reply, Error> {
        self.master()?.command(command)
    }

    /// Kills the master (`kill -9`) and waits until the replica took over and all sentinels say so. Returns the new
    /// master.
    ///
    /// What the master had not passed on is lost, as in life; send `WAIT` before when a test counts on a write.
    ///
    /// # Errors
    ///
    /// As [`master`](Self::master); [`Error::Down`] when the replica is dead; [`Error::Timeout`] when it takes longer
    /// than a minute. The master is dead in that last case.
    pub fn kill_master(&self) -> Result<&Server, Error> {
        let (master, replica) = (self.master()?, self.running_replica()?);
        master.kill()?;
        await_that("a failover", || unless_dropped(self.is_elected(replica)))?;
        Ok(replica)
    }

    /// Has the replica take over (`SENTINEL FAILOVER`) and waits until all sentinels say so and the old master is its
    /// replica. Returns the new master.
    ///
    /// # Errors
    ///
    /// As [`master`](Self::master); [`Error::Down`] when the replica is dead; [`Error::Timeout`] when it takes longer
    /// than a minute, after which it may still happen.
    pub fn failover(&self) -> Result<&Server, Error> {
        let replica = self.running_replica()?;
        let sentinel = self
            .sentinels
            .iter()
            .find(|sentinel| sentinel.is_running())
            .unwrap_or(&self.sentinels[0]);
        let at = usize::from(self.data[1].port() == replica.port());
        let mut asked: Option<Instant> = None;
        await_that("a failover", || {
            if unless_dropped(self.is_settled(at))? {
                return Ok(true);
            }
            // Refused while one is going on or the replica is not known well enough, and given up by the leader on a
            // machine that is too busy: so it is asked for until it is done.
            if asked.is_none_or(|asked| asked.elapsed() > SECOND_THOUGHTS)
                && !unless_dropped(self.is_elected(replica))?
            {
                match sentinel.command(["SENTINEL", "FAILOVER", SERVICE]) {
                    Ok(_) => asked = Some(Instant::now()),
                    Err(Error::Reply { .. }) => {}
                    Err(err) => return Err(err),
                }
            }
            Ok(false)
        })?;
        Ok(replica)
    }

    /// Starts what is down again and waits until the sentinels made it a replica that is up to date.
    ///
    /// # Errors
    ///
    /// As [`Server::restart`], and [`Error::Timeout`] when it takes longer than a minute.
    pub fn heal(&self) -> Result<(), Error> {
        for server in self.sentinels.iter().chain(&self.data).filter(|server| !server.is_running())
        {
            server.restart()?;
        }
        self.pace(Pace::Acquaintance)?;
        await_that("a replica that is up to date", || {
            let master = self.master()?.port();
            unless_dropped(self.is_settled(usize::from(self.data[1].port() == master)))
        })?;
        self.pace(Pace::Watch)
    }

    fn running_replica(&self) -> Result<&Server, Error> {
        let replica = self.replica()?;
        if replica.is_running() { Ok(replica) } else { Err(Error::Down { port: replica.port() }) }
    }

    fn pace(&self, pace: Pace) -> Result<(), Error> {
        self.sentinels.iter().try_for_each(|sentinel| hurry(sentinel, pace))
    }

    /// Whether every sentinel is content with this master, its replica and the other sentinels.
    fn is_settled(&self, master: usize) -> Result<bool, Error> {
        let replica = self.data[1 - master].command(["INFO", "replication"])?;
        let replica = replica.as_str().unwrap_or_default();
        if !replica.contains("role:slave") || !replica.contains("master_link_status:up") {
            return Ok(false);
        }
        if !self.is_elected(&self.data[master])? {
            return Ok(false);
        }
        for sentinel in self.sentinels.iter().filter(|sentinel| sentinel.is_running()) {
            let known = fields(&sentinel.command(["SENTINEL", "MASTER", SERVICE])?);
            let is =
                |field: &str, value: &str| known.get(field).is_some_and(|known| known == value);
            if !is("flags", "master") || !is("num-slaves", "1") || !is("num-other-sentinels", "2") {
                return Ok(false);
            }
            let replicas = sentinel.command(["SENTINEL", "SLAVES", SERVICE])?;
            let mut replicas = replicas.as_array().unwrap_or_default().iter().map(fields);
            let up = |replica: HashMap<_, _>| {
                replica.get("flags").is_some_and(|flags| flags == "slave")
                    && replica.get("master-link-status").is_some_and(|status| status == "ok")
            };
            if !replicas.all(up) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether all sentinels name this server and it says itself that it is the master.
    fn is_elected(&self, server: &Server) -> Result<bool, Error> {
        for sentinel in self.sentinels.iter().filter(|sentinel| sentinel.is_running()) {
            if self.named_by(sentinel)?.map(|at| self.data[at].port()) != Some(server.port()) {
                return Ok(false);
            }
        }
        let role = server.command(["ROLE"])?;
        Ok(role.as_array().and_then(|role| role.first()?.as_str()) == Some("master"))
    }

    fn named_by(&self, sentinel: &Server) -> Result<Option<usize>, Error> {
        let named = sentinel.command(["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE])?;
        let port = named.as_array().and_then(|place| place.get(1)?.as_int());
        Ok(self.data.iter().position(|server| Some(i64::from(server.port())) == port))
    }
}

/// Makes a sentinel look and speak more often than every few seconds, where it can be told to.
fn hurry(sentinel: &Server, pace: Pace) -> Result<(), Error> {
    let publish = match pace {
        Pace::Acquaintance => "100",
        // Four of these long a sentinel looks on while a replica calls itself a master; then it makes it a replica
        // again. That must be longer than the leader of a failover takes to hear of the promotion, which is a second.
        Pace::Watch => "400",
    };
    // A shorter PING-PERIOD makes failovers fail: the replica's last INFO must be younger than five of them, and it
    // is asked for once in a second while the master is down.
    let periods = [
        "PING-PERIOD",
        "300",
        "INFO-PERIOD",
        "100",
        "PUBLISH-PERIOD",
        publish,
        "ASK-PERIOD",
        "200",
    ];
    if sentinel.version().covers_redis(7, 0) {
        sentinel.command(["SENTINEL", "DEBUG"].into_iter().chain(periods))?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Pace {
    /// They find each other, and what has changed.
    Acquaintance,
    /// They watch.
    Watch,
}

/// Sentinels have a server whose role they change drop its clients, the one that asks how it is among them: no.
fn unless_dropped(answer: Result<bool, Error>) -> Result<bool, Error> {
    match answer {
        Err(Error::Io { source, .. }) if DROPPED.contains(&source.kind()) => Ok(false),
        answer => answer,
    }
}

const DROPPED: [io::ErrorKind; 3] =
    [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof];

/// An answer of names and values.
fn fields(reply: &Reply) -> HashMap<String, String> {
    let words = reply.as_strings().unwrap_or_default();
    words.chunks_exact(2).map(|pair| (pair[0].into(), pair[1].into())).collect()
}

const SENTINELS: usize = 3;
/// How long a failover may seem to do nothing.
const SECOND_THOUGHTS: Duration = Duration::from_secs(4);
