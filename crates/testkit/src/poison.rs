//! Words that a client could take for something of the protocol, and victims that notice when it did.
//!
//! A client that mistakes a reply for a pushed message, or for the answer to another command, gives every later reply
//! on that connection to the wrong caller. [`WORDS`] and [`lists`] are what such mistakes are made of; store and ask for
//! them in every way that the code under test has, and have [`beside`] read other keys on the same connection meanwhile:
//!
//! ```
//! use std::{cell::RefCell, collections::BTreeMap, convert::Infallible};
//!
//! use redbrick_testkit::poison;
//!
//! // Stands for a store that is reached over one connection.
//! let store = RefCell::new(BTreeMap::new());
//! for victim in 0..poison::VICTIMS {
//!     store.borrow_mut().insert(victim.to_string(), poison::answer(victim));
//! }
//! let attack = async {
//!     for words in poison::lists() {
//!         store.borrow_mut().insert("words".to_owned(), words.join(" "));
//!         assert_eq!(store.borrow()["words"], words.join(" "));
//!     }
//! };
//! let read = |victim: usize| {
//!     let found = store.borrow().get(&victim.to_string()).cloned();
//!     async move { Ok::<_, Infallible>(found) }
//! };
//! # let run = async {
//! poison::beside("insert", attack, read).await;
//! # };
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run);
//! ```

use std::{
    fmt::Debug,
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
};

/// What the protocol's own messages and answers begin with.
pub const WORDS: [&str; 17] = [
    "message",
    "pmessage",
    "smessage",
    "subscribe",
    "psubscribe",
    "ssubscribe",
    "unsubscribe",
    "punsubscribe",
    "sunsubscribe",
    "pubsub",
    "invalidate",
    "QUEUED",
    "OK",
    "+OK",
    "-ERR",
    "MOVED 1 127.0.0.1:1",
    "CLUSTERDOWN x",
];

/// The longest of the [`lists`].
pub const LONGEST: usize = 6;

/// How many keys [`beside`] reads at the same time.
pub const VICTIMS: usize = 8;

/// What the key of a victim must hold.
#[must_use]
pub fn answer(victim: usize) -> String {
    format!("the answer to victim {victim}")
}

/// Lists of one to six words: each of [`WORDS`] leads one of each length, with others of them behind it.
pub fn lists() -> impl Iterator<Item = Vec<&'static str>> {
    (0..WORDS.len()).flat_map(|first| {
        (1..=LONGEST).map(move |len| (0..len).map(|at| WORDS[(first + at) % WORDS.len()]).collect())
    })
}

/// Runs `attack` to its end while each victim's key is read again and again beside it, on one task, and once more
/// afterwards. Returns what the attack returns.
///
/// `read` returns what it finds at the key of a victim, which was set to [`answer`] before. It must end: what waits for
/// an answer that never comes has to fail by a timeout of its own.
///
/// # Panics
///
/// When a victim gets anything but its answer.
pub async fn beside<Output, Error, Reading>(
    name: &str,
    attack: impl Future<Output = Output>,
    read: impl Fn(usize) -> Reading,
) -> Output
where
    Error: Debug,
    Reading: Future<Output = Result<Option<String>, Error>>,
{
    let mut attack = pin!(attack);
    let mut output = None;
    let mut rounds = [0_u64; VICTIMS];
    let mut victims: Vec<_> = (0..VICTIMS).map(|victim| Some(Box::pin(read(victim)))).collect();
    poll_fn(|cx| {
        if output.is_none()
            && let Poll::Ready(done) = attack.as_mut().poll(cx)
        {
            output = Some(done);
        }
        for (victim, reading) in victims.iter_mut().enumerate() {
            while let Some(found) = look(reading, cx) {
                check(name, victim, found);
                rounds[victim] += 1;
                let over = output.is_some() && rounds[victim] > 1;
                // One that is always ready at once must not keep the attack from its turn.
                *reading = (!over).then(|| Box::pin(read(victim)));
                if !over && output.is_none() {
                    cx.waker().wake_by_ref();
                    break;
                }
            }
        }
        match victims.iter().all(Option::is_none) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    let Some(output) = output else { panic!("{name}: the victims end after the attack") };
    for victim in 0..VICTIMS {
        check(name, victim, read(victim).await);
    }
    output
}

fn look<Reading: Future + Unpin>(
    reading: &mut Option<Reading>,
    cx: &mut Context<'_>,
) -> Option<Reading::Output> {
    match std::pin::Pin::new(reading.as_mut()?).poll(cx) {
        Poll::Ready(found) => Some(found),
        Poll::Pending => None,
    }
}

fn check<Error: Debug>(name: &str, victim: usize, found: Result<Option<String>, Error>) {
    let wrong = match found {
        Ok(Some(found)) if found == answer(victim) => return,
        Ok(other) => format!("{other:?}"),
        Err(err) => format!("{err:?}"),
    };
    panic!("{name}: victim {victim} got {wrong} instead of its own answer");
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, convert::Infallible};

    use super::*;

    fn run<Output>(future: impl Future<Output = Output>) -> Output {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    async fn some_steps() -> u8 {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        7
    }

    #[test]
    fn every_word_leads_a_list_of_every_length() {
        let all: Vec<_> = lists().collect();
        for word in WORDS {
            for len in 1..=LONGEST {
                assert!(all.iter().any(|list| list.len() == len && list[0] == word));
            }
        }
    }

    #[test]
    fn victims_read_until_the_attack_is_over() {
        let reads = Cell::new(0);
        let read = |victim| {
            reads.set(reads.get() + 1);
            async move {
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(Some(answer(victim)))
            }
        };
        assert_eq!(run(beside("nothing", some_steps(), read)), 7);
        assert!(reads.get() >= 3 * VICTIMS, "{}", reads.get());
    }

    #[test]
    #[should_panic(expected = "get: victim 1 got Some(\"the answer to victim 2\")")]
    fn a_victim_with_the_answer_of_another_is_noticed() {
        let of = |victim: usize| if victim == 1 { 2 } else { victim };
        let read = |victim| async move { Ok::<_, Infallible>(Some(answer(of(victim)))) };
        run(beside("get", some_steps(), read));
    }

    #[test]
    #[should_panic(expected = "get: victim 0 got \"broken\"")]
    fn a_victim_that_fails_is_noticed() {
        run(beside("get", some_steps(), |_| async { Err::<Option<String>, _>("broken") }));
    }
}
