#![doc = include_str!("../README.md")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use tokio::runtime::Runtime;

/// Slices into which a sample is cut, so that the two sides take turns.
const SLICES: u64 = 8;

/// Shorter samples are criterion's warm-up or too short to divide one by the other.
const SHORTEST: Duration = Duration::from_millis(20);

/// One way of doing what is measured.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a, F> {
    name: &'a str,
    operation: F,
}

impl<'a, F> Side<'a, F> {
    /// Names an operation, which each task calls again and again.
    pub fn new(name: &'a str, operation: F) -> Self {
        Self { name, operation }
    }
}

/// Measures `ours` and `baseline` in turns, at `tasks` tasks each, and prints the ratio of their rates.
///
/// # Panics
///
/// When an operation panics: a call that fails is no measurement.
pub fn compare<F, G>(
    criterion: &mut Criterion,
    runtime: &Runtime,
    what: &str,
    tasks: u64,
    ours: &Side<'_, F>,
    baseline: &Side<'_, G>,
) where
    F: AsyncOperation,
    G: AsyncOperation,
{
    let mut ratios = Vec::new();
    let mut pair = |iterations: u64| {
        let mut spent = [Duration::ZERO; 2];
        let mut left = iterations;
        for slice in 0..SLICES {
            let now = left / (SLICES - slice);
            left -= now;
            // Who goes first changes, so that neither always finds what the other left behind.
            for side in if slice % 2 == 0 { [0, 1] } else { [1, 0] } {
                spent[side] += match side {
                    0 => time(runtime, tasks, now, &ours.operation),
                    _ => time(runtime, tasks, now, &baseline.operation),
                };
            }
        }
        if spent.iter().all(|time| *time >= SHORTEST) {
            ratios.push(spent[1].as_secs_f64() / spent[0].as_secs_f64());
        }
        spent
    };

    let mut group = criterion.benchmark_group(format!("{what}, {tasks} at a time"));
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(tasks));
    group
        .bench_function(ours.name, |bencher| bencher.iter_custom(|iterations| pair(iterations)[0]));
    group.bench_function(baseline.name, |bencher| {
        bencher.iter_custom(|iterations| pair(iterations)[1]);
    });
    group.finish();

    ratios.sort_by(f64::total_cmp);
    if let [first, .., last] = &*ratios {
        let at = |share: usize| ratios[(ratios.len() - 1) * share / 100];
        println!(
            "{what}, {tasks} at a time: {} does {:.2} × as many as {} (median; {:.2} to {:.2} in the middle 80 % of {} \
             samples, {first:.2} to {last:.2} in all)\n",
            ours.name,
            at(50),
            baseline.name,
            at(10),
            at(90),
            ratios.len(),
        );
    }
}

/// What a task can call again and again: a cloneable function that gives a future.
pub trait AsyncOperation: Clone + Send + 'static {
    /// Does it `times` times, one after the other.
    fn repeat(self, times: u64) -> impl Future<Output = ()> + Send;
}

impl<F, U> AsyncOperation for F
where
    F: Fn() -> U + Clone + Send + 'static,
    U: Future<Output = ()> + Send,
{
    async fn repeat(self, times: u64) {
        for _ in 0..times {
            self().await;
        }
    }
}

/// How long `tasks` tasks take to do it `times` times each.
fn time(runtime: &Runtime, tasks: u64, times: u64, operation: &impl AsyncOperation) -> Duration {
    runtime.block_on(async {
        let start = Instant::now();
        let running: Vec<_> =
            (0..tasks).map(|_| tokio::spawn(operation.clone().repeat(times))).collect();
        for task in running {
            task.await.expect("the operation does not fail");
        }
        start.elapsed()
    })
}
