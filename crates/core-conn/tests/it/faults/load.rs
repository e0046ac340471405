//! Increments without end, and what came of each.

use std::{collections::BTreeMap, ops::AddAssign, time::Duration};

use redbrick_core_conn::{Conn, Result};
use tokio::{
    sync::{oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval},
};

use crate::PATIENCE;

/// A thousand increments in a second, each a call of its own that waits for nobody.
pub(crate) struct Load {
    /// When the newest call began that ended well.
    newest: watch::Receiver<Instant>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Vec<Call>>,
}

struct Call {
    key: String,
    ended: Instant,
    result: Result<i64>,
}

/// What the calls on one key came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) done: i64,
    /// Surely not run.
    pub(crate) failed: i64,
    pub(crate) unknown: i64,
}

/// What all calls came to.
pub(crate) struct Calls(Vec<Call>);

impl Tally {
    pub(crate) fn note<T>(&mut self, result: &Result<T>) {
        match result {
            Ok(_) => self.done += 1,
            Err(err) if err.is_outcome_unknown() => self.unknown += 1,
            Err(_) => self.failed += 1,
        }
    }

    /// Fails when what the server counted cannot have come of these calls.
    pub(crate) fn explains(&self, counted: i64) {
        let possible = self.done..=self.done + self.unknown;
        assert!(possible.contains(&counted), "{counted} were counted after {self:?}");
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.unknown += other.unknown;
    }
}

impl Load {
    /// Increments the key that `key` gives for each number, one millisecond after the other.
    pub(crate) fn start(conn: &Conn, key: impl Fn(usize) -> String + Send + 'static) -> Self {
        let (conn, started) = (conn.clone(), Instant::now());
        let (newest, watched) = watch::channel(started);
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_millis(1));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let (mut calls, mut ended) = (JoinSet::new(), Vec::new());
            for n in 0.. {
                tokio::select! {
                    biased;
                    _ = &mut stopped => break,
                    _ = ticks.tick() => {}
                }
                let (conn, key, newest) = (conn.clone(), key(n), newest.clone());
                calls.spawn(async move {
                    let began = Instant::now();
                    let result = conn.increment(&key, 1).await;
                    if result.is_ok() {
                        newest.send_if_modified(|newest| {
                            let newer = *newest < began;
                            *newest = began.max(*newest);
                            newer
                        });
                    }
                    Call { key, ended: Instant::now(), result }
                });
                while let Some(call) = calls.try_join_next() {
                    ended.push(call.expect("a call"));
                }
            }
            ended.extend(calls.join_all().await);
            ended
        });
        Self { newest: watched, stop, task }
    }

    /// Waits until a call that began after `moment` has ended well.
    pub(crate) async fn works_after(&mut self, moment: Instant) {
        let works = self.newest.wait_for(|newest| *newest > moment);
        let works = tokio::time::timeout(PATIENCE, works).await;
        works.expect("calls work again").expect("the load goes on");
    }

    /// Makes no more calls, and waits for those in flight.
    pub(crate) async fn end(self) -> Calls {
        let _ = self.stop.send(());
        Calls(self.task.await.expect("the load"))
    }
}

impl Calls {
    /// What the calls on each key came to.
    pub(crate) fn by_key(&self) -> BTreeMap<String, Tally> {
        let mut tallies = BTreeMap::<_, Tally>::new();
        for call in &self.0 {
            tallies.entry(call.key.clone()).or_default().note(&call.result);
        }
        tallies
    }

    pub(crate) fn tally(&self) -> Tally {
        let mut all = Tally::default();
        self.by_key().into_values().for_each(|tally| all += tally);
        all
    }

    /// The longest time in which no call on `keys` ended well.
    pub(crate) fn longest_gap(&self, keys: impl Fn(&str) -> bool) -> Duration {
        let done = self.0.iter().filter(|call| call.result.is_ok() && keys(&call.key));
        let mut ends: Vec<_> = done.map(|call| call.ended).collect();
        ends.sort_unstable();
        let gaps = ends.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().expect("calls that ended well")
    }

    /// Fails unless each key holds what its calls explain; `count` asks the server.
    pub(crate) fn explain(&self, count: impl Fn(&str) -> i64) {
        for (key, tally) in self.by_key() {
            tally.explains(count(&key));
        }
    }
}
