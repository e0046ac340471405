//! How a transaction goes over the wire.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::Poll,
    time::Duration,
};

use fred::{
    clients::{Client, WithOptions},
    error::Error as FredError,
    interfaces::{ClientLike, Resp3Frame},
};
use tokio::time::Instant;

use super::{
    Conn, Manner,
    attempts::Attempts,
    lane::Lane,
    layout::Server,
    left,
    link::{Link, custom},
    pick::Refusal,
    together::{begin, finish},
};
use crate::{
    Error, ErrorKind, Reply, Result,
    commands::{Outcome, Request},
    error::fred::{from_call, from_exec, is_exec_abort, is_not_in_transaction},
};

/// A command on its way, on the heap.
type Part<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

impl Conn {
    /// Runs `requests` as one, between `MULTI` and `EXEC`.
    ///
    /// The link is one that only transactions use, so that nothing of others comes in between. Behind `MULTI` comes
    /// a `PING`: its answer leads the list that `EXEC` answers with, which so cannot begin with what a user chose.
    pub(crate) async fn transact(
        &self,
        manner: Manner,
        requests: &[Request],
    ) -> Result<Vec<Reply>> {
        let mut attempts = self.attempts_at(requests.len(), manner)?;
        let outcome = self.transact_at(&mut attempts, requests).await;
        let failed = outcome.as_ref().err();
        self.telemetry().ended("MULTI", attempts.began(), Instant::now(), failed);
        outcome
    }

    async fn transact_at(
        &self,
        attempts: &mut Attempts<'_>,
        requests: &[Request],
    ) -> Result<Vec<Reply>> {
        loop {
            let attempt = async {
                let (lane, link, asks) = self.transaction_link(attempts).await?;
                if let Some(refused) = &link.no_transactions {
                    // The right may have been given since: the next link asks again.
                    lane.doubt();
                    return Err(refused.clone());
                }
                requests.iter().try_for_each(|request| link.check(request))?;
                self.telemetry().sent();
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
    ) -> Result<(Arc<Lane>, Arc<Link>, bool)> {
        let (route, asks) = attempts.route();
        // A server that is known to be away is not worth a lane, and waits as for any call.
        self.link_to(&route, attempts.deadline()).await?;
        let lane = || {
            let server: Arc<Server> = Arc::clone(self.owner.core.layout.load().server(&route, 0)?);
            server.transactions(&self.owner.core)
        };
        let pick = || {
            let lane = lane()?;
            let link = lane.pick()?;
            Some((lane, link))
        };
        let (lane, link) = self.link_by(pick, attempts.deadline(), Refusal::Fails).await?;
        Ok((lane, link, asks))
    }
}

/// Sends the whole at once and reads what came of it: the answers to `requests`.
async fn exchange(
    lane: &Lane,
    link: &Link,
    requests: &[Request],
    asks: bool,
    deadline: Instant,
) -> Result<Vec<Reply>> {
    // fred forgets what has timed out before it was written. Here that would tear the whole apart, so one deadline
    // for all is kept outside.
    let client = &link.within(Duration::ZERO);
    let plain = |name: &'static str| -> Part<'_> {
        Box::pin(async move { ask(client, name).await.and_then(Reply::from_frame) })
    };
    let mut sending: Vec<Part<'_>> = Vec::with_capacity(requests.len() + 4);
    if asks {
        sending.push(plain("ASKING"));
    }
    sending.push(plain("MULTI"));
    sending.push(plain("PING"));
    for request in requests {
        let request = request.clone();
        sending.push(Box::pin(async move { request.queue(client).await }));
    }
    sending.push(Box::pin(
        async move { Reply::from_frame(without_pongs(ask(client, "EXEC").await?)) },
    ));
    let answers = tokio::time::timeout(left(deadline), in_one_piece(lane, link, sending)).await;
    let mut answers = answers.map_err(|elapsed| {
        let what = "no answer within the command timeout; the transaction may or may not have run";
        Error::new(ErrorKind::Timeout, what).with_source(elapsed)
    })??;
    let Some(executed) = answers.pop() else { return Err(Error::unsent()) };
    let mut queued = answers.into_iter().skip(usize::from(asks));
    let multi = queued.next();
    // The first one is our own.
    let asked = std::iter::once(&Request::Ping).chain(requests);
    let refused = queued.zip(asked).find_map(|(answer, asked)| Some((answer.err()?, asked)));
    match (executed, multi, refused) {
        (Ok(Reply::List(answers)), ..) if answers.len() == requests.len() => Ok(answers),
        (Ok(_), ..) => link.out_of_step(),
        // Without MULTI the commands ran one by one.
        (Err(err), Some(Err(multi)), _) if is_not_in_transaction(&err) => {
            let what = format!(
                "MULTI was refused, and the commands may have run one by one: {}",
                from_call(multi)
            );
            Err(Error::new(ErrorKind::Interrupted, what).with_source(err))
        }
        // A command that was refused says more than that the whole was.
        (Err(err), _, Some((refused, asked))) if is_exec_abort(&err) => {
            Err(from_call(refused).context(asked.name()))
        }
        (Err(err), ..) => Err(from_exec(err)),
    }
}

async fn ask(client: &WithOptions<Client>, name: &'static str) -> Result<Resp3Frame, FredError> {
    client.custom_raw::<String>(custom(name), Vec::new()).await
}

/// What `EXEC` was answered, without the answers to our own `PING` and to those that the link's heartbeat may have put
/// among the commands. No other command answers so.
fn without_pongs(mut executed: Resp3Frame) -> Resp3Frame {
    if let Resp3Frame::Array { data, .. } = &mut executed {
        data.retain(
            |frame| !matches!(frame, Resp3Frame::SimpleString { data, .. } if data == "PONG"),
        );
    }
    executed
}

/// Hands all of `sending` to fred before anybody else can send on the lane, then waits for the answers.
///
/// When fred does not take one of them, those before it must not run without it: the link is closed before `EXEC` can
/// follow.
async fn in_one_piece(
    lane: &Lane,
    link: &Link,
    mut sending: Vec<Part<'_>>,
) -> Result<Vec<Outcome>> {
    let begun = poll_fn(|cx| {
        let _turn = lane.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = begin(&mut sending, cx);
        if begun.iter().flatten().any(Result::is_err) {
            link.abort();
        }
        Poll::Ready(begun)
    })
    .await;
    if let Some(err) = begun.iter().flatten().find_map(|answer| answer.as_ref().err()) {
        return Err(from_call(err.clone()));
    }
    Ok(finish(sending, begun).await)
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
        let answers = vec![simple("OK"), blob("PONG"), list(vec![pong()])];
        let mut mixed = vec![pong(), pong()];
        for answer in answers.clone() {
            mixed.extend([answer, pong()]);
        }
        assert_eq!(without_pongs(list(mixed)), list(answers));
        assert_eq!(without_pongs(Resp3Frame::Null), Resp3Frame::Null);
    }
}
