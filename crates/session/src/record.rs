//! The fields of a session in Redis. Each one has those that are words; the others have a letter and a colon before.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use redbrick_core_conn::{self as core_conn, Arg, Bytes, Codec, FromReply, Reply};
use serde::de::DeserializeOwned;

use crate::{Device, Error, Session, SessionId, SessionInfo, SessionKey};

pub(crate) const DATA: &str = "data";
const METADATA: &str = "m:";
const USER_AGENT: &str = "o:agent";
const IP: &str = "o:ip";
const ROLE: &str = "o:role";
const EMAIL: &str = "o:email";
/// What a session may lack, besides metadata.
pub(crate) const OPTIONAL: [&str; 4] = [USER_AGENT, IP, ROLE, EMAIL];

/// The field of an entry of the metadata.
pub(crate) fn metadata_field(key: &str) -> String {
    format!("{METADATA}{key}")
}

/// The fields that a session may lack.
pub(crate) fn optional(
    device: &Device,
    role: &Option<String>,
    email: &Option<String>,
    metadata: &BTreeMap<String, String>,
) -> Vec<(String, Arg)> {
    let known = [
        (USER_AGENT, device.user_agent.clone()),
        (IP, device.ip.map(|ip| ip.to_string())),
        (ROLE, role.clone()),
        (EMAIL, email.clone()),
    ];
    let known = known.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?)));
    let metadata = metadata.iter().map(|(key, value)| (metadata_field(key), value.clone()));
    known.chain(metadata).map(|(field, value)| (field, value.into())).collect()
}

/// A moment of the server's, from milliseconds since 1970.
pub(crate) fn time(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_millis(millis))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// All fields of a session, or none when there is no session.
#[derive(Default)]
pub(crate) struct Record(BTreeMap<String, Bytes>);

impl Record {
    pub(crate) fn new(fields: BTreeMap<String, Bytes>) -> Self {
        Self(fields)
    }

    pub(crate) fn session<D: DeserializeOwned>(
        self,
        id: SessionId,
        codec: Codec,
    ) -> Result<Option<Session<D>>, Error> {
        if !self.0.contains_key("user") {
            return Ok(None);
        }
        let user = self.text("user").ok_or_else(|| damaged("a user"))?;
        let moment = |field, name| self.number(field).map(time).ok_or_else(|| damaged(name));
        let data = self.0.get(DATA).ok_or_else(|| damaged("data"))?;
        Ok(Some(Session {
            id,
            created_at: moment("created", "a time of creation")?,
            last_seen: moment("seen", "a time of last use")?,
            expires_at: moment("ends", "an end")?,
            version: self.number("version").ok_or_else(|| damaged("a version"))?,
            device: self.device(),
            role: self.text(ROLE),
            email: self.text(EMAIL),
            metadata: self.metadata(),
            data: codec.decode(data).map_err(Error::Data)?,
            user,
        }))
    }

    pub(crate) fn info(&self, key: SessionKey) -> Option<SessionInfo> {
        self.0.get("user")?;
        let moment = |field| time(self.number(field).unwrap_or(0));
        Some(SessionInfo {
            key,
            device: self.device(),
            role: self.text(ROLE),
            email: self.text(EMAIL),
            metadata: self.metadata(),
            created_at: moment("created"),
            last_seen: moment("seen"),
            expires_at: moment("ends"),
        })
    }

    fn text(&self, field: &str) -> Option<String> {
        String::from_utf8(self.0.get(field)?.to_vec()).ok()
    }

    fn number(&self, field: &str) -> Option<u64> {
        self.text(field)?.parse().ok()
    }

    fn device(&self) -> Device {
        let ip = self.text(IP).and_then(|ip| ip.parse().ok());
        Device { user_agent: self.text(USER_AGENT), ip }
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        let behind = self.0.range(METADATA.to_owned()..);
        let fields = behind.map_while(|(field, _)| Some((field.strip_prefix(METADATA)?, field)));
        fields.filter_map(|(key, field)| Some((key.to_owned(), self.text(field)?))).collect()
    }
}

fn damaged(what: &str) -> Error {
    Error::Damaged(Reply::Nil.unexpected(what))
}

impl FromReply for Record {
    fn from_reply(reply: Reply) -> core_conn::Result<Self> {
        let Reply::List(parts) = reply else { return Err(reply.unexpected("a list of fields")) };
        let mut parts = parts.into_iter();
        let mut fields = BTreeMap::new();
        while let (Some(Reply::Bytes(field)), Some(Reply::Bytes(value))) =
            (parts.next(), parts.next())
        {
            // A field of another name is none of ours.
            if let Ok(field) = String::from_utf8(field.to_vec()) {
                fields.insert(field, Bytes::copy_from_slice(&value));
            }
        }
        Ok(Self(fields))
    }
}
