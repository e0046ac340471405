//! Notices a link over which nothing arrives any more, and finds out whether another one would do better.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    link::{Link, LinkEnd, custom, options},
    time::pause,
};
use crate::{Error, ErrorKind, Result, error::fred::from_call};
use fred::interfaces::ClientLike;

/// How often the server is asked for a sign of life.
const HEARTBEAT: Duration = Duration::from_millis(400);
/// For how long a link that owes an answer may be silent before another one is dialed.
const MUTE: Duration = Duration::from_millis(1250);
/// How often it is looked whether the silence has ended.
const GLANCE: Duration = Duration::from_millis(50);
/// How far two looks at the server's buffers are apart, and how many there are.
const BETWEEN_LOOKS: Duration = Duration::from_millis(75);
const LOOKS: usize = 3;
/// How long a look may take: a server that takes longer is slow, and another link would not help.
const LOOK: Duration = Duration::from_secs(1);
/// How long a link that is silent but moves bytes, or whose server answers nobody, is left alone.
const LEAVE_ALONE: Duration = Duration::from_millis(500);
/// For how long a link may be silent when the server does not say whether it moves bytes; never shorter than the
/// command timeout.
const MUTE_UNSEEN: Duration = Duration::from_secs(5);

/// A link dialed beside one that is silent.
pub(super) type Fresh = (Link, LinkEnd);

/// Watches `link`; returns a link to use instead when it is stuck and the server is not.
///
/// Stuck means: an answer is owed, none has come for [`MUTE`], a new link is answered at once, and the server sees
/// no bytes moving on the old one. While the server answers nobody the link is kept, and so is one that slowly
/// carries something big.
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
        let mut pong = pin!(link.ping(None));
        let mut silent_since = Instant::now();
        link.was_heard();
        let mut fresh: Option<Fresh> = None;
        let mut look_at = silent_since + MUTE;
        loop {
            tokio::select! {
                biased;
                // An error ends the link too, and its end is noticed elsewhere.
                _ = &mut pong => break,
                () = pause(GLANCE) => {}
                () = sleep_until(look_at) => {}
            }
            if link.was_heard() {
                silent_since = Instant::now();
                look_at = silent_since + MUTE;
                fresh = None;
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
                _ = &mut pong => break,
                looked = looking => match looked {
                    Ok((Judgment::Stuck, other)) => return other,
                    Ok((Judgment::Moving, other)) => fresh = Some(other),
                    Ok((Judgment::NoBetter, _)) => {}
                    Err(err) => tracing::debug!(error = %err, "a silent link is kept: no other can be made"),
                },
            }
            look_at = Instant::now() + LEAVE_ALONE;
        }
        link.heard();
    }
}

/// What another link tells about a silent one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Judgment {
    Stuck,
    /// It carries bytes, or may do so.
    Moving,
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
    let seen = async {
        let id = link.id.ok_or_else(|| Error::new(ErrorKind::Denied, "the link has no number"))?;
        let mut looks = Vec::with_capacity(LOOKS);
        for look in 0..LOOKS {
            if look > 0 {
                pause(BETWEEN_LOOKS).await;
            }
            looks.push(look_at(other, id).await?);
        }
        Ok::<_, Error>(looks)
    };
    match seen.await {
        Ok(looks) => {
            let looks: Option<Vec<Buffers>> = looks.into_iter().collect();
            match looks {
                Some(looks) if moves(&looks) => Judgment::Moving,
                // Standing still, or unknown to the server by now.
                _ => Judgment::Stuck,
            }
        }
        Err(err) if err.is_answer() || err.kind() == ErrorKind::Denied => {
            let enough = silent_since.elapsed() >= command_timeout.max(MUTE_UNSEEN);
            if enough { Judgment::Stuck } else { Judgment::Moving }
        }
        Err(_) => Judgment::NoBetter,
    }
}

/// What the server holds for a connection: of a request that is still arriving, and of replies not yet taken.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Buffers {
    arriving: u64,
    leaving: u64,
}

/// Asks for the buffers of connection `id`; none when the server no longer knows it.
async fn look_at(other: &Link, id: i64) -> Result<Option<Buffers>> {
    let client = other.client.with_options(&options(LOOK));
    let question = vec!["LIST".to_owned(), "ID".to_owned(), id.to_string()];
    let list: String = client.custom(custom("CLIENT"), question).await.map_err(from_call)?;
    Ok(read_buffers(&list))
}

/// Reads a line of `CLIENT LIST`: `id=7 addr=… qbuf=26 … obl=0 oll=3 omem=61472 …`.
fn read_buffers(list: &str) -> Option<Buffers> {
    let line = list.lines().next().filter(|line| !line.is_empty())?;
    let field = |name: &str| {
        line.split(' ').find_map(|field| field.strip_prefix(name)?.parse::<u64>().ok()).unwrap_or(0)
    };
    Some(Buffers { arriving: field("qbuf="), leaving: field("obl=") + field("omem=") })
}

/// Whether a request arrives or a reply leaves, all the time that was looked.
fn moves(looks: &[Buffers]) -> bool {
    let every = |moved: fn(&Buffers, &Buffers) -> bool| {
        looks.len() > 1 && looks.windows(2).all(|pair| moved(&pair[0], &pair[1]))
    };
    every(|before, after| after.arriving > before.arriving)
        || every(|before, after| after.leaving < before.leaving)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(of: &[(u64, u64)]) -> Vec<Buffers> {
        of.iter().map(|&(arriving, leaving)| Buffers { arriving, leaving }).collect()
    }

    #[test]
    fn a_line_of_the_client_list_is_read() {
        let line = "id=7 addr=127.0.0.1:1 name= age=9 qbuf=1048576 qbuf-free=0 obl=16 oll=3 omem=61472 cmd=set\n";
        assert_eq!(read_buffers(line), Some(Buffers { arriving: 1_048_576, leaving: 61_488 }));
        assert_eq!(read_buffers(""), None, "unknown to the server");
        assert_eq!(read_buffers("ID=x garbage"), Some(Buffers::default()));
    }

    #[test]
    fn only_what_goes_on_moving_moves() {
        for (seen, expected) in [
            (looks(&[(0, 0), (0, 0), (0, 0)]), false),
            (looks(&[(10, 0), (20, 0), (30, 0)]), true),
            // Requests of others that are answered into the void come and go.
            (looks(&[(10, 0), (26, 0), (26, 0)]), false),
            (looks(&[(0, 0), (26, 0), (0, 0)]), false),
            // Replies that nobody takes pile up; those that are taken get less.
            (looks(&[(0, 10), (0, 20), (0, 30)]), false),
            (looks(&[(0, 30), (0, 20), (0, 10)]), true),
            (looks(&[(0, 30)]), false),
        ] {
            assert_eq!(moves(&seen), expected, "{seen:?}");
        }
    }
}
