use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::{Host, ParseError, Url};

use super::{
    DEFAULT_HOST, DEFAULT_PORT, DEFAULT_SENTINEL_PORT, Endpoint, Node, SentinelConfig,
    node::is_host,
};
use crate::{Error, Result, Secret};

/// What a URL says; `None` where it says nothing.
#[derive(Debug, Default)]
pub(super) struct UrlParts {
    pub(super) tls: bool,
    /// Where the server is, unless it is a single one over TCP.
    pub(super) endpoint: Option<Endpoint>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) database: Option<u8>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Single,
    Cluster,
    Sentinel,
    Unix,
}

/// What the query of a URL says.
#[derive(Debug, Default)]
struct Query {
    nodes: Vec<String>,
    service: Option<String>,
    sentinel_username: Option<String>,
    sentinel_password: Option<String>,
    database: Option<String>,
}

/// Reads `text`; `name` is what the error calls it. The text itself is never shown: it may hold a
/// password.
pub(super) fn read(text: &str, name: &str) -> Result<UrlParts> {
    let wrong = |what: &str| Error::config(format!("{name}: {what}"));
    let url = Url::parse(text.trim()).map_err(|err| {
        if err == ParseError::InvalidPort {
            let hint = if text.contains(',') {
                "; further nodes are written `?node=host:port`"
            } else {
                ""
            };
            return wrong(&format!("expected a port from 1 to 65535{hint}")).with_source(err);
        }
        wrong("not a URL; expected something like `redis://localhost:6379/0`").with_source(err)
    })?;

    let (form, tls) = scheme(url.scheme()).ok_or_else(|| {
        wrong(
            "unknown scheme; expected something like `redis://localhost:6379/0`, with redis, rediss, valkey or \
             valkeys, each also with -cluster or -sentinel, or unix, redis+unix, valkey+unix",
        )
    })?;
    if url.fragment().is_some() {
        return Err(wrong("a `#` must be written `%23` in a user name or password"));
    }
    let mut parts = UrlParts { tls, ..UrlParts::default() };
    parts.username =
        Some(decode(url.username(), "the user name", name)?).filter(|user| !user.is_empty());
    if let Some(password) = url.password().filter(|password| !password.is_empty()) {
        parts.password = Some(decode(password, "the password", name)?.into());
    }

    let query = query(&url, form).map_err(|what| wrong(&what))?;
    if form == Form::Unix {
        parts.endpoint = Some(Endpoint::Unix(socket(&url, name)?));
        parts.database = query.database.map(|text| database(&text, name)).transpose()?;
        return Ok(parts);
    }

    parts.host = host(&url, name)?;
    parts.port = url.port();
    if parts.port == Some(0) {
        return Err(wrong("expected a port from 1 to 65535"));
    }
    let path = url.path().trim_matches('/');
    if !path.is_empty() {
        parts.database = Some(database(path, name)?);
    }

    let default_port = if form == Form::Sentinel { DEFAULT_SENTINEL_PORT } else { DEFAULT_PORT };
    let first = Node::new(
        parts.host.as_deref().unwrap_or(DEFAULT_HOST),
        parts.port.unwrap_or(default_port),
    );
    let nodes = std::iter::once(first.to_string()).chain(query.nodes);
    parts.endpoint = match form {
        Form::Cluster => {
            let nodes = nodes.map(|node| Node::parse(&node, DEFAULT_PORT, name));
            Some(Endpoint::Cluster(nodes.collect::<Result<_>>()?))
        }
        Form::Sentinel => {
            let mut sentinel = SentinelConfig::new(query.service.unwrap_or_default(), nodes);
            if let Some(username) = query.sentinel_username {
                sentinel = sentinel.username(username);
            }
            if let Some(password) = query.sentinel_password {
                sentinel = sentinel.password(password);
            }
            Some(sentinel.endpoint(name)?)
        }
        Form::Single | Form::Unix => None,
    };
    Ok(parts)
}

/// Reads the parameters that `form` takes. Neither names nor values are shown: a password with a bare `?`
/// in it ends up here.
fn query(url: &Url, form: Form) -> Result<Query, String> {
    let mut query = Query::default();
    for (key, value) in url.query_pairs() {
        let place = match (form, key.as_ref()) {
            (Form::Cluster | Form::Sentinel, "node") => {
                query.nodes.push(value.into_owned());
                continue;
            }
            (Form::Sentinel, "service" | "sentinelServiceName") => &mut query.service,
            (Form::Sentinel, "sentinelUsername") => &mut query.sentinel_username,
            (Form::Sentinel, "sentinelPassword") => &mut query.sentinel_password,
            (Form::Unix, "db") => &mut query.database,
            _ => {
                let known = match form {
                    Form::Single => {
                        "this form takes none; the database is written `/2` after the host"
                    }
                    Form::Cluster => "this form takes `node`",
                    Form::Sentinel => {
                        "this form takes `service`, `node`, `sentinelUsername` and `sentinelPassword`"
                    }
                    Form::Unix => "this form takes `db`",
                };
                return Err(format!("unknown parameter; {known}"));
            }
        };
        if place.replace(value.into_owned()).is_some() {
            return Err("a parameter is given twice".to_owned());
        }
    }
    Ok(query)
}

fn socket(url: &Url, name: &str) -> Result<PathBuf> {
    let wrong = |what: &str| Error::config(format!("{name}: {what}"));
    if url.host().is_some_and(|host| !host.to_string().is_empty()) {
        return Err(wrong("expected three slashes, as in `unix:///run/redis.sock`"));
    }
    let path = decode(url.path(), "the path", name)?;
    if path.len() < 2 {
        return Err(wrong("expected a path, as in `unix:///run/redis.sock`"));
    }
    Ok(path.into())
}

fn host(url: &Url, name: &str) -> Result<Option<String>> {
    let host = match url.host() {
        None | Some(Host::Domain("")) => return Ok(None),
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) => decode(&host.to_string(), "the host", name)?,
    };
    if is_host(&host) {
        Ok(Some(host))
    } else {
        Err(Error::config(format!("{name}: the host is neither a name nor an address")))
    }
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
