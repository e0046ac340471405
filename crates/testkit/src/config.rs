use std::{
    fmt::{self, Write as _},
    fs,
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::{Error, ServerBuilder, Version, ports::BUS};
#[cfg(feature = "tls")]
use crate::{Tls, TlsFiles};

/// What the server is part of.
#[derive(Clone, Debug, Default)]
pub(crate) enum Role {
    #[default]
    Standalone,
    /// A node of a cluster, announced at `announced` when a proxy stands before it.
    Node { announced: Option<u16> },
    /// A sentinel over the master on this port.
    Sentinel { master: u16 },
    /// A replica of the master on this port.
    Replica { master: u16 },
}

/// Where a server is to run, and what was settled about it.
pub(crate) struct Site<'a> {
    pub(crate) port: u16,
    pub(crate) version: Version,
    pub(crate) admin: Option<&'a Admin>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<&'a Tls>,
}

/// The user by whom this crate commands a server that has users.
pub(crate) struct Admin {
    pub(crate) name: &'static str,
    pub(crate) password: String,
}

impl Admin {
    pub(crate) fn new() -> Result<Self, Error> {
        let mut bytes = [0; 16];
        fs::File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut bytes))
            .map_err(Error::io("reading /dev/urandom"))?;
        Ok(Self {
            name: "redbrick-testkit",
            password: format!("{:032x}", u128::from_ne_bytes(bytes)),
        })
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ServerBuilder {
    /// Writes the server's configuration into `dir`; readable by this user only, for it holds passwords.
    pub(crate) fn write(&self, dir: &Path, site: &Site<'_>) -> Result<(), Error> {
        let text = self.text(dir, site)?;
        let path = dir.join(CONFIG);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(Error::io(format!("writing {}", path.display())))
    }

    fn text(&self, dir: &Path, site: &Site<'_>) -> Result<String, Error> {
        let mut lines = Lines::default();
        lines.add("bind", "127.0.0.1");
        lines.add("dir", path(dir)?);
        lines.add("unixsocket", path(&dir.join(SOCKET))?);
        #[cfg(feature = "tls")]
        let port = match site.tls {
            Some(tls) => encrypt(&mut lines, dir, site.port, tls)?,
            None => site.port,
        };
        #[cfg(not(feature = "tls"))]
        let port = site.port;
        lines.add("port", port);
        self.role.lines(&mut lines, site);
        self.access(&mut lines, site.admin)?;
        for (name, value) in &self.config {
            if name.is_empty() || name.contains(char::is_whitespace) || value.contains(BREAKS) {
                let reason =
                    "a name is one word and a value one line; call config() once for each line"
                        .into();
                return Err(Error::Config { what: format!("config({name:?}, …)"), reason });
            }
            lines.add(name, if value.is_empty() { "\"\"" } else { value });
        }
        Ok(lines.0)
    }

    fn access(&self, lines: &mut Lines, admin: Option<&Admin>) -> Result<(), Error> {
        if let Some(Admin { name, password }) = admin {
            lines.add("user", format_args!("{name} on >{password} ~* &* +@all"));
        }
        if let Some(password) = &self.password {
            lines.add("requirepass", quote("password", password)?);
        }
        if self.default_user_off {
            lines.add("user", "default off");
        }
        for (name, password, rules) in &self.users {
            let name = quote("the name of a user", name)?;
            let password = quote("the password of a user", &format!(">{password}"))?;
            let rules: Vec<_> = rules
                .split_whitespace()
                .map(|rule| quote("a rule", rule))
                .collect::<Result<_, _>>()?;
            // No channels but those of the rules: the default of 7.0, which 6.2 has not.
            lines.add(
                "user",
                format_args!("{name} on {password} resetchannels {}", rules.join(" ")),
            );
        }
        Ok(())
    }
}

