use std::time::{Duration, Instant};

use super::{Cluster, unexpected, view::Node};
use crate::{Error, wait::await_that};

/// A replica that has not taken over by then has given up: it tries for five seconds.
const GIVEN_UP: Duration = Duration::from_secs(7);

impl Cluster {
    /// Has a replica of a master take over in good order (`CLUSTER FAILOVER`), and waits until all nodes know and the
    /// old master is its replica. Returns the number of the new master. Nothing is lost.
    ///
    /// # Errors
    ///
    /// [`Error::Reply`] when the node is no master with a running replica, [`Error::Timeout`] when the takeover, or
    /// the calm after it, takes longer than a minute, and as [`Server::command`](crate::Server::command).
    pub fn failover(&self, master: usize) -> Result<usize, Error> {
        let replica = *self.replicas_of(master)?.first().ok_or_else(|| {
            unexpected(
                "CLUSTER FAILOVER",
                &format!("node {master} is no master with a running replica"),
            )
        })?;
        let ask = || self.nodes[replica].command(["CLUSTER", "FAILOVER"]);
        ask()?;
        let mut asked = Instant::now();
        await_that("a failover", || {
            if asked.elapsed() > GIVEN_UP && self.replicas_of(master)?.contains(&replica) {
                ask()?;
                asked = Instant::now();
            }
            let (old, new) = (&self.ids[master], &self.ids[replica]);
            let known = |node: &Node| {
                (node.id != *new || node.is("master")) && (node.id != *old || node.is("slave"))
            };
            Ok(self.masters()?.contains(&replica) && self.all_agree(known)?)
        })?;
        self.await_healthy()?;
        Ok(replica)
    }

    /// Kills a master (`kill -9`) and waits until a replica took over and all running nodes know: a few seconds.
    /// Returns the number of the new master.
    ///
    /// What the master had not passed on is lost, as in life; send `WAIT` before when a test counts on a write.
    ///
    /// # Errors
    ///
    /// As [`failover`](Self::failover); the master is dead then all the same, unless it was none.
    pub fn kill_master(&self, master: usize) -> Result<usize, Error> {
        let replicas = self.replicas_of(master)?;
        if replicas.is_empty() {
            let reason = format!("node {master} is no master with a running replica");
            return Err(unexpected("kill_master", &reason));
        }
        self.nodes[master].kill()?;
        let mut heir = None;
        await_that("a failover", || {
            let masters = self.masters()?;
            heir = replicas.iter().copied().find(|replica| masters.contains(replica));
            let Some(heir) = heir else { return Ok(false) };
            let known = self.all_agree(|node| node.id != self.ids[heir] || node.is("master"))?;
            Ok(known && self.all_ok()?)
        })?;
        heir.ok_or_else(|| unexpected("CLUSTER NODES", "no heir"))
    }

    /// Starts all nodes that are down again and waits until every node is well and every replica up to date.
    ///
    /// # Errors
    ///
    /// As [`Server::restart`](crate::Server::restart), and [`Error::Timeout`] when it takes longer than a minute.
    pub fn heal(&self) -> Result<(), Error> {
        for node in self.nodes.iter().filter(|node| !node.is_running()) {
            node.restart()?;
        }
        self.await_healthy()
    }

    fn replicas_of(&self, master: usize) -> Result<Vec<usize>, Error> {
        let id = self
            .ids
            .get(master)
            .ok_or_else(|| unexpected("CLUSTER NODES", &format!("no node {master}")))?;
        let mut found = Vec::new();
        for (at, _) in self.running() {
            if self
                .view_of(at)?
                .iter()
                .any(|node| node.is("myself") && node.master.as_ref() == Some(id))
            {
                found.push(at);
            }
        }
        Ok(found)
    }

    fn all_ok(&self) -> Result<bool, Error> {
        for (_, node) in self.running() {
            let info = node.command(["CLUSTER", "INFO"])?;
            if !info.as_str().unwrap_or_default().contains("cluster_state:ok") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until all nodes think well of all and all replicas have their master's data.
    pub(super) fn await_healthy(&self) -> Result<(), Error> {
        await_that("a healthy cluster", || {
            let calm = |node: &Node| {
                !["fail", "fail?", "handshake", "noaddr"].iter().any(|flag| node.is(flag))
            };
            if !self.all_ok()? || !self.all_agree(calm)? {
                return Ok(false);
            }
            let replicas = self.replicas()?;
            for (at, _) in self.running() {
                let view = self.view_of(at)?;
                let seen = view.iter().filter(|node| node.is("slave")).count();
                if view.len() != self.nodes.len() || seen != replicas.len() {
                    return Ok(false);
                }
            }
            for replica in replicas {
                let info = self.nodes[replica].command(["INFO", "replication"])?;
                if !info.as_str().unwrap_or_default().contains("master_link_status:up") {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}
