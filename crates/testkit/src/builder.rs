use std::{fmt, fmt::Write as _, fs, io::Read, os::unix::fs::OpenOptionsExt, path::Path};

use crate::{Error, Server, Version, ports::BUS, provision::Want};
#[cfg(feature = "tls")]
use crate::{Tls, TlsFiles};

/// Settings of a [`Server`] that is to be started.
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until start()"]
pub struct ServerBuilder {
    pub(crate) want: Want,
    config: Vec<(String, String)>,
    users: Vec<(String, String, String)>,
    default_user_off: bool,
    password: Option<String>,
    pub(crate) role: Role,
    #[cfg(feature = "tls")]
    tls: Encryption,
}

#[cfg(feature = "tls")]
#[derive(Clone, Default)]
enum Encryption {
    #[default]
    None,
    Fresh,
    Given(Box<Tls>),
}

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

impl ServerBuilder {
    /// Sets which server is wanted.
    ///
    /// Default: [`Want::Any`], which `REDIS_SERVER` can steer.
    pub fn want(mut self, want: Want) -> Self {
        self.want = want;
        self
    }

    /// Adds a line to the server's configuration, as `config("maxmemory", "10mb")`; later lines win, also over this
    /// crate's own. The value is written as it is: quote words as in `redis.conf`.
    ///
    /// Default: no line but those that [`Server`] names.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.push((name.into(), value.into()));
        self
    }

    /// Adds an ACL user that is on, with its password and its rules in the words of `ACL SETUSER`:
    /// `user("app", "secret", "~app:* &app:* +@all")`. The user begins with no right, on keys, channels or commands.
    ///
    /// Default: no user but `default`.
    pub fn user(
        mut self,
        name: impl Into<String>,
        password: impl Into<String>,
        rules: impl Into<String>,
    ) -> Self {
        self.users.push((name.into(), password.into(), rules.into()));
        self
    }

    /// Switches the user `default` off, so that nothing goes without a name and a password.
    ///
    /// Default: `default` is on.
    pub fn default_user_off(mut self) -> Self {
        self.default_user_off = true;
        self
    }

    /// Sets the password of the user `default` (`requirepass`).
    ///
    /// Default: none.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Makes the TCP port speak TLS, and nothing but TLS, with certificates made for this server; clients may show a
    /// certificate but need not. To demand one, add `config("tls-auth-clients", "yes")`.
    ///
    /// Default: no TLS.
    #[cfg(feature = "tls")]
    pub fn tls(mut self) -> Self {
        self.tls = Encryption::Fresh;
        self
    }

    /// Makes the TCP port speak TLS with these certificates, which several servers may share.
    ///
    /// Default: no TLS.
    #[cfg(feature = "tls")]
    pub fn tls_with(mut self, tls: Tls) -> Self {
        self.tls = Encryption::Given(Box::new(tls));
        self
    }

    /// Starts the server and waits until it answers: some 10 ms, or as long as it takes to get one on the first use on
    /// a machine (a few seconds, told on stderr).
    ///
    /// # Errors
    ///
    /// [`Error::NoServer`] and [`Error::BadServerVariable`] when none can be had, [`Error::Start`] when it refuses a
    /// setting, [`Error::Config`] when a setting cannot be written, [`Error::NoTls`], [`Error::Timeout`] when it does
    /// not answer within 30 s, [`Error::Io`]. No process and no directory is left then.
    pub fn start(self) -> Result<Server, Error> {
        Server::launch(&self)
    }

    /// The certificates to use, made now when none were given.
    #[cfg(feature = "tls")]
    pub(crate) fn make_tls(&self) -> Result<Option<Tls>, Error> {
        match &self.tls {
            Encryption::None => Ok(None),
            Encryption::Fresh => Tls::generate().map(Some),
            Encryption::Given(tls) => Ok(Some(Tls::clone(tls))),
        }
    }

    pub(crate) fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Whether commands need the administrator's name and password.
    pub(crate) fn has_users(&self) -> bool {
        self.default_user_off || self.password.is_some() || !self.users.is_empty()
    }

    /// Writes the server's configuration into `dir`; readable by this user only, for it holds passwords.
    pub(crate) fn write(&self, dir: &Path, site: &Site<'_>) -> Result<(), Error> {
        let text = self.text(dir, site)?;
        let path = dir.join(CONFIG);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| io_write(&mut file, &text))
            .map_err(Error::io(format!("writing {}", path.display())))
    }

    fn text(&self, dir: &Path, site: &Site<'_>) -> Result<String, Error> {
        let Site { port, version, admin, .. } = *site;
        let mut out = String::new();
        let mut line =
            |name: &str, value: &str| writeln!(out, "{name} {value}").unwrap_or_default();
        let path = |path: &Path| quote("a path", &path.display().to_string());

        line("bind", "127.0.0.1");
        line("dir", &path(dir)?);
        line("unixsocket", &path(&dir.join(SOCKET))?);
        #[cfg(feature = "tls")]
        let files = site.tls.map(|tls| tls.write_to(dir)).transpose()?;
        #[cfg(not(feature = "tls"))]
        let files: Option<std::convert::Infallible> = None;
        line("port", &if files.is_some() { 0 } else { port }.to_string());
        #[cfg(feature = "tls")]
        if let Some(TlsFiles { ca, server_cert, server_key, .. }) = files {
            line("tls-port", &port.to_string());
            line("tls-ca-cert-file", &path(&ca)?);
            line("tls-cert-file", &path(&server_cert)?);
            line("tls-key-file", &path(&server_key)?);
            line("tls-auth-clients", "optional");
        }

        if let Role::Sentinel { master } = self.role {
            line("sentinel", &format!("monitor {SERVICE} 127.0.0.1 {master} 2"));
            // Three times the pace of pings, so that a busy machine is not taken for a dead master. Before 7.0 that
            // pace is a second, later it is set to 300 ms.
            let down_after = if version.covers_redis(7, 0) { 1000 } else { 3000 };
            line("sentinel", &format!("down-after-milliseconds {SERVICE} {down_after}"));
            line("sentinel", &format!("failover-timeout {SERVICE} 1000"));
            line("sentinel", &format!("parallel-syncs {SERVICE} 1"));
        } else {
            line("save", "\"\"");
            line("appendonly", "no");
            // A replica is otherwise let wait for company for 5 s.
            line("repl-diskless-sync-delay", "0");
            if version.covers_redis(7, 0) {
                line("enable-debug-command", "yes");
            }
        }
        match self.role {
            Role::Standalone | Role::Sentinel { .. } => {}
            Role::Replica { master } => {
                line("replicaof", &format!("127.0.0.1 {master}"));
            }
            Role::Node { announced } => {
                line("cluster-enabled", "yes");
                line("cluster-config-file", "nodes.conf");
                line("cluster-node-timeout", "2000");
                line("cluster-replica-validity-factor", "0");
                line("repl-diskless-load", "swapdb");
                if let Some(announced) = announced {
                    line("cluster-announce-port", &announced.to_string());
                    line("cluster-announce-bus-port", &(port + BUS).to_string());
                }
            }
        }

        if let Some(Admin { name, password }) = admin {
            line("user", &format!("{name} on >{password} ~* &* +@all"));
        }
        if let Some(password) = &self.password {
            line("requirepass", &quote("password", password)?);
        }
        if self.default_user_off {
            line("user", "default off");
        }
        for (name, password, rules) in &self.users {
            let name = quote("the name of a user", name)?;
            let password = quote("the password of a user", &format!(">{password}"))?;
            let rules: Vec<_> = rules
                .split_whitespace()
                .map(|rule| quote("a rule", rule))
                .collect::<Result<_, _>>()?;
            // No channels but those of the rules: the default of 7.0, which 6.2 has not.
            line("user", &format!("{name} on {password} resetchannels {}", rules.join(" ")));
        }
        for (name, value) in &self.config {
            if name.is_empty()
                || name.contains(char::is_whitespace)
                || value.contains(['\n', '\r', '\0'])
            {
                let reason =
                    "a name is one word and a value one line; call config() once for each line"
                        .into();
                return Err(Error::Config { what: format!("config({name:?}, …)"), reason });
            }
            line(name, if value.is_empty() { "\"\"" } else { value });
        }
        Ok(out)
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Passwords and the values of settings, which may hold some, stay out.
        let users: Vec<_> = self.users.iter().map(|(name, ..)| name).collect();
        let config: Vec<_> = self.config.iter().map(|(name, _)| name).collect();
        f.debug_struct("ServerBuilder")
            .field("want", &self.want)
            .field("config", &config)
            .field("users", &users)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
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

/// One word of a configuration file, whatever it holds.
fn quote(what: &str, word: &str) -> Result<String, Error> {
    if word.contains(['\n', '\r', '\0']) {
        return Err(Error::Config {
            what: what.into(),
            reason: "holds a line break or a zero byte; leave it out".into(),
        });
    }
    Ok(format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")))
}

fn io_write(file: &mut fs::File, text: &str) -> std::io::Result<()> {
    std::io::Write::write_all(file, text.as_bytes())
}

/// What sentinels call the master that they watch.
pub(crate) const SERVICE: &str = "mymaster";
pub(crate) const CONFIG: &str = "server.conf";
pub(crate) const SOCKET: &str = "s";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

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

    #[test]
    fn debug_shows_no_secret() {
        let builder = Server::builder()
            .user("app", "pw1", "+@all")
            .password("pw2")
            .config("masterauth", "pw3");
        let text = format!("{builder:?}");
        assert!(text.contains("app") && !text.contains("pw"), "{text}");
    }
}
