use std::fmt;

#[cfg(feature = "tls")]
use crate::Tls;
use crate::{Error, Server, config::Role, provision::Want};

/// Settings of a [`Server`] that is to be started.
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until start()"]
pub struct ServerBuilder {
    pub(crate) want: Want,
    pub(crate) config: Vec<(String, String)>,
    pub(crate) users: Vec<(String, String, String)>,
    pub(crate) default_user_off: bool,
    pub(crate) password: Option<String>,
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

impl ServerBuilder {
    /// Sets which server is wanted.
    ///
    /// Default: [`Want::Any`], which `REDIS_SERVER` can steer.
    pub fn want(mut self, want: Want) -> Self {
        self.want = want;
        self
    }

    /// Adds a line to the server's configuration, as `config("maxmemory", "10mb")`; later lines win, also over this
    /// crate's own, of which `port`, `dir` and `unixsocket` must stay as they are. The value is written as it is: quote
    /// words as in `redis.conf`. An empty one is written as `""`.
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

    /// Starts the server and waits until it answers: milliseconds, or as long as it takes to get one on the first use
    /// on a machine (a few seconds, told on stderr).
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

#[cfg(test)]
mod tests {
    use super::*;

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
