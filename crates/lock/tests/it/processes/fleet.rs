//! The processes of a history, and what happens to them and to their server.

#![expect(clippy::unwrap_used, reason = "a part of the test")]

use std::{
    collections::BTreeMap,
    env,
    process::{Child, Command, Stdio},
    time::Duration,
};

use redbrick_testkit::{Server, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::{
    Kind, LEASE, PERMITS, PROCESSES, SLACK, TEST,
    member::{acquire, connect},
    records::Records,
    resource::Resource,
};
use crate::{PATIENCE, exists, keys, rest, tell, until};

/// Set in the processes of a history: what each of them is to know.
const PART: &str = "REDBRICK_TEST_PROCESSES";
/// What stays: the counter of fences.
const COUNTER: &str = "lock:default:{90}";
/// Longer than it takes from a question for the time to the answer.
const MOMENT: Duration = Duration::from_millis(50);

/// What a process is to know.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) id: u64,
    pub(super) seed: u64,
    pub(super) locks: String,
    pub(super) resource: String,
}

pub(super) struct Fleet {
    seed: u64,
    /// The number of the last process that was started.
    last_id: u64,
    locks: Server,
    // Before its server.
    resource: Resource,
    source: Server,
    members: Vec<Member>,
    /// What happened here.
    happened: BTreeMap<String, u64>,
    /// From when until when two may have it, since the server has lost its data.
    exempt: Vec<(u64, u64)>,
}

/// A process, which ends when this is dropped.
struct Member {
    id: u64,
    child: Option<Child>,
}

/// A process that is stopped until this is dropped.
struct Stopped(Pid);

/// The part of this process, if it is one of a history.
pub(super) fn part() -> Option<Part> {
    let part = env::var(PART).ok()?;
    let mut parts = part.split(' ');
    let mut next = || parts.next().unwrap();
    let (id, seed) = (next().parse().unwrap(), next().parse().unwrap());
    Some(Part { id, seed, locks: next().to_owned(), resource: next().to_owned() })
}

impl Fleet {
    pub(super) async fn start(seed: u64) -> Self {
        let (locks, source) = (Server::start().unwrap(), Server::start().unwrap());
        let resource = Resource::connect(&source.url()).await;
        let (members, happened, exempt) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut fleet =
            Self { seed, last_id: 0, locks, resource, source, members, happened, exempt };
        for _ in 0..PROCESSES {
            let member = fleet.member().await;
            fleet.members.push(member);
        }
        fleet
    }

