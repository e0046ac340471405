//! How a transaction goes over the wire.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::Poll,
};

use fred::{
    error::Error as FredError,
    interfaces::{ClientLike, Resp3Frame},
    types::Value,
};
use tokio::time::Instant;

use super::{
    Conn, Manner, Route,
    call::{Attempts, Refusal, left},
    lane::Lane,
    layout::Server,
    link::{Link, custom, options},
};
use crate::{
    Error, ErrorKind, Result,
    commands::{Request, as_sent},
    error::fred::{from_call, from_exec, is_not_in_transaction},
};

/// What came of the commands of a transaction that ran, one by one.
pub(crate) type Outcomes = Vec<Result<Value, FredError>>;

/// What one step of a transaction was answered.
enum Step {
    Queued(Result<Value, FredError>),
    Executed(Result<Resp3Frame, FredError>),
}

type Sending<'a> = Pin<Box<dyn Future<Output = Step> + Send + 'a>>;

impl Conn {
    /// Runs `requests` as one, between `MULTI` and `EXEC`.
    ///
    /// The link is one that only transactions use, so that nothing of others comes in between. Behind `MULTI` comes
    /// a `PING`: its answer leads the list that `EXEC` answers with, which so cannot begin with what a user chose.
    pub(crate) async fn transact(&self, manner: Manner, requests: &[Request]) -> Result<Outcomes> {
        let route = manner.route.clone();
        let mut attempts = self.attempts(manner)?;
        loop {
            let attempt = async {
                let (lane, link, asks) = self.transaction_link(&attempts, &route).await?;
                if let Some(refused) = &link.no_transactions {
                    // The right may have been given since: the next link asks again.
                    lane.doubt();
                    return Err(refused.clone());
                }
                let outcome = exchange(&lane, &link, requests, asks, attempts.deadline()).await;
                self.note(&link, outcome)
            };
            match attempt.await {
                Ok(outcomes) => return Ok(outcomes),
                Err(err) => attempts.failed(err).await?,
            }
        }
    }

    async fn transaction_link(
        &self,
        attempts: &Attempts<'_>,
        route: &Route,
    ) -> Result<(Arc<Lane>, Arc<Link>, bool)> {
        let (route, asks) = match attempts.redirected() {
            Some((node, asks)) => (Route::Node(node.clone()), asks),
            None => (route.clone(), false),
        };
        // A server that is known to be away is not worth a lane, and waits as for any call.
        self.link_to(&route, attempts.deadline()).await?;
        let lane = || {
            let server: Arc<Server> = Arc::clone(self.owner.core.layout.load().master(&route, 0)?);
            Some(Arc::clone(server.transactions(&self.owner.core)))
        };
        let pick = || lane()?.pick();
        let link = self.link_by(pick, attempts.deadline(), Refusal::Fails).await?;
        let lane = lane().ok_or_else(Error::closed)?;
        Ok((lane, link, asks))
    }
}