impl Role {
    fn lines(&self, lines: &mut Lines, site: &Site<'_>) {
        let modern = site.version.covers_redis(7, 0);
        if let Self::Sentinel { master } = self {
            lines.add("sentinel", format_args!("monitor {SERVICE} 127.0.0.1 {master} 2"));
            // Three times the pace of pings, so that a busy machine is not taken for a dead master. Before 7.0 that
            // pace is a second, later it is set to 300 ms.
            let down_after = if modern { 1000 } else { 3000 };
            lines.add("sentinel", format_args!("down-after-milliseconds {SERVICE} {down_after}"));
            lines.add("sentinel", format_args!("failover-timeout {SERVICE} 1000"));
            lines.add("sentinel", format_args!("parallel-syncs {SERVICE} 1"));
            return;
        }
        lines.add("save", "\"\"");
        lines.add("appendonly", "no");
        // A replica is otherwise let wait for company for 5 s.
        lines.add("repl-diskless-sync-delay", 0);
        if modern {
            lines.add("enable-debug-command", "yes");
        }
        match self {
            Self::Standalone | Self::Sentinel { .. } => {}
            Self::Replica { master } => lines.add("replicaof", format_args!("127.0.0.1 {master}")),
            Self::Node { announced } => {
                lines.add("cluster-enabled", "yes");
                lines.add("cluster-config-file", "nodes.conf");
                lines.add("cluster-node-timeout", 2000);
                lines.add("cluster-replica-validity-factor", 0);
                lines.add("repl-diskless-load", "swapdb");
                if let Some(announced) = announced {
                    lines.add("cluster-announce-port", announced);
                    lines.add("cluster-announce-bus-port", site.port + BUS);
                }
            }
        }
    }
}

/// Gives the port to TLS; what is left for plain connections is none.
#[cfg(feature = "tls")]
fn encrypt(lines: &mut Lines, dir: &Path, port: u16, tls: &Tls) -> Result<u16, Error> {
    let TlsFiles { ca, server_cert, server_key, .. } = tls.write_to(dir)?;
    lines.add("tls-port", port);
    lines.add("tls-ca-cert-file", path(&ca)?);
    lines.add("tls-cert-file", path(&server_cert)?);
    lines.add("tls-key-file", path(&server_key)?);
    lines.add("tls-auth-clients", "optional");
    Ok(0)
}

/// A configuration file.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: impl fmt::Display) {
        // A String takes all that it is given.
        let _ = writeln!(self.0, "{name} {value}");
    }
}

fn path(path: &Path) -> Result<String, Error> {
    quote("a path", &path.display().to_string())
}

/// One word of a configuration file, whatever it holds.
fn quote(what: &str, word: &str) -> Result<String, Error> {
    if word.contains(BREAKS) {
        return Err(Error::Config {
            what: what.into(),
            reason: "holds a line break or a zero byte; leave it out".into(),
        });
    }
    Ok(format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// What would end a line before its time.
const BREAKS: [char; 3] = ['\n', '\r', '\0'];
/// What sentinels call the master that they watch.
pub(crate) const SERVICE: &str = "mymaster";
pub(crate) const CONFIG: &str = "server.conf";
pub(crate) const SOCKET: &str = "s";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Server};

    fn text(builder: &ServerBuilder) -> Result<String, Error> {
        let version = Version::from_numbers(Kind::Redis, "7.0.15").unwrap();
        let site = Site {
            port: 10_000,
            version,
            admin: None,
            #[cfg(feature = "tls")]
            tls: None,
        };
        builder.text(Path::new("/d"), &site)
    }

    #[test]
    fn quotes_what_users_are_called() {
        let builder =
            Server::builder().user("a\"b", "p w\\", "~a:* +get").config("maxmemory", "10mb");
        let text = text(&builder).unwrap();
        assert!(
            text.contains("user \"a\\\"b\" on \">p w\\\\\" resetchannels \"~a:*\" \"+get\"\n"),
            "{text}"
        );
        assert!(text.ends_with("maxmemory 10mb\n"), "{text}");
    }

    #[test]
    fn refuses_what_would_smuggle_in_a_line() {
        for builder in [
            Server::builder().config("maxmemory", "1\nappendonly yes"),
            Server::builder().config("two words", "1"),
            Server::builder().password("a\nb"),
            Server::builder().user("a", "b\r", ""),
        ] {
            assert!(matches!(text(&builder), Err(Error::Config { .. })));
        }
    }
}
