//! What the server sees of a connection of ours: whether bytes move on it.

use std::time::Duration;

use super::{introduction::ClientId, link::Link, pulse::LOOK, time::pause};
use crate::{Result, error::fred::from_call};

/// How far two looks are apart, how many there are, and how many while something big is leaving, which goes in bursts.
const BETWEEN_LOOKS: Duration = Duration::from_millis(75);
const LOOKS: usize = 3;
const LOOKS_AT_BIG: usize = 4;
/// From how many bytes on a reply does not fit into what the system buffers of it.
const BIG: u64 = 16 << 10;
/// How many bytes a server sends to all its clients, while it is looked, when something big may be among them.
const MUCH: u64 = 64 << 10;

/// What was seen of a connection from beside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Movement {
    /// Nothing moves, or the server does not know the connection any more.
    None,
    Seen,
    /// A reply waits of which the server does not say whether it leaves, and it does send something to somebody.
    Possible {
        leaving: u64,
    },
}

/// Looks over `other` at the connection that the server calls `id`, some times in a row.
pub(super) async fn watch(other: &Link, client: &ClientId) -> Result<Movement> {
    let Some(first) = look_at(other, client).await? else { return Ok(Movement::None) };
    let mut looks = vec![first];
    let most = if first.leaving >= BIG { LOOKS_AT_BIG } else { LOOKS };
    while looks.len() < most {
        pause(BETWEEN_LOOKS).await;
        let Some(look) = look_at(other, client).await? else { return Ok(Movement::None) };
        looks.push(look);
    }
    Ok(movement(&looks))
}

/// What the server holds for a connection: of a request that is still arriving, and of replies that wait.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Buffers {
    arriving: u64,
    /// A big reply is one buffer, which counts in full until its last byte has left.
    leaving: u64,
    /// What was sent on the connection in all; not every server says so.
    sent: Option<u64>,
    /// What was sent to all clients; asked for where the other is not known and something waits.
    sent_to_all: Option<u64>,
}

/// Asks for the buffers of a connection; none when the server no longer knows it.
async fn look_at(other: &Link, client: &ClientId) -> Result<Option<Buffers>> {
    let list = other.ask::<String>(LOOK, "CLIENT", &["LIST", "ID", &client.number]).await;
    let list = list.map_err(from_call)?;
    // Behind the same address there may be another server by now, with a client of the same number.
    let own = ClientId::read(&list).filter(|found| found == client);
    let Some(mut buffers) = own.and_then(|_| read_buffers(&list)) else { return Ok(None) };
    if buffers.leaving >= BIG && buffers.sent.is_none() {
        let info = other.ask::<String>(LOOK, "INFO", &["stats"]).await.map_err(from_call)?;
        buffers.sent_to_all = field(info.lines(), "total_net_output_bytes:");
    }
    Ok(Some(buffers))
}

/// Reads a line of `CLIENT LIST`: `id=7 addr=… qbuf=26 … obl=0 oll=3 omem=61472 …`.
fn read_buffers(list: &str) -> Option<Buffers> {
    let line = list.lines().next().filter(|line| !line.is_empty())?;
    let field = |name| field(line.split(' '), name);
    let size = |name| field(name).unwrap_or(0);
    Some(Buffers {
        arriving: size("qbuf="),
        leaving: size("obl=") + size("omem="),
        sent: field("tot-net-out="),
        sent_to_all: None,
    })
}

fn field<'a>(mut fields: impl Iterator<Item = &'a str>, name: &str) -> Option<u64> {
    fields.find_map(|field| field.strip_prefix(name)?.trim_end().parse().ok())
}

fn movement(looks: &[Buffers]) -> Movement {
    // Requests of other tasks that are answered into the void come and go, so it has to go on all the time.
    let every = |moved: fn(&Buffers, &Buffers) -> bool| {
        looks.len() > 1 && looks.windows(2).all(|pair| moved(&pair[0], &pair[1]))
    };
    if every(|before, after| after.arriving > before.arriving)
        || every(|before, after| after.leaving < before.leaving)
    {
        return Movement::Seen;
    }
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else { return Movement::None };
    if first.leaving < BIG {
        // What is sent although nobody takes it still fits into the system's buffers.
        return Movement::None;
    }
    let more = |before: Option<u64>, after: Option<u64>| {
        after.zip(before).map_or(0, |(after, before)| after.saturating_sub(before))
    };
    if last.leaving < first.leaving || more(first.sent, last.sent) > 0 {
        Movement::Seen
    } else if more(first.sent_to_all, last.sent_to_all) >= MUCH {
        Movement::Possible { leaving: first.leaving }
    } else {
        Movement::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(arriving: u64, leaving: u64) -> Buffers {
        Buffers { arriving, leaving, ..Buffers::default() }
    }

    #[test]
    fn a_line_of_the_client_list_is_read() {
        let line = "id=7 addr=127.0.0.1:1 name= age=9 qbuf=1048576 qbuf-free=0 obl=16 oll=3 omem=61472 cmd=set\n";
        assert_eq!(read_buffers(line), Some(look(1_048_576, 61_488)));
        assert_eq!(read_buffers(""), None, "unknown to the server");
        assert_eq!(read_buffers("ID=x garbage"), Some(Buffers::default()));
        let line = "id=7 qbuf=0 obl=0 omem=5 tot-net-in=1 tot-net-out=4711\n";
        assert_eq!(read_buffers(line), Some(Buffers { sent: Some(4711), ..look(0, 5) }));
    }

    #[test]
    fn only_what_goes_on_moving_moves() {
        for (seen, expected) in [
            ([(0, 0), (0, 0), (0, 0)], Movement::None),
            ([(10, 0), (20, 0), (30, 0)], Movement::Seen),
            // Requests of others that are answered into the void come and go.
            ([(10, 0), (26, 0), (26, 0)], Movement::None),
            ([(0, 0), (26, 0), (0, 0)], Movement::None),
            // Replies that nobody takes pile up; those that are taken get less.
            ([(0, 10), (0, 20), (0, 30)], Movement::None),
            ([(0, 30), (0, 20), (0, 10)], Movement::Seen),
            ([(0, 30), (0, 10), (0, 20)], Movement::None),
            // Big ones leave in bursts.
            ([(0, 9 * BIG), (0, 9 * BIG), (0, 8 * BIG)], Movement::Seen),
        ] {
            assert_eq!(
                movement(&seen.map(|(arriving, leaving)| look(arriving, leaving))),
                expected,
                "{seen:?}"
            );
        }
        assert_eq!(movement(&[look(0, 30)]), Movement::None);
    }

    #[test]
    fn one_big_reply_moves_when_its_bytes_are_sent_and_may_move_when_some_are() {
        let leaving = 64 << 20;
        let sent = |sent| Buffers { sent: Some(sent), ..look(0, leaving) };
        let to_all = |sent| Buffers { sent_to_all: Some(sent), ..look(0, leaving) };
        for (looks, expected) in [
            ([sent(7), sent(7), sent(8)], Movement::Seen),
            ([sent(7), sent(7), sent(7)], Movement::None),
            ([to_all(7), to_all(7), to_all(7 + MUCH)], Movement::Possible { leaving }),
            // Answers to others, and to what was asked just now.
            ([to_all(7), to_all(8), to_all(MUCH)], Movement::None),
        ] {
            assert_eq!(movement(&looks), expected, "{looks:?}");
        }
        // Small replies are sent into the system's buffers, whether somebody takes them or not.
        let small = |sent| Buffers { sent: Some(sent), ..look(0, 5) };
        assert_eq!(movement(&[small(7), small(8), small(9)]), Movement::None);
    }
}
