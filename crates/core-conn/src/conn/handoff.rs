//! An answer on its way from a task to whoever awaits it, who may be gone by then: it is taken, or it comes back.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;

use crate::{Error, Reply, Result};

/// The task's side.
pub(super) struct Giving(Arc<Handoff>);

/// The side of whoever awaits the answer. Dropping it before it has ended gives the call up.
pub(super) struct Taking(Arc<Handoff>);

struct Handoff {
    state: Mutex<State>,
    /// It was taken or given up.
    settled: Notify,
}

enum State {
    Waiting(Option<Waker>),
    Ready(Result<Reply>),
    Taken,
    /// With the answer, if that had come.
    GivenUp(Option<Result<Reply>>),
    /// Nobody took it before the connection was closed.
    TakenBack,
}

pub(super) fn handoff() -> (Giving, Taking) {
    let handoff = Handoff { state: Mutex::new(State::Waiting(None)), settled: Notify::new() };
    let handoff = Arc::new(handoff);
    (Giving(Arc::clone(&handoff)), Taking(handoff))
}

impl Giving {
    /// Waits until the call is given up.
    pub(super) async fn given_up(&self) {
        while !matches!(*self.0.lock(), State::GivenUp(_)) {
            self.0.settled.notified().await;
        }
    }

    /// Hands the answer over; returns it when nobody takes it, or has not when `closing` ends.
    pub(super) async fn give(
        self,
        answer: Result<Reply>,
        closing: impl Future<Output = ()>,
    ) -> Option<Result<Reply>> {
        if let Err(answer) = self.0.put(answer) {
            return Some(answer);
        }
        let mut closing = pin!(closing);
        loop {
            let settled = self.0.settled.notified();
            match &mut *self.0.lock() {
                State::Taken | State::TakenBack => return None,
                State::GivenUp(answer) => return answer.take(),
                State::Waiting(_) | State::Ready(_) => {}
            }
            tokio::select! {
                biased;
                () = settled => {}
                () = &mut closing => return self.0.take_back(),
            }
        }
    }
}

impl Drop for Giving {
    /// Its runtime has ended, if there was no answer yet.
    fn drop(&mut self) {
        // One that is there already stays.
        let _ = self.0.put(Err(Error::runtime_gone()));
    }
}

impl Handoff {
    /// Puts the answer there, unless somebody has given up or there is one.
    fn put(&self, answer: Result<Reply>) -> Result<(), Result<Reply>> {
        let mut state = self.lock();
        let State::Waiting(waker) = &mut *state else { return Err(answer) };
        let waker = waker.take();
        *state = State::Ready(answer);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Takes an answer back that nobody has taken.
    fn take_back(&self) -> Option<Result<Reply>> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::TakenBack) {
            State::Ready(answer) => Some(answer),
            State::GivenUp(answer) => answer,
            State::Taken => {
                *state = State::Taken;
                None
            }
            State::Waiting(_) | State::TakenBack => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Taking {
    type Output = Result<Reply>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Reply>> {
        let mut state = self.0.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Ready(answer) => {
                self.0.settled.notify_one();
                Poll::Ready(answer)
            }
            State::TakenBack => Poll::Ready(Err(Error::closed())),
            _ => {
                *state = State::Waiting(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let answer = match std::mem::replace(&mut *state, State::Taken) {
            State::Taken | State::TakenBack => return,
            State::Ready(answer) => Some(answer),
            State::Waiting(_) | State::GivenUp(_) => None,
        };
        *state = State::GivenUp(answer);
        drop(state);
        self.0.settled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn an_answer_is_taken_or_comes_back() {
        let (giving, taking) = handoff();
        let (given, taken) = tokio::join!(giving.give(Ok(Reply::Int(1)), pending()), taking);
        assert_eq!((given.is_none(), taken.unwrap()), (true, Reply::Int(1)));

        // Given up before there is one.
        let (giving, taking) = handoff();
        drop(taking);
        giving.given_up().await;
        assert_eq!(
            giving.give(Ok(Reply::Int(2)), pending()).await.unwrap().unwrap(),
            Reply::Int(2)
        );

        // Given up when it was there already.
        let (giving, mut taking) = handoff();
        let waker = Waker::noop();
        assert!(Pin::new(&mut taking).poll(&mut Context::from_waker(waker)).is_pending());
        let given = tokio::spawn(giving.give(Ok(Reply::Int(3)), pending()));
        tokio::task::yield_now().await;
        drop(taking);
        assert_eq!(given.await.unwrap().unwrap().unwrap(), Reply::Int(3));

        // Not taken before all is closed.
        let (giving, taking) = handoff();
        let given = giving.give(Ok(Reply::Int(4)), ready(())).await;
        assert_eq!(given.unwrap().unwrap(), Reply::Int(4));
        assert_eq!(taking.await.unwrap_err().kind(), crate::ErrorKind::Closed);
    }

    #[tokio::test]
    async fn a_task_that_ends_without_an_answer_is_an_error() {
        let (giving, taking) = handoff();
        drop(giving);
        assert_eq!(taking.await.unwrap_err().kind(), crate::ErrorKind::Closed);
    }
}
