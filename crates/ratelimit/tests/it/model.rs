//! What passes is exactly what the rule says: a model of it is given the server's own times.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use redbrick_ratelimit::{Algorithm, Decision, Quota};

use crate::{clock, connect, limiter, n};

/// A bucket that drains as time goes by, into which each request pours.
#[derive(Default)]
struct Bucket {
    level: u64,
    at: u64,
}

/// The moments at which requests passed.
#[derive(Default)]
struct Log(VecDeque<u64>);

/// What the rule says: the wait, what remains, and the time until the reset.
type Said = (u64, u64, u64);

impl Bucket {
    fn ask(&mut self, now: u64, cost: u64, interval: u64, burst: u64) -> Said {
        self.level = self.level.saturating_sub(now - self.at);
        self.at = now;
        let brim = interval * burst;
        let wait = (self.level + cost * interval).saturating_sub(brim);
        if wait == 0 {
            self.level += cost * interval;
        }
        (wait, (brim - self.level) / interval, self.level)
    }
}

impl Log {
    fn ask(&mut self, now: u64, cost: u64, period: u64, limit: u64) -> Said {
        while self.0.front().is_some_and(|moment| moment + period <= now) {
            self.0.pop_front();
        }
        let used = self.0.len() as u64;
        let mut wait = 0;
        if used + cost > limit {
            let last = usize::try_from(used + cost - limit - 1).unwrap();
            wait = self.0[last] + period - now;
        } else {
            self.0.extend((0..cost).map(|_| now));
        }
        let reset = self.0.back().map_or(0, |moment| moment + period - now);
        (wait, limit - self.0.len() as u64, reset)
    }
}

/// A sequence that is the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap()
}

fn now(decision: &Decision) -> u64 {
    micros(clock(decision).duration_since(SystemTime::UNIX_EPOCH).unwrap())
}

fn said(decision: &Decision) -> Said {
    let wait = decision.retry_after().map_or(0, micros);
    (wait, decision.remaining().into(), micros(decision.reset_after()))
}

#[tokio::test]
async fn gcra_lets_pass_what_the_rule_lets_pass_and_nothing_else() {
    let conn = connect("model-gcra").await;
    // From so fast that it is often empty to so slow that it stays full.
    let quotas = [(50, 3), (200, 2), (700, 7), (3_000, 5), (20_000, 40), (60_000_000, 300)];
    let limiters = quotas.map(|(interval, burst)| {
        let quota = Quota::per(n(1), Duration::from_micros(interval)).burst(n(burst));
        (limiter(&conn, Algorithm::Gcra, quota), interval, burst, Bucket::default())
    });
    let mut limiters = Vec::from(limiters);
    let (mut random, mut passed, mut denied) = (Random(1), 0, 0);

    for _ in 0..4_000 {
        let which = usize::try_from(random.below(6)).unwrap();
        let (limiter, interval, burst, bucket) = &mut limiters[which];
        let cost = 1 + u32::try_from(random.below(u64::from(*burst).min(4))).unwrap();
        let decision = limiter.consume_n(interval.to_string(), n(cost)).await.unwrap();
        let expected = bucket.ask(now(&decision), cost.into(), *interval, (*burst).into());
        assert_eq!(said(&decision), expected, "{cost} of {burst} every {interval}");
        if decision.is_allowed() { passed += 1 } else { denied += 1 }
    }
    assert!(passed > 200 && denied > 200, "{passed} passed, {denied} were denied");
}

#[tokio::test]
async fn the_log_lets_pass_what_the_rule_lets_pass_and_nothing_else() {
    let conn = connect("model-log").await;
    let quotas = [(200, 2), (1_500, 5), (10_000, 30), (200_000, 100), (3_600_000_000, 300)];
    let limiters = quotas.map(|(period, limit)| {
        let quota = Quota::per(n(limit), Duration::from_micros(period));
        (limiter(&conn, Algorithm::SlidingLog, quota), period, limit, Log::default())
    });
    let mut limiters = Vec::from(limiters);
    let (mut random, mut passed, mut denied) = (Random(2), 0, 0);

    for _ in 0..4_000 {
        let which = usize::try_from(random.below(5)).unwrap();
        let (limiter, period, limit, log) = &mut limiters[which];
        let cost = 1 + u32::try_from(random.below(u64::from(*limit).min(4))).unwrap();
        let decision = limiter.consume_n(period.to_string(), n(cost)).await.unwrap();
        let expected = log.ask(now(&decision), cost.into(), *period, (*limit).into());
        assert_eq!(said(&decision), expected, "{cost} of {limit} in {period}");
        if decision.is_allowed() { passed += 1 } else { denied += 1 }
    }
    assert!(passed > 200 && denied > 200, "{passed} passed, {denied} were denied");
}
