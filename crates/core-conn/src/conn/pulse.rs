//! Notices a link over which nothing arrives any more, and finds out whether another one would do better.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    buffers::{self, Movement},
    link::{Link, LinkEnd},
    time::pause,
};
use crate::{Error, Result, error::fred::from_call};

/// How often the server is asked for a sign of life.
const HEARTBEAT: Duration = Duration::from_millis(400);
/// For how long a link that owes an answer may be silent before another one is dialed.
const MUTE: Duration = Duration::from_millis(1250);
/// How often it is looked whether the silence has ended.
const GLANCE: Duration = Duration::from_millis(50);
/// How long a look may take: a server that takes longer is slow, and another link would not help.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// How long a link that is silent but moves bytes, or whose server answers nobody, is left alone.
const LEAVE_ALONE: Duration = Duration::from_millis(500);
/// For how long a link may be silent when the server does not say whether it moves bytes; never shorter than the
/// command timeout.
const MUTE_UNSEEN: Duration = Duration::from_secs(5);
/// The bytes per second at which a big reply is expected to leave when it cannot be seen whether it does.
const SLOWEST: u64 = 4 << 20;

/// A link dialed beside one that is silent.
pub(super) type Fresh = (Link, LinkEnd);

/// Watches `link`; returns a link to use instead when it is stuck and the server is not.
///
/// Stuck means: an answer is owed, none has come for [`MUTE`], a new link is answered at once, and the server sees
/// no bytes moving on the old one, or has not seen any for as long. While the server answers nobody the link is kept, and so
/// is one that slowly carries something big.
pub(super) async fn stuck<D>(
    link: &Arc<Link>,
    command_timeout: Duration,
    dial: impl Fn() -> D,
) -> Fresh
where
    D: Future<Output = Result<Fresh>>,
{
    loop {
        pause(HEARTBEAT).await;
        let mut pong = pin!(ponged(link));
        let mut silent_since = Instant::now();
        link.take_heard();
        let mut fresh: Option<Fresh> = None;
        let mut look_at = silent_since + MUTE;
        // What has left the server is on its way for a while, and the server sees nothing of that.
        let mut moved_at: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                () = &mut pong => break,
                () = pause(GLANCE) => {}
                () = sleep_until(look_at) => {}
            }
            if link.take_heard() {
                silent_since = Instant::now();
                look_at = silent_since + MUTE;
                (fresh, moved_at) = (None, None);
            }
            if Instant::now() < look_at {
                continue;
            }
            // Whatever this takes, an answer on the old link ends it.
            let looking = async {
                let (other, end) = match fresh.take() {
                    Some(fresh) => fresh,
                    None => dial().await?,
                };
                let judged = judge(link, &other, silent_since, command_timeout).await;
                Ok::<_, Error>((judged, (other, end)))
            };
            tokio::select! {
                biased;
                () = &mut pong => break,
                looked = looking => match looked {
                    Ok((Judgment::Stuck, other)) if moved_at.is_none_or(|at| at.elapsed() >= MUTE) => {
                        return other;
                    }
                    Ok((Judgment::Stuck, other)) => fresh = Some(other),
                    Ok((Judgment::Moving, other)) => {
                        (fresh, moved_at) = (Some(other), Some(Instant::now()));
                    }
                    Ok((Judgment::Unseen, other)) => fresh = Some(other),
                    Ok((Judgment::NoBetter, _)) => {}
                    Err(err) => tracing::debug!(error = %err, "a silent link is kept: no other can be made"),
                },
            }
            look_at = Instant::now() + LEAVE_ALONE;
        }
        link.heard();
    }
}

/// Returns when the server has answered a PING, whatever it said. What fails on the way is no answer: fred refuses a
/// command when too many wait for a socket that takes none.
async fn ponged(link: &Link) {
    while let Err(err) = link.ping(None).await {
        if err.is_answer() {
            return;
        }
        pause(GLANCE).await;
    }
}

/// Has the server close its end of a stuck link, so that commands which are still under way on it run no more: some of
/// them are about to be sent again. Without the right to `CLIENT KILL` they may.
pub(super) async fn kill(other: &Link, stuck: &Link) {
    let Some(client) = stuck.known_to(other) else { return };
    // Behind the same address there may be another server by now, with a client of the same number.
    let order = ["KILL", "ID", &client.number, "ADDR", &client.address];
    if let Err(err) = other.ask::<i64>(LOOK, "CLIENT", &order).await {
        tracing::debug!(error = %from_call(err), "the server did not close the stuck link");
    }
}

/// What another link tells about a silent one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Judgment {
    Stuck,
    /// It carries bytes, or may do so.
    Moving,
    /// The server does not say whether it carries bytes, and it was not silent for long.
    Unseen,
    /// The server does not answer on the other one either.
    NoBetter,
}

async fn judge(
    link: &Link,
    other: &Link,
    silent_since: Instant,
    command_timeout: Duration,
) -> Judgment {
    if other.ping(Some(LOOK)).await.is_err() {
        return Judgment::NoBetter;
    }
    if other.address != link.address {
        // The sentinels name another master by now.
        return Judgment::Stuck;
    }
    let silent_for = silent_since.elapsed();
    let patience = command_timeout.max(MUTE_UNSEEN);
    let unseen = || if silent_for < patience { Judgment::Unseen } else { Judgment::Stuck };
    let Some(client) = link.known_to(other) else { return unseen() };
    match buffers::watch(other, client).await {
        Ok(Movement::Seen) => Judgment::Moving,
        Ok(Movement::Possible { leaving })
            if silent_for < patience + Duration::from_secs(leaving / SLOWEST) =>
        {
            Judgment::Moving
        }
        Ok(_) => Judgment::Stuck,
        Err(err) if err.is_answer() => unseen(),
        Err(_) => Judgment::NoBetter,
    }
}