/// Sends the whole at once and reads what came of it.
async fn exchange(
    lane: &Lane,
    link: &Link,
    requests: &[Request],
    asks: bool,
    deadline: Instant,
) -> Result<Outcomes> {
    // fred forgets what has timed out before it was written. Here that would tear the whole apart, so one deadline
    // for all is kept outside.
    let client = &link.client.with_options(&options(std::time::Duration::ZERO));
    let plain = |name: &'static str| -> Sending<'_> {
        Box::pin(async move {
            Step::Queued(client.custom::<Value, String>(custom(name), Vec::new()).await)
        })
    };
    let mut sending: Vec<Sending<'_>> = Vec::with_capacity(requests.len() + 4);
    if asks {
        sending.push(plain("ASKING"));
    }
    sending.push(plain("MULTI"));
    sending.push(plain("PING"));
    for request in requests {
        let queued = request.clone().queue(client.clone());
        sending.push(Box::pin(async move { Step::Queued(queued.await) }));
    }
    sending.push(Box::pin(async move {
        Step::Executed(client.custom_raw::<String>(custom("EXEC"), Vec::new()).await)
    }));
    let answers = tokio::time::timeout(left(deadline), in_one_piece(lane, link, sending)).await;
    let mut answers = answers.map_err(|elapsed| {
        let what = "no answer within the command timeout; the transaction may or may not have run";
        Error::new(ErrorKind::Timeout, what).with_source(elapsed)
    })??;
    let Some(Step::Executed(executed)) = answers.pop() else { return Err(Error::closed()) };
    let mut queued = answers.into_iter().skip(usize::from(asks)).filter_map(|step| match step {
        Step::Queued(answer) => Some(answer),
        Step::Executed(_) => None,
    });
    let multi = queued.next();
    let refused = queued.find_map(|answer: Result<Value, FredError>| answer.err());
    // As fred hands it over, a refusal looks like an answer.
    let executed = executed.and_then(|frame| match frame {
        frame @ Resp3Frame::Array { .. } => Ok(frame),
        other => as_sent(other).map(|_| Resp3Frame::Null),
    });
    let executed = executed.map(|frame| answers_of(frame, requests.len()));
    match (executed, multi, refused) {
        (Ok(Some(answers)), ..) => Ok(answers.into_iter().map(as_sent).collect()),
        (Ok(_), ..) => Err(Error::new(
            ErrorKind::Protocol,
            "EXEC was answered with something else than a list",
        )),
        // Without MULTI the commands ran one by one.
        (Err(err), Some(Err(multi)), _) if is_not_in_transaction(&err) => {
            let what = format!(
                "MULTI was refused, and the commands may have run one by one: {}",
                from_call(multi)
            );
            Err(Error::new(ErrorKind::Interrupted, what).with_source(err))
        }
        // A command that was refused says more than that the whole was.
        (Err(err), _, Some(refused)) if from_call(err.clone()).code() == Some("EXECABORT") => {
            Err(from_call(refused))
        }
        (Err(err), ..) => Err(from_exec(err)),
    }
}

/// The answers to `count` commands out of what `EXEC` answered: behind the one to our own `PING`, and between those to
/// the ones that the link's heartbeat may have put among them. No other command answers so.
fn answers_of(executed: Resp3Frame, count: usize) -> Option<Vec<Resp3Frame>> {
    let Resp3Frame::Array { mut data, .. } = executed else { return None };
    let is_pong = |frame: &Resp3Frame| matches!(frame, Resp3Frame::SimpleString { data, .. } if data == "PONG");
    data.retain(|frame| !is_pong(frame));
    (data.len() == count).then_some(data)
}

/// Hands all of `sending` to fred before anybody else can send on the lane, then waits for the answers.
///
/// When fred does not take one of them, those before it must not run without it: the link is closed before `EXEC` can
/// follow.
async fn in_one_piece(
    lane: &Lane,
    link: &Link,
    mut sending: Vec<Sending<'_>>,
) -> Result<Vec<Step>> {
    let begun: Result<Vec<Option<Step>>> = poll_fn(|cx| {
        let _turn = lane.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let looks = sending.iter_mut().map(|step| match step.as_mut().poll(cx) {
            Poll::Ready(Step::Queued(Err(err)) | Step::Executed(Err(err))) => Err(from_call(err)),
            Poll::Ready(answer) => Ok(Some(answer)),
            Poll::Pending => Ok(None),
        });
        let looks: Result<_> = looks.collect();
        if looks.is_err() {
            link.abort();
        }
        Poll::Ready(looks)
    })
    .await;
    let begun = begun?;
    let mut answers = Vec::with_capacity(begun.len());
    for (step, done) in sending.into_iter().zip(begun) {
        answers.push(match done {
            Some(answer) => answer,
            None => step.await,
        });
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_within_a_transaction_are_left_out_and_what_users_store_is_not() {
        let simple =
            |text: &'static str| Resp3Frame::SimpleString { data: text.into(), attributes: None };
        let blob =
            |text: &'static str| Resp3Frame::BlobString { data: text.into(), attributes: None };
        let list = |data| Resp3Frame::Array { data, attributes: None };
        let pong = || simple("PONG");
        let answers = || vec![simple("OK"), blob("PONG"), list(vec![pong()])];
        let mixed = vec![pong(), simple("OK"), pong(), blob("PONG"), list(vec![pong()]), pong()];
        assert_eq!(answers_of(list(mixed), 3), Some(answers()));
        assert_eq!(answers_of(list([vec![pong()], answers()].concat()), 3), Some(answers()));
        assert_eq!(answers_of(list([vec![pong()], answers()].concat()), 2), None);
        assert_eq!(answers_of(Resp3Frame::Null, 0), None);
    }
}
