//! A history of many who take turns at random, forget what they have, give up and are held up, while links are killed and the server
//! stands still: no two have it at a time, fences rise, and nobody waits for ever.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redbrick_core_conn::{Config, Conn};
use redbrick_lock::{Error, LockGuard, Locks, Wait};
use redbrick_testkit::Server;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{PATIENCE, exists, is_long, rest, server, tell};

/// What decides the seed.
const SEED: &str = "REDBRICK_TEST_SEED";
const PROCESSES: usize = 4;
const TASKS: usize = 8;
const LEASE: Duration = Duration::from_millis(200);
const QUEUE: &str = "lock:default:{90}:job:queue";

/// What all of them see.
#[derive(Default)]
struct World {
    highest: AtomicU64,
    turns: AtomicU64,
    waits: AtomicU64,
    late: AtomicU64,
}

impl World {
    async fn take_turns(&self, locks: &Locks, until: Instant, mut chance: fastrand::Rng) {
        while Instant::now() < until {
            let wait = match chance.u32(..4) {
                0 => Wait::For(Duration::from_millis(chance.u64(..300))),
                _ => Wait::Forever,
            };
            let lock = locks.lock("job").lease(LEASE).wait(wait).into_future();
            // Some are given up before they have it.
            let patience = if chance.u32(..6) == 0 { chance.u64(..60) } else { 60_000 };
            match timeout(Duration::from_millis(patience), lock).await {
                Ok(Ok(Some(guard))) => self.turn(guard, &mut chance).await,
                Ok(Ok(None)) | Err(_) => drop(self.waits.fetch_add(1, Ordering::SeqCst)),
                Ok(Err(Error::Late)) => drop(self.late.fetch_add(1, Ordering::SeqCst)),
                Ok(Err(error)) => assert!(error.is_retryable(), "{error:?}"),
            }
        }
    }

    async fn turn(&self, mut guard: LockGuard, chance: &mut fastrand::Rng) {
        let fence = guard.fence();
        let before = self.highest.fetch_max(fence, Ordering::SeqCst);
        // Once it is over, others may have been before.
        assert!(before < fence || !guard.is_valid(), "{fence} after {before}");
        self.turns.fetch_add(1, Ordering::SeqCst);
        rest(Duration::from_micros(chance.u64(..3000))).await;
        if chance.u32(..8) == 0 {
            let _ = guard.extend(LEASE).await;
        }
        let highest = self.highest.load(Ordering::SeqCst);
        assert!(highest == fence || !guard.is_valid(), "{highest} while {fence} has it");
        match chance.u32(..20) {
            0 => {
                let _forgotten = guard.into_token();
            }
            1 => rest(LEASE * 2).await,
            2..5 => drop(guard),
            _ => {
                let _ = guard.release().await;
            }
        }
    }
}

/// Kills links, and has the server stand still, now and then.
async fn disturb(server: &Arc<Server>, until: Instant, mut chance: fastrand::Rng) {
    while Instant::now() < until {
        rest(Duration::from_millis(chance.u64(20..200))).await;
        let command: &[&str] = match chance.u32(..6) {
            0..2 => &["CLIENT", "KILL", "TYPE", "pubsub"],
            2 => &["CLIENT", "KILL", "TYPE", "normal"],
            3 => &["SCRIPT", "FLUSH"],
            _ => {
                let paused = server.pause().unwrap();
                rest(Duration::from_millis(chance.u64(20..250))).await;
                paused.resume();
                continue;
            }
        };
        let server = Arc::clone(server);
        // Nothing to kill is no failure.
        let killed = tokio::task::spawn_blocking(move || server.command(command).map(drop));
        let _ = killed.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_have_it_and_everybody_has_turns_whatever_is_lost() {
    let mut chance = chance("history");
    let server = server();
    let length = Duration::from_secs(if is_long() { 600 } else { 5 });
    let (world, until) = (Arc::new(World::default()), Instant::now() + length);
    let mut tasks = JoinSet::new();
    for _ in 0..PROCESSES {
        let config = Config::builder().url(server.url()).command_timeout(Duration::from_secs(2));
        let locks = Locks::new(Conn::connect(config).await.unwrap());
        for _ in 0..TASKS {
            let (world, locks, chance) = (Arc::clone(&world), locks.clone(), chance.fork());
            tasks.spawn(async move { world.take_turns(&locks, until, chance).await });
        }
    }
    disturb(&server, until, chance.fork()).await;
    let ended = timeout(PATIENCE, async {
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    });
    ended.await.expect("somebody waits for ever");
    let World { turns, waits, late, .. } = &*world;
    let count = |count: &AtomicU64| count.load(Ordering::SeqCst);
    tell(&format!("{} turns, {} gave up, {} were late", count(turns), count(waits), count(late)));
    assert!(count(turns) > 100 && count(waits) > 0);
    let watched = Arc::clone(&server);
    crate::eventually("nobody stands in line", move || !exists(&watched, QUEUE)).await;
}

/// Random numbers from the seed of the environment, or from a new one; tells which.
pub(crate) fn chance(test: &str) -> fastrand::Rng {
    let given = env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    tell(&format!("{test}: {SEED}={seed}"));
    fastrand::Rng::with_seed(seed)
}
