use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redbrick_core_conn::{Codec, Reply};
use serde::de::DeserializeOwned;

use crate::Error;

/// Whether a member is new in a room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Joined {
    /// It was not there.
    New,
    /// It was there: its information was replaced and its lease renewed, and it keeps the time of its joining.
    Renewed,
}

/// Who is in a room; see [`Room::members`](crate::Room::members).
#[non_exhaustive]
pub struct Members<Info> {
    /// The members, by the time of their joining.
    pub members: Vec<Member<Info>>,
    /// Members that are there, with information that cannot be read: of another type, or changed by another program.
    pub unreadable: Vec<Unreadable>,
}

/// A member of a room. Its `Debug` shows neither id nor information.
#[derive(Clone)]
#[non_exhaustive]
pub struct Member<Info> {
    /// As it was given to [`Room::join`](crate::Room::join).
    pub id: Vec<u8>,
    /// What was given with it last.
    pub info: Info,
    /// When it joined, by the server's clock and to the millisecond.
    pub joined_at: SystemTime,
}

/// A member of whom only the id can be read. Its `Debug` does not show it.
#[non_exhaustive]
pub struct Unreadable {
    /// As it was given to [`Room::join`](crate::Room::join).
    pub id: Vec<u8>,
    /// What is wrong with the information: [`Error::Undecodable`].
    pub error: Error,
}

impl<Info> Member<Info> {
    /// Returns the id as a text; what is no UTF-8 in it is replaced.
    #[must_use]
    pub fn id_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.id)
    }
}

impl<Info: DeserializeOwned> Members<Info> {
    pub(crate) fn read(codec: Codec, found: Vec<(Reply, Reply)>) -> Result<Self, Error> {
        let mut all = Self { members: Vec::new(), unreadable: Vec::new() };
        for (id, stored) in found {
            let Reply::Bytes(id) = id else { return Err(id.unexpected("a member").into()) };
            let id = id.to_vec();
            match read(codec, &stored) {
                Ok((joined_at, info)) => all.members.push(Member { id, info, joined_at }),
                Err(error) => all.unreadable.push(Unreadable { id, error }),
            }
        }
        all.members
            .sort_by(|one, other| (one.joined_at, &one.id).cmp(&(other.joined_at, &other.id)));
        Ok(all)
    }
}

/// Reads `milliseconds info`.
fn read<Info: DeserializeOwned>(codec: Codec, stored: &Reply) -> Result<(SystemTime, Info), Error> {
    let parted = match stored {
        Reply::Bytes(stored) => parted(stored),
        _ => None,
    };
    let Some((joined_at, info)) = parted else {
        return Err(Error::Undecodable(stored.unexpected("a member with the time of its joining")));
    };
    Ok((joined_at, codec.decode(info).map_err(Error::Undecodable)?))
}

fn parted(stored: &[u8]) -> Option<(SystemTime, &[u8])> {
    let at = stored.iter().position(|byte| *byte == b' ')?;
    let millis = std::str::from_utf8(&stored[..at]).ok()?.parse().ok()?;
    let joined_at = UNIX_EPOCH.checked_add(Duration::from_millis(millis))?;
    Some((joined_at, &stored[at + 1..]))
}

impl<Info> fmt::Debug for Members<Info> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Members");
        out.field("members", &self.members).field("unreadable", &self.unreadable).finish()
    }
}

impl<Info> fmt::Debug for Member<Info> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("joined_at", &self.joined_at).finish_non_exhaustive()
    }
}

impl fmt::Debug for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unreadable").field("error", &self.error).finish_non_exhaustive()
    }
}
