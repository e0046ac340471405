//! One loader for many processes.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{
    env,
    future::pending,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use redbrick_cache::Cache;
use redbrick_core_conn::Conn;
use redbrick_testkit::Server;
use tokio::{sync::Barrier, time::Instant};

use crate::{PATIENCE, patient};

/// Set in the processes of a fleet: where their server is.
const MEMBER: &str = "REDBRICK_TEST_FLEET";
const PROCESSES: usize = 8;
const TASKS: usize = 125;
/// How long a loader takes.
const LOAD: Duration = Duration::from_millis(50);

/// What a loader does, from the number of loads that have begun on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Load {
    Returns,
    /// The first one never does.
    HangsAtFirst,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_in_eight_processes_share_one_load() {
    if let Ok(url) = env::var(MEMBER) {
        return member(&url, Load::Returns).await;
    }
    let fleet = Fleet::start("fleet::a_thousand_callers_in_eight_processes_share_one_load").await;
    fleet.go().await;
    let waits = fleet.end(PROCESSES).await;
    assert_eq!(fleet.conn.count("loads").await.unwrap(), Some(1));
    tell_waits("one loader for 8 processes", waits);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_process_that_loads_is_killed_one_other_loads() {
    if let Ok(url) = env::var(MEMBER) {
        return member(&url, Load::HangsAtFirst).await;
    }
    let mut fleet =
        Fleet::start("fleet::when_the_process_that_loads_is_killed_one_other_loads").await;
    fleet.go().await;
    let loading = fleet.conn.list("loading").pop_front_within::<u32>(PATIENCE).await.unwrap();
    let loading = loading.expect("somebody loads");
    let victim = fleet.members.iter_mut().find(|member| member.id() == loading).unwrap();
    victim.kill().unwrap();
    let waits = fleet.end(PROCESSES - 1).await;
    assert_eq!(fleet.conn.count("loads").await.unwrap(), Some(2));
    tell_waits("one loader after another was killed", waits);
}

/// Asks for a cold key from many tasks at once, and says how long each of them took.
async fn member(url: &str, load: Load) {
    let conn = Conn::connect(url).await.unwrap();
    let cache: Cache<u64> = patient(conn.clone());
    // The connection for what is listened for, and the tasks, are there before it begins.
    conn.list("ready").push_back(&std::process::id()).await.unwrap();
    conn.list("go").pop_front_within::<u32>(PATIENCE).await.unwrap().expect("it begins");
    let barrier = Arc::new(Barrier::new(TASKS));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (conn, cache, barrier) = (conn.clone(), cache.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                let began = Instant::now();
                let loader = async || {
                    let begun = conn.increment("loads", 1).await?;
                    conn.list("loading").push_back(&std::process::id()).await?;
                    if load == Load::HangsAtFirst && begun == 1 {
                        pending::<()>().await;
                    }
                    crate::rest(LOAD).await;
                    Ok::<_, redbrick_core_conn::Error>(7)
                };
                assert_eq!(cache.get_or_load("cold", loader).await.unwrap(), 7);
                u64::try_from(began.elapsed().as_micros()).unwrap()
            })
        })
        .collect();
    for task in tasks {
        conn.list("took").push_back(&task.await.unwrap()).await.unwrap();
    }
    conn.list("done").push_back(&std::process::id()).await.unwrap();
}

/// Processes of this test binary, with a server of their own.
struct Fleet {
    _server: Server,
    conn: Conn,
    members: Vec<Child>,
}

impl Fleet {
    async fn start(test: &str) -> Self {
        let server = Server::start().unwrap();
        let member = || {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["--exact", test, "--nocapture"]).env(MEMBER, server.url());
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let members = (0..PROCESSES).map(|_| member()).collect();
        let conn = Conn::connect(server.url()).await.unwrap();
        Self { _server: server, conn, members }
    }

    /// Lets all begin, when all are there.
    async fn go(&self) {
        for _ in 0..PROCESSES {
            let ready = self.conn.list("ready").pop_front_within::<u32>(PATIENCE).await.unwrap();
            ready.expect("a process that starts");
        }
        self.conn.list("go").extend([1; PROCESSES]).await.unwrap();
    }

    /// Waits until so many are done, and returns how long their calls took, in microseconds.
    async fn end(&self, count: usize) -> Vec<u64> {
        for _ in 0..count {
            let done = self.conn.list("done").pop_front_within::<u32>(PATIENCE).await.unwrap();
            done.expect("a process whose callers all have the value");
        }
        let took = self.conn.list("took").range::<u64>(..).await.unwrap();
        assert_eq!(took.len(), count * TASKS);
        took
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for member in &mut self.members {
            // It may have ended before.
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

/// Says how much longer than the loader they waited.
#[expect(clippy::print_stdout, reason = "figures for those who look at them")]
fn tell_waits(what: &str, mut took: Vec<u64>) {
    took.sort_unstable();
    let beyond = |percent: usize| {
        let took = Duration::from_micros(took[(took.len() - 1) * percent / 100]);
        took.saturating_sub(LOAD)
    };
    println!("{what}: waited beyond the loader p50 {:?}, p99 {:?}", beyond(50), beyond(99));
}
