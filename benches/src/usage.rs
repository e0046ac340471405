use std::time::Duration;

use redbrick_testkit::{CommandCounts, Server};
use rustix::time::{ClockId, clock_gettime};

/// The processor time that this process has used, in user and in kernel mode, all its threads together.
pub(crate) fn client_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).expect("a process's time is not negative");
    let nanos = u32::try_from(time.tv_nsec).expect("nanoseconds are below a second");
    Duration::new(seconds, nanos)
}

/// What servers have done so far. The questions themselves are taken off the counts, but not off the time: that is why
/// they are asked once in a slice.
#[derive(Debug)]
pub(crate) struct ServerUsage {
    cpu: Duration,
    counts: Vec<CommandCounts>,
}

impl ServerUsage {
    /// Asks each server.
    pub(crate) fn now(servers: &[Server]) -> Self {
        let counts = servers.iter().map(|server| server.command_counts().expect("a server counts"));
        Self { counts: counts.collect(), cpu: servers.iter().map(cpu).sum() }
    }

    /// The processor time since, and how many commands were run, those that keep connections up left out.
    pub(crate) fn since(&self, earlier: &Self) -> (Duration, u64) {
        let pairs = self.counts.iter().zip(&earlier.counts);
        let commands = pairs.map(|(now, then)| now.since(then).of_calls().total()).sum();
        (self.cpu.saturating_sub(earlier.cpu), commands)
    }
}

fn cpu(server: &Server) -> Duration {
    let info = server.command(["INFO", "cpu"]).expect("a server tells its use of the processor");
    let text = info.as_str().unwrap_or_default();
    let seconds = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.trim().parse().ok()).map(Duration::from_secs_f64)
    };
    ["used_cpu_user", "used_cpu_sys"]
        .into_iter()
        .map(|name| seconds(name).expect("`INFO cpu` has it in seconds"))
        .sum()
}