    async fn member(&mut self) -> Member {
        self.last_id += 1;
        let (id, [locks, source]) = (self.last_id, [&self.locks, &self.source].map(Server::url));
        let seed = self.seed.wrapping_add(id);
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", TEST, "--nocapture"]);
        command.env(PART, format!("{id} {seed} {locks} {source}"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut member = Member { id, child: Some(command.spawn().unwrap()) };
        let ready = self.resource.told::<u64>("ready", PATIENCE).await;
        if ready != Some(id) {
            member.show();
            panic!("a process does not start");
        }
        member
    }

    /// Lets them go on for a while, and looks whether they do.
    pub(super) async fn rest(&mut self, time: Duration) {
        rest(time).await;
        if let Some(at) = self.members.iter_mut().position(Member::has_ended) {
            self.members.remove(at).show();
            panic!("a process has ended, see above");
        }
    }

    /// Has this happen.
    pub(super) async fn cause(&mut self, what: &str, chance: &mut fastrand::Rng) {
        match what {
            "stops" => self.stop(chance).await,
            "kills" => {
                self.members.swap_remove(chance.usize(..PROCESSES)).kill();
                let member = self.member().await;
                self.members.push(member);
            }
            "restarts" => self.restart().await,
            "refused" => self.hold_up(chance).await,
            "given up" | "dropped" | "aborted" => self.order("give up", what, chance).await,
            what if Kind::of(what).is_some() => self.order(what, what, chance).await,
            what => self.disturb(what, chance).await,
        }
        *self.happened.entry(what.to_owned()).or_default() += 1;
    }

    /// Something that happens to the server.
    async fn disturb(&self, what: &str, chance: &mut fastrand::Rng) {
        let command: &[&str] = match what {
            "cuts" => &["CLIENT", "KILL", "TYPE", "normal"],
            "deaf" => &["CLIENT", "KILL", "TYPE", "pubsub"],
            "forgotten scripts" => &["SCRIPT", "FLUSH"],
            _ => {
                let _paused = self.locks.pause().unwrap();
                return rest(Duration::from_millis(chance.u64(20..400))).await;
            }
        };
        // Nothing to kill is no failure.
        let _ = self.locks.command(command);
    }

    /// Stops a process for longer than its leases.
    async fn stop(&self, chance: &mut fastrand::Rng) {
        let _stopped = self.members[chance.usize(..PROCESSES)].stop();
        if chance.u32(..3) == 0 {
            let what = ["cuts", "deaf", "pauses"][chance.usize(..3)];
            self.disturb(what, chance).await;
        }
        rest(LEASE + Duration::from_millis(chance.u64(..400))).await;
    }

    /// The server forgets all. Who had something before relies on it for a lease.
    async fn restart(&mut self) {
        let (before, _) = self.resource.now().await;
        self.locks.restart().unwrap();
        rest(LEASE + MOMENT).await;
        let (after, _) = self.resource.now().await;
        self.exempt.push((before, after));
    }

    /// Stops a process between its look at what it has and its write, until others have written.
    async fn hold_up(&mut self, chance: &mut fastrand::Rng) {
        let before = self.count("refused").await;
        let member = &self.members[chance.usize(..PROCESSES)];
        let held_up = async {
            loop {
                self.resource.tell(format!("orders:{}", member.id), &"refused").await;
                // On a busy machine it may be over before it is used.
                let told = self.resource.told::<(u64, u64)>("held up", Duration::from_secs(2));
                if let Some((id, fence)) = told.await
                    && id == member.id
                {
                    return fence;
                }
            }
        };
        let fence = timeout(PATIENCE, held_up).await.expect("it is held up");
        let stopped = member.stop();
        until("another one has written", async || {
            let written = self.source.command(["HGET", "fences:lock", "any"]).unwrap();
            written.as_str().is_some_and(|any| any.parse::<u64>().unwrap() > fence)
        })
        .await;
        self.resource.tell(format!("go:{}", member.id), &fence).await;
        drop(stopped);
        until("it was refused", async || self.count("refused").await > before).await;
    }

    /// Has a process do something by which this happens.
    async fn order(&self, order: &str, event: &str, chance: &mut fastrand::Rng) {
        let before = self.count(event).await;
        let member = &self.members[chance.usize(..PROCESSES)];
        self.resource.tell(format!("orders:{}", member.id), &order).await;
        until(event, async || self.count(event).await > before).await;
    }

    async fn count(&self, event: &str) -> u64 {
        self.figures().await.get(event).copied().unwrap_or_default()
    }

    /// What has happened so far.
    pub(super) async fn figures(&self) -> BTreeMap<String, u64> {
        let mut all = self.happened.clone();
        // Those are counted where they happen.
        all.retain(|event, _| Kind::of(event).is_none());
        for event in ["refused", "given up", "dropped", "aborted"] {
            all.remove(event);
        }
        let figures = self.source.command(["HGETALL", "figures"]).unwrap();
        for figure in figures.as_array().unwrap().chunks(2) {
            let [event, count] = [&figure[0], &figure[1]].map(|it| it.as_str().unwrap());
            all.insert(event.to_owned(), count.parse().unwrap());
        }
        all
    }

    /// Has the processes end by themselves, looks what is left, and at all that was noted.
    pub(super) async fn end(mut self) -> String {
        self.rest(Duration::ZERO).await;
        self.resource.conn.set("stop", &1).await.unwrap();
        for member in &self.members {
            self.resource.tell(format!("orders:{}", member.id), &"end").await;
        }
        let began = Instant::now();
        let mut members = std::mem::take(&mut self.members);
        let (ended, members) = spawn_blocking(move || {
            let ended = || members.iter_mut().all(Member::has_ended);
            (wait_until(LEASE + SLACK, ended), members)
        })
        .await
        .unwrap();
        let took = began.elapsed();
        members.into_iter().for_each(Member::ended_well);
        assert!(ended, "somebody waits for ever");
        self.nothing_is_left().await;
        let records = Records::read(&self.source);
        let violations = records.violations(&self.exempt);
        for violation in violations.iter().take(20) {
            tell(violation);
        }
        assert!(violations.is_empty(), "{} violations, see above", violations.len());
        let figures = self.figures().await;
        let figures = figures.iter().map(|(event, count)| format!("{event} {count}"));
        let figures = figures.collect::<Vec<_>>().join(", ");
        format!("{figures}; ended in {took:?}; {} grants", records.grants())
    }

    /// Whoever comes has it at once, or after the lease of who was killed; then nobody waits, and only fences are remembered.
    async fn nothing_is_left(&self) {
        let locks = connect(&self.locks.url()).await;
        for kind in [Kind::Lock, Kind::Write, Kind::Permits(PERMITS)] {
            let asks = timeout(LEASE + SLACK, acquire(&locks, kind).into_future()).await;
            let guard = asks.expect("nobody else is there").unwrap().unwrap();
            let _ = guard.release().await.unwrap();
        }
        until("all is over", async || keys(&self.locks) == 1 && exists(&self.locks, COUNTER)).await;
        let left = self.locks.command(["PTTL", COUNTER]).unwrap().as_int();
        assert!(left > Some(0), "{left:?}");
    }
}

impl Member {
    /// Stops it where it is.
    fn stop(&self) -> Stopped {
        let pid = Pid::from_child(self.child.as_ref().unwrap());
        kill_process(pid, Signal::STOP).unwrap();
        Stopped(pid)
    }

    fn kill(&mut self) {
        let Some(child) = &mut self.child else { return };
        // It may have ended before.
        let _ = child.kill();
        let _ = child.wait();
    }

    fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    fn ended_well(mut self) {
        if !self.show() {
            panic!("a process failed, see above");
        }
    }

    /// Shows what it said, unless it ended well.
    fn show(&mut self) -> bool {
        let Some(mut child) = self.child.take() else { return true };
        // It may have ended before.
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            // Marked, so that nobody takes its result for one of this process.
            String::from_utf8_lossy(&text).lines().for_each(|line| tell(&format!("| {line}")));
        }
        output.status.success()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        } else {
            self.kill();
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Whoever holds this has not waited for its end.
        let _ = kill_process(self.0, Signal::CONT);
    }
}
