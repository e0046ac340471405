//! The scripts against a model of what they decide: a lock and permits of one name, those who wait for them in the order in which they
//! came, mailboxes that nobody reads, leases that end, answers that are lost, and a counter of fences that both share.
//!
//! The calls come one after the other. After each of them, what the server has and whom it has told is compared with the model.
//! Leases are long, and end because their keys are written so.

mod server;
mod state;

use std::fmt::Debug;

use proptest::{
    collection::vec,
    prelude::{BoxedStrategy, Just, Strategy, any},
    prop_assert, prop_assert_eq, prop_oneof,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};

use self::{
    server::{Answer, Real, Seen},
    state::{Expected, Model},
};
use crate::{history::chance, is_long};

type Checked<T = ()> = Result<T, TestCaseError>;

/// So many ask for each of both.
const ASKERS: usize = 6;
const STEPS: usize = 30;
/// Two are read, one is at times, and one never is.
const MAILBOXES: usize = 4;
const AT_TIMES: usize = 2;
const MOST_PERMITS: u32 = 4;
/// In milliseconds; the clock goes on while leases are compared.
const SLACK: i64 = 20_000;

/// What somebody asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum What {
    Lock,
    Permits,
}

/// Somebody who asks, of those who ask for the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Asker {
    what: What,
    number: usize,
}

/// What one asks for, and where its process is told.
#[derive(Clone, Copy, Debug)]
struct Terms {
    weight: u32,
    mailbox: usize,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// It asks, and stands in line, if it can be told.
    Ask(Asker, bool),
    /// It gives back what it has, or what it may wait for.
    Release(Asker, bool),
    Extend(Asker),
    Force,
    /// The last call is made once more, as if its answer had been lost.
    Again,
    /// Of those who have it one's lease ends.
    End(What, usize),
    /// Somebody begins or ceases to read the mailbox that is read at times.
    Turn,
    /// There are as many permits from now on.
    Count(u32),
    /// Another program writes to the queue, before all others or behind them.
    Foreign(What, bool, usize),
    /// The clock goes back, for which the counter stands ahead.
    ClockBack,
    /// The counter is lost.
    Forget,
}

fn steps() -> impl Strategy<Value = (Vec<Terms>, Vec<Step>)> {
    let terms = (1..=MOST_PERMITS, 0..MAILBOXES);
    let terms = terms.prop_map(|(weight, mailbox)| Terms { weight, mailbox });
    (vec(terms, 2 * ASKERS), vec(step(), 1..=STEPS))
}

fn step() -> BoxedStrategy<Step> {
    let what = || prop_oneof![Just(What::Lock), Just(What::Permits)];
    let asker = move || (what(), 0..ASKERS).prop_map(|(what, number)| Asker { what, number });
    prop_oneof![
        12 => (asker(), proptest::bool::weighted(0.6)).prop_map(|(who, waits)| Step::Ask(who, waits)),
        8 => (asker(), any::<bool>()).prop_map(|(who, waits)| Step::Release(who, waits)),
        2 => asker().prop_map(Step::Extend),
        2 => Just(Step::Force),
        4 => Just(Step::Again),
        4 => (what(), 0..ASKERS).prop_map(|(what, nth)| Step::End(what, nth)),
        2 => Just(Step::Turn),
        1 => (1..=MOST_PERMITS).prop_map(Step::Count),
        1 => (what(), any::<bool>(), 1..60_usize)
            .prop_map(|(what, first, length)| Step::Foreign(what, first, length)),
        1 => Just(Step::ClockBack),
        1 => Just(Step::Forget),
    ]
    .boxed()
}

#[test]
fn the_scripts_do_what_the_model_does() {
    let mut chance = chance("model");
    let seed: Vec<u8> = std::iter::repeat_with(|| chance.u8(..)).take(32).collect();
    let cases = if is_long() { 20_000 } else { 250 };
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 3000, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let real = std::cell::RefCell::new(runtime.block_on(Real::start()));
    let held = runner.run(&steps(), |(terms, steps)| {
        runtime.block_on(case(&mut real.borrow_mut(), &terms, &steps))
    });
    if let Err(error) = held {
        panic!("{error}");
    }
}

/// What both have done, one step after the other.
async fn case(real: &mut Real, terms: &[Terms], steps: &[Step]) -> Checked {
    real.begin().await;
    let mut model = Model::new(terms);
    let mut before = real.look().await;
    let mut last_call = None;
    for (at, step) in steps.iter().enumerate() {
        let step = match step {
            Step::Again => last_call,
            // The fence would fall, as it may when both happen at once.
            Step::Forget if model.last_fence > before.now => None,
            step => Some(*step),
        };
        let Some(step) = step else { continue };
        if matches!(step, Step::Ask(..) | Step::Release(..) | Step::Extend(_)) {
            last_call = Some(step);
        }
        let expected = model.step(step, before.now);
        let answer = real.step(step, &model).await;
        let seen = real.look().await;
        let compared = compare(&mut model, &before, &expected, answer, &seen);
        compared.map_err(|error| {
            TestCaseError::fail(format!("step {at}, {step:?}: {error}\n{expected:?}\n{seen:?}"))
        })?;
        before = seen;
    }
    Ok(())
}

