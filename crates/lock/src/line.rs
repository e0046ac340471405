//! Who waits in line.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::{
    Error,
    claim::Busy,
    held::{Asked, Held},
    post::Seat,
    time::{SLACK, pause_until},
    wait::PAUSE,
};

impl Held {
    /// Waits in line until it is told that it is its turn.
    pub(crate) async fn in_line(&mut self, until: Instant) -> Result<Option<u64>, Error> {
        let (group, hold) = (self.group.clone(), self.hold.clone());
        let (post, partition, token) = (&group.post, &hold.claim.keys.partition, &hold.token);
        // Where nobody has it, nobody need listen.
        let (mut seat, mut can_listen) = (post.seat(partition, token), true);
        loop {
            let (asked, before) = (Instant::now(), seat.as_ref().map(Seat::gaps));
            let mut stood = false;
            let failure = match self.ask(seat.is_some()).await {
                Ok(Asked::Had(fence)) => return Ok(Some(fence)),
                Ok(Asked::Busy(busy)) => {
                    if let (Some(seat), Some(gaps), Some(place)) = (&mut seat, before, busy.place) {
                        stood = true;
                        let next = match (place, busy.free_in) {
                            // Who is first looks when the other one's lease ends.
                            (0, Some(left)) => left.min(self.lease.duration()),
                            _ => self.lease.duration(),
                        };
                        let heard = self.await_news(
                            seat,
                            asked,
                            gaps,
                            busy,
                            until.min(asked + next + SLACK),
                        );
                        if let Some(fence) = heard.await {
                            return Ok(Some(fence));
                        }
                    }
                    None
                }
                Err(error) if error.is_retryable() => Some(error),
                Err(error) => return Err(error),
            };
            if Instant::now() >= until {
                return match failure {
                    Some(error) => Err(error),
                    None => {
                        self.leave().await;
                        Ok(None)
                    }
                };
            }
            seat = seat.filter(|seat| !seat.is_over());
            if seat.is_none() && can_listen {
                match timeout_at(until, post.listen(partition, token)).await {
                    Ok(Ok(Some(entered))) => {
                        seat = Some(entered);
                        continue;
                    }
                    Ok(Err(error)) if !error.is_retryable() => {
                        tracing::debug!(%error, "nobody can tell when a lock is free; it is asked for from time to time");
                        can_listen = false;
                    }
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "nobody can tell yet when a lock is free");
                    }
                    _ => {}
                }
            }
            if !stood {
                pause_until(until, PAUSE).await;
            }
        }
    }

    /// Leaves the line, if the server answers soon; otherwise it does when it is dropped.
    async fn leave(&mut self) {
        if !self.owed {
            return;
        }
        self.departs();
        let given_back = self.group.give_back(&self.hold, self.queued_with);
        if let Ok(Ok(())) = timeout(PAUSE, given_back).await {
            self.owed = false;
        }
    }

    /// It waits no more: what is granted to it in spite of that is handed on.
    pub(crate) fn departs(&self) {
        if self.queued_with.is_some() {
            self.group.post.leaves(&self.hold);
        }
    }

    /// Waits for what the servers say, until the lock is had or it is worth asking again: at `next` at the latest, whatever was lost.
    async fn await_news(
        &mut self,
        seat: &mut Seat,
        asked: Instant,
        gaps: u64,
        busy: Busy,
        mut next: Instant,
    ) -> Option<u64> {
        loop {
            let news = *seat.news.borrow_and_update();
            // What was granted before the answer is over, or the answer would have said so.
            if let Some(grant) = news.granted.filter(|grant| grant.fence > busy.last) {
                // So long after the answer, by the server's clock, and that was given after the question.
                let since = asked + Duration::from_micros(grant.at.saturating_sub(busy.now));
                let until = self.lease.until(since.min(grant.heard));
                return self.hold.rely_until(until).ok().map(|()| grant.fence);
            }
            if news.gaps != gaps {
                return None;
            }
            if let Some((since, left)) = news.first.filter(|(since, _)| *since >= asked) {
                next = next.min(since + left.min(self.lease.duration()) + SLACK);
            }
            tokio::select! {
                biased;
                changed = seat.news.changed() => if changed.is_err() { return None },
                () = sleep_until(next) => return None,
            }
        }
    }
}
