//! The processes of a history, and what happens to them and to their server.

#![expect(clippy::unwrap_used, reason = "a part of the test")]

use std::{
    env,
    ops::Range,
    process::{Child, Command, Stdio},
    time::Duration,
};

use redbrick_testkit::{Server, wait_until};
use tokio::{task::spawn_blocking, time::Instant};

use super::{
    database::{Database, Figures},
    member::PLAIN,
    tell,
};
use crate::PATIENCE;

/// Set in the processes of a history: what each of them is to know.
const PART: &str = "REDBRICK_TEST_HISTORY";
pub(super) const PROCESSES: u64 = 3;

/// What a process is to know.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) number: u64,
    pub(super) seed: u64,
    pub(super) keeping: bool,
    pub(super) cache: String,
    pub(super) database: String,
}

pub(super) struct Fleet {
    test: &'static str,
    /// Whether processes keep values.
    keeping: bool,
    /// Of all processes that there were.
    seeds: Range<u64>,
    cache: Server,
    // Before its server.
    database: Database,
    source: Server,
    members: Vec<Member>,
    figures: Figures,
}

/// A process, which ends when this is dropped.
struct Member(Option<Child>);

/// The part of this process, if it is one of a history.
pub(super) fn part() -> Option<Part> {
    let part = env::var(PART).ok()?;
    let (number, seed, keeping, cache, database) = serde_json::from_str(&part).unwrap();
    Some(Part { number, seed, keeping, cache, database })
}

impl Fleet {
    pub(super) async fn start(test: &'static str, keeping: bool, seed: u64) -> Self {
        let (cache, source) = (Server::start().unwrap(), Server::start().unwrap());
        let database = Database::connect(&source.url()).await;
        let (members, figures) = (Vec::new(), Figures::default());
        let seeds = seed..seed;
        let mut fleet = Self { test, keeping, seeds, cache, database, source, members, figures };
        for number in 0..PROCESSES {
            let member = fleet.member(number).await;
            fleet.members.push(member);
        }
        fleet
    }

    async fn member(&mut self, number: u64) -> Member {
        let urls = [&self.cache, &self.source].map(Server::url);
        let seed = self.seeds.end;
        self.seeds.end += 1;
        let part =
            serde_json::to_string(&(number, seed, self.keeping, &urls[0], &urls[1])).unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", self.test, "--nocapture"]).env(PART, part);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let member = Member(Some(command.spawn().unwrap()));
        let ready = self.database.conn.list("ready").pop_front_within::<u64>(PATIENCE).await;
        assert_eq!(ready.unwrap(), Some(number), "a process that starts");
        member
    }

    /// Empties the server and cuts its connections now and then, and stops it for a while or altogether where processes keep values, until
    /// it is time or something is read that was invalidated.
    pub(super) async fn disturb(&mut self, chance: &mut fastrand::Rng, until: Instant) {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let pause = Duration::from_millis(chance.u64(100..400)).min(left);
            self.no_violation(pause.max(Duration::from_millis(1))).await;
            if Instant::now() >= until {
                return;
            }
            let what = match chance.u32(..12) {
                0..5 => "flushes",
                5..7 => "cuts",
                7 => "forgotten scripts",
                8 if self.keeping => "stalls",
                9 if self.keeping && chance.u32(..3) == 0 => "restarts",
                _ => continue,
            };
            self.cause(what, chance).await;
        }
    }

    /// Has this happen now, if it is one of those that happen to the server.
    pub(super) async fn cause(&mut self, what: &str, chance: &mut fastrand::Rng) {
        match what {
            "flushes" => self.tell_cache(&["FLUSHALL"]),
            "forgotten scripts" => self.tell_cache(&["SCRIPT", "FLUSH"]),
            "cuts" => self.cut(),
            "stalls" => self.stall(chance).await,
            // It forgets all.
            "restarts" => self.cache.restart().unwrap(),
            _ => return,
        }
        self.figures.add(what, 1);
    }

    fn tell_cache(&self, command: &[&str]) {
        self.cache.command(command).unwrap();
    }

    /// Has the server say nothing for a while.
    async fn stall(&self, chance: &mut fastrand::Rng) {
        let paused = self.cache.pause().unwrap();
        self.no_violation(Duration::from_millis(chance.u64(20..400))).await;
        drop(paused);
    }

    /// Cuts connections, with whatever is under way on them.
    fn cut(&self) {
        let clients = self.cache.command(["CLIENT", "LIST"]).unwrap();
        let clients = clients.as_str().unwrap_or_default().lines();
        for client in clients.filter(|client| client.contains(&format!("name={PLAIN}"))) {
            let id = client.split([' ', '=']).nth(1).unwrap();
            // It may be gone by now.
            let _ = self.cache.command(["CLIENT", "KILL", "ID", id]);
        }
    }

    /// Kills a process as it is, and starts another one in its place.
    pub(super) async fn kill_one(&mut self, chance: &mut fastrand::Rng) {
        let number = chance.u64(..PROCESSES);
        let at = usize::try_from(number).unwrap();
        self.members[at].kill();
        self.figures.add("kills", 1);
        self.members[at] = self.member(number).await;
    }

    /// Has the processes end by themselves, and returns what happened in them.
    pub(super) async fn end(mut self) -> Figures {
        self.database.conn.list("stop").extend([1; 3]).await.unwrap();
        let mut members = std::mem::take(&mut self.members);
        let (ended, members) = spawn_blocking(move || {
            (wait_until(PATIENCE, || members.iter_mut().all(Member::has_ended)), members)
        })
        .await
        .unwrap();
        self.no_violation(Duration::from_millis(1)).await;
        assert!(ended, "a process does not end");
        for member in members {
            member.ended_well();
        }
        self.figures().await
    }

    /// What has happened so far, a little late.
    pub(super) async fn figures(&self) -> Figures {
        let all = Figures::default();
        for (what, count) in self.figures.all() {
            all.add(&what, count);
        }
        for seed in self.seeds.clone() {
            let figures = self.database.conn.get::<Vec<(String, u64)>>(format!("figures:{seed}"));
            for (what, count) in figures.await.unwrap().unwrap_or_default() {
                all.add(&what, count);
            }
        }
        all
    }

    async fn no_violation(&self, within: Duration) {
        let violation = self.database.violation(within).await;
        assert!(violation.is_none(), "{}", violation.unwrap_or_default());
    }
}

impl Member {
    fn kill(&mut self) {
        let Some(child) = &mut self.0 else { return };
        // It may have ended before.
        let _ = child.kill();
        let _ = child.wait();
    }

    fn has_ended(&mut self) -> bool {
        self.0.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    fn ended_well(mut self) {
        let output = self.0.take().unwrap().wait_with_output().unwrap();
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            // Marked, so that nobody takes its result for one of this process.
            String::from_utf8_lossy(&text).lines().for_each(|line| tell(&format!("| {line}")));
            panic!("a process failed, see above");
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}