fn compare(
    model: &mut Model,
    before: &Seen,
    expected: &Expected,
    answer: Answer,
    seen: &Seen,
) -> Checked {
    fences(model, before, &expected.granted, seen)?;
    answers(model, &expected.answer, answer)?;
    for what in [What::Lock, What::Permits] {
        let (thing, real) = (model.thing(what), seen.of(what));
        let queue = thing.queue.iter().map(|waiter| waiter.bytes.clone());
        same("the queue", &queue.collect::<Vec<_>>(), &real.queue)?;
        same("who released", &thing.released, &real.released)?;
        let had = real.had.iter().map(|one| (one.token.clone(), one.weight, one.fence));
        let mut had: Vec<_> = had.collect();
        let own = thing.had.iter().filter(|one| !one.ended);
        let mut own: Vec<_> = own.map(|one| (one.who.token(), one.weight, one.fence)).collect();
        had.sort();
        own.sort();
        same("who has it", &own, &had)?;
        for one in &real.had {
            let own = thing.had.iter().find(|own| own.who.token() == one.token);
            let own = own.map(|own| own.left());
            prop_assert!(own.is_some_and(|own| near(own, one.left)), "{own:?}, {}", one.left);
            prop_assert_eq!(&one.holder, "somebody");
        }
        prop_assert!(thing.out() <= MOST_PERMITS);
        prop_assert!(real.queue.is_empty() || real.queue_left > 0);
    }
    if let Some((what, left)) = expected.queue_left {
        let real = seen.of(what).queue_left;
        prop_assert!(real > left - SLACK, "the queue lives for {real}, not for {left}");
    }
    same("what is out", &model.thing(What::Permits).out(), &seen.out)?;
    let mut told = expected.told.clone();
    for message in &seen.told {
        let at = told.iter().position(|told| told.is(message, model));
        prop_assert!(at.is_some(), "{message:?} was told");
        told.remove(at.unwrap_or_default());
        let at = message.at.unwrap_or(seen.now);
        prop_assert!((before.now..=seen.now).contains(&at), "{message:?}");
    }
    prop_assert!(told.is_empty(), "{told:?} was not told");
    Ok(())
}

/// Fences are the last one and one more, or the server's time if that is higher.
fn fences(model: &mut Model, before: &Seen, granted: &[Asker], seen: &Seen) -> Checked {
    for who in granted {
        let token = who.token();
        let fence = seen.of(who.what).had.iter().find(|one| one.token == token);
        prop_assert!(fence.is_some(), "{who:?} was not granted it");
        let fence = fence.map_or(0, |one| one.fence);
        let last = model.last_fence;
        let of_the_clock = (before.now..=seen.now).contains(&fence);
        let is_next = match last {
            _ if last < before.now => of_the_clock,
            _ if last >= seen.now => fence == last + 1,
            _ => of_the_clock || fence == last + 1,
        };
        prop_assert!(fence > last && is_next, "{fence} after {last} at {}", before.now);
        model.has_fence(*who, fence);
    }
    same("the counter", &model.last_fence_kept(), &seen.fence)?;
    prop_assert!(seen.fence == 0 || seen.fence_left > 0);
    Ok(())
}

fn answers(model: &Model, expected: &Answer, answer: Answer) -> Checked {
    match (expected, answer) {
        (Answer::Had { who: Some(who), left, .. }, Answer::Had { fence, left: real, .. }) => {
            let own = model.fence_of(*who);
            prop_assert!(own == Some(fence), "{own:?} is the fence, not {fence}");
            prop_assert!(near(*left, real), "{left} left, not {real}");
        }
        (
            Answer::Busy { place, free_in, .. },
            Answer::Busy { place: real, free_in: real_free_in, last },
        ) => {
            same("the place", place, &real)?;
            prop_assert!(near(*free_in, real_free_in), "free in {free_in}, not {real_free_in}");
            prop_assert!(real < 0 || last == model.last_fence_kept(), "{last} is the last");
        }
        (expected, answer) => same("the answer", expected, &answer)?,
    }
    Ok(())
}

fn near(expected: i64, real: i64) -> bool {
    match expected {
        ..=0 => expected == real,
        _ => real > 0 && (expected - SLACK..=expected + SLACK).contains(&real),
    }
}

fn same<T: Debug + PartialEq>(what: &str, expected: &T, real: &T) -> Checked {
    prop_assert!(expected == real, "{what}: {expected:?} was expected, not {real:?}");
    Ok(())
}

/// Its process has ceased to listen and asks from time to time, while what it asked before stands in the queue with a mailbox that is
/// read again.
#[test]
fn who_stands_in_line_and_asks_as_one_who_does_not_wait_has_it_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let held = runtime.expect("a runtime").block_on(async {
        let mut real = Real::start().await;
        let [first, next] = [0, 1].map(|number| Asker { what: What::Permits, number });
        let all = Terms { weight: 4, mailbox: 0 };
        let mut terms = [all; 2 * ASKERS];
        terms[ASKERS + 1].weight = 2;
        let steps = [
            Step::Ask(first, true),
            Step::Ask(next, true),
            Step::End(What::Permits, 0),
            Step::Ask(next, false),
            Step::Release(next, false),
            Step::Ask(first, true),
        ];
        case(&mut real, &terms, &steps).await
    });
    if let Err(error) = held {
        panic!("{error}");
    }
}
