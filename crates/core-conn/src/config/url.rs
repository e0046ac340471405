use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::{DEFAULT_SENTINEL_PORT, Node, node::is_host};
use crate::{Error, Result, Secret};

/// What a URL says; `None` and empty where it says nothing.
#[derive(Debug, Default)]
pub(super) struct UrlParts {
    pub(super) form: Form,
    pub(super) tls: bool,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) nodes: Vec<Node>,
    pub(super) socket: Option<PathBuf>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) database: Option<u8>,
    pub(super) service: Option<String>,
    pub(super) sentinel_username: Option<String>,
    pub(super) sentinel_password: Option<Secret>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Form {
    #[default]
    Single,
    Cluster,
    Sentinel,
    Unix,
}

/// Reads `text`; `name` is what the error calls it. The text itself is never shown: it may hold a
/// password.
pub(super) fn read(text: &str, name: &str) -> Result<UrlParts> {
    let wrong = |what: &str| Error::config(format!("{name}: {what}"));
    let url = Url::parse(text.trim()).map_err(|err| {
        wrong("not a URL; expected something like `redis://localhost:6379/0`").with_source(err)
    })?;

    let (form, tls) = scheme(url.scheme()).ok_or_else(|| {
        wrong(
            "unknown scheme; expected redis, rediss, valkey or valkeys, each also with -cluster or -sentinel, \
             or unix, redis+unix, valkey+unix",
        )
    })?;
    let mut parts = UrlParts { form, tls, ..UrlParts::default() };

    parts.username =
        Some(decode(url.username(), "the user name", name)?).filter(|user| !user.is_empty());
    if let Some(password) = url.password().filter(|password| !password.is_empty()) {
        parts.password = Some(decode(password, "the password", name)?.into());
    }
    if url.fragment().is_some() {
        return Err(wrong("a `#` must be written `%23` in a user name or password"));
    }

    if form == Form::Unix {
        if url.host().is_some_and(|host| !host.to_string().is_empty()) {
            return Err(wrong("expected three slashes, as in `unix:///run/redis.sock`"));
        }
        let path = decode(url.path(), "the path", name)?;
        if path.len() < 2 {
            return Err(wrong("expected a path, as in `unix:///run/redis.sock`"));
        }
        parts.socket = Some(path.into());
    } else {
        parts.host = match url.host() {
            None => None,
            Some(Host::Domain("")) => None,
            Some(Host::Ipv6(address)) => Some(address.to_string()),
            Some(host) => Some(decode(&host.to_string(), "the host", name)?),
        };
        if parts.host.as_deref().is_some_and(|host| !is_host(host)) {
            return Err(wrong("the host is neither a name nor an address"));
        }
        parts.port = url.port();
        if parts.port == Some(0) {
            return Err(wrong("expected a port from 1 to 65535"));
        }
        let path = url.path().trim_start_matches('/').trim_end_matches('/');
        if !path.is_empty() {
            parts.database = Some(database(path, name)?);
        }
    }

    for (key, value) in url.query_pairs() {
        match (form, key.as_ref()) {
            (Form::Cluster, "node") => {
                parts.nodes.push(Node::parse(&value, super::DEFAULT_PORT, name)?);
            }
            (Form::Sentinel, "node") => {
                parts.nodes.push(Node::parse(&value, DEFAULT_SENTINEL_PORT, name)?);
            }
            (Form::Sentinel, "service" | "sentinelServiceName") => {
                parts.service = Some(value.into_owned());
            }
            (Form::Sentinel, "sentinelUsername") => {
                parts.sentinel_username = Some(value.into_owned());
            }
            (Form::Sentinel, "sentinelPassword") => {
                parts.sentinel_password = Some(value.into_owned().into());
            }
            (Form::Unix, "db") => parts.database = Some(database(&value, name)?),
            _ => {
                let known = match form {
                    Form::Single => "this form takes none",
                    Form::Cluster => "this form takes `node`",
                    Form::Sentinel => {
                        "this form takes `service`, `node`, `sentinelUsername` and `sentinelPassword`"
                    }
                    Form::Unix => "this form takes `db`",
                };
                // The key is not shown either: a password with a bare `?` in it ends up here.
                return Err(wrong(&format!("unknown parameter; {known}")));
            }
        }
    }
    Ok(parts)
}

fn scheme(scheme: &str) -> Option<(Form, bool)> {
    if matches!(scheme, "unix" | "redis+unix" | "valkey+unix") {
        return Some((Form::Unix, false));
    }
    let (brand, form) = match scheme.split_once('-') {
        None => (scheme, Form::Single),
        Some((brand, "cluster")) => (brand, Form::Cluster),
        Some((brand, "sentinel")) => (brand, Form::Sentinel),
        Some(_) => return None,
    };
    match brand {
        "redis" | "valkey" => Some((form, false)),
        "rediss" | "valkeys" => Some((form, true)),
        _ => None,
    }
}

fn decode(text: &str, what: &str, name: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|err| {
        Error::config(format!("{name}: {what} is not UTF-8 after percent-decoding"))
            .with_source(err)
    })
}

fn database(text: &str, name: &str) -> Result<u8> {
    text.parse().map_err(|err| {
        Error::config(format!("{name}: expected a database number from 0 to 255 after the host"))
            .with_source(err)
    })
}
