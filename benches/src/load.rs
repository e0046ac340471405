use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::{runtime::Handle, task::JoinHandle};

/// What each task does again and again.
///
/// A task has a clone of its own. An operation that fails panics, and with it the benchmark: a call that fails is no
/// measurement.
pub trait Operation: Clone + Send + 'static {
    /// Does it once. The number decides about which key.
    fn call(&mut self, random: u64) -> impl Future<Output = ()> + Send;

    /// Whether the latency of the call with this number is wanted.
    ///
    /// Default: that of every call.
    fn is_sampled(&self, random: u64) -> bool {
        let _ = random;
        true
    }
}

/// One way of doing what is measured: a client and its operation.
pub struct Side {
    pub(crate) name: &'static str,
    spawn: Box<Spawn>,
}

/// Starts one task, by its number.
type Spawn = dyn Fn(Arc<Load>, usize) -> JoinHandle<Vec<u32>>;

impl Side {
    /// Names an operation.
    #[must_use]
    pub fn new(name: &'static str, operation: impl Operation) -> Self {
        Self {
            name,
            spawn: Box::new(move |load, task| {
                Handle::current().spawn(work(operation.clone(), load, task))
            }),
        }
    }

    /// Starts a task that works until the load stops, and then gives the latencies that it saw, in nanoseconds.
    pub(crate) fn spawn(&self, load: &Arc<Load>, task: usize) -> JoinHandle<Vec<u32>> {
        (self.spawn)(Arc::clone(load), task)
    }
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What the tasks of a slice share with who measures them.
#[derive(Debug)]
pub(crate) struct Load {
    /// Latencies count from now on.
    pub(crate) measuring: AtomicBool,
    pub(crate) stopped: AtomicBool,
    /// Sides of one round have the same one, and so ask for the same keys.
    round: u64,
    sampled: u64,
    done: Box<[Count]>,
}

/// On a cache line of its own (two, as processors fetch them in pairs), so that counting costs nobody anything.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Count(AtomicU64);

impl Load {
    pub(crate) fn new(tasks: usize, round: usize) -> Self {
        Self {
            measuring: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            round: round as u64,
            sampled: if tasks <= FEW { 1 } else { SAMPLED },
            done: (0..tasks).map(|_| Count::default()).collect(),
        }
    }

    /// How often the operation was done so far, by all tasks.
    pub(crate) fn done(&self) -> u64 {
        self.done.iter().map(|count| count.0.load(Ordering::Relaxed)).sum()
    }
}

/// Up to so many tasks the latency of each call is taken.
const FEW: usize = 16;
/// Above that, calls cost less, so that reading the clock would show: the latency of one in so many is taken.
const SAMPLED: u64 = 8;

async fn work(mut operation: impl Operation, load: Arc<Load>, task: usize) -> Vec<u32> {
    let mut latencies = Vec::new();
    let mut random = Random::new(load.round, task as u64);
    let mut done = 0;
    while !load.stopped.load(Ordering::Relaxed) {
        let number = random.next();
        // Tasks begin at different places, or all of them would look at the clock at once.
        if (done + task as u64).is_multiple_of(load.sampled)
            && load.measuring.load(Ordering::Relaxed)
            && operation.is_sampled(number)
        {
            let start = Instant::now();
            operation.call(number).await;
            latencies.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
        } else {
            operation.call(number).await;
        }
        done += 1;
        load.done[task].0.store(done, Ordering::Relaxed);
    }
    latencies
}

/// A small xorshift generator: the same numbers for the same round and task.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(round: u64, task: u64) -> Self {
        // Any odd number with mixed bits keeps the seeds apart; zero would stay zero.
        let mut random = Self((round << 32 | task).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tasks_and_rounds_ask_for_different_keys_and_repeat_them() {
        let first = |round, task| Random::new(round, task).next();
        let seen: HashSet<_> =
            (0..10).flat_map(|round| (0..100).map(move |task| first(round, task))).collect();
        assert_eq!(seen.len(), 1000);
        assert_eq!(first(3, 7), first(3, 7));
    }
}
