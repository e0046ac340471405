use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use redbrick_testkit::Server;
use serde::Serialize;
use tokio::{runtime::Runtime, task::JoinHandle, time::timeout};

use crate::{
    Side, figures,
    load::Load,
    options::Effort,
    usage::{ServerUsage, client_cpu},
};

/// How long the last calls of a slice may take; nothing here waits for long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one side did in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Slice {
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// The process's processor time for each operation.
    pub(crate) client_us: f64,
    /// The servers' processor time for each operation.
    pub(crate) server_us: f64,
    /// How many commands the servers ran for each operation; scripts count with what they call.
    pub(crate) commands: f64,
}

/// Lets one side work, alone, and measures it.
pub(crate) fn run(
    runtime: &Runtime,
    side: &Side,
    tasks: usize,
    round: usize,
    effort: Effort,
    servers: &[Server],
) -> Slice {
    let load = Arc::new(Load::new(tasks, round));
    let before = ServerUsage::now(servers);
    let (window, latencies) = runtime.block_on(async {
        let running: Vec<_> = (0..tasks).map(|task| side.spawn(&load, task)).collect();
        pause(effort.warm_up).await;
        load.measuring.store(true, Ordering::Relaxed);
        let start = Mark::now(&load);
        pause(effort.measured).await;
        let window = start.until(&Mark::now(&load));
        load.stopped.store(true, Ordering::Relaxed);
        let ended = timeout(PATIENCE, latencies(running)).await;
        (window, ended.expect("every call of a slice ends"))
    });
    let (server_cpu, commands) = ServerUsage::now(servers).since(&before);

    let all = float(load.done());
    let done = float(window.done);
    let percentile =
        |percent| figures::at(&latencies, percent).map_or(0.0, |&nanos| f64::from(nanos) / 1e3);
    Slice {
        per_second: done / window.time.as_secs_f64(),
        p50_us: percentile(50),
        p99_us: percentile(99),
        client_us: window.cpu.as_secs_f64() * 1e6 / done,
        // The servers are asked outside, so what was done to warm up belongs to it.
        server_us: server_cpu.as_secs_f64() * 1e6 / all,
        commands: float(commands) / all,
    }
}

/// Where a side stands at a moment; at another, the difference.
struct Mark {
    at: Instant,
    cpu: Duration,
    done: u64,
}

struct Window {
    time: Duration,
    cpu: Duration,
    done: u64,
}

impl Mark {
    fn now(load: &Load) -> Self {
        Self { at: Instant::now(), cpu: client_cpu(), done: load.done() }
    }

    fn until(&self, end: &Self) -> Window {
        let done = end.done - self.done;
        assert!(done > 0, "a side does something within a slice");
        Window { time: end.at - self.at, cpu: end.cpu - self.cpu, done }
    }
}

/// The latencies of all tasks, sorted.
async fn latencies(running: Vec<JoinHandle<Vec<u32>>>) -> Vec<u32> {
    let mut all = Vec::new();
    for task in running {
        all.append(&mut task.await.expect("no operation fails"));
    }
    all.sort_unstable();
    all
}

#[expect(clippy::disallowed_methods, reason = "a slice is a length of time")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}
