use std::{ffi::OsString, fs, sync::Mutex};

use crate::{
    Error, Reply, Server, ServerBuilder,
    config::{Admin, CONFIG, Role, SOCKET, Site},
    ports::Port,
    process::{self, Process},
    provision::{self, Found},
    wait::{PATIENCE, poll},
};

impl Server {
    pub(crate) fn launch(builder: &ServerBuilder) -> Result<Self, Error> {
        let found = provision::for_tests(builder.want)?;
        Port::with(|port| Self::launch_on(port, &found, builder))
    }

    /// `None` when somebody else took the port first.
    pub(crate) fn launch_on(
        port: Port,
        found: &Found,
        builder: &ServerBuilder,
    ) -> Result<Option<Self>, Error> {
        #[cfg(feature = "tls")]
        let tls = builder.make_tls()?;
        let admin = builder.has_users().then(Admin::new).transpose()?;
        let site = Site {
            port: port.number(),
            version: found.version,
            admin: admin.as_ref(),
            #[cfg(feature = "tls")]
            tls: tls.as_ref(),
        };
        let dir = process::private_dir()?;
        if let Err(err) = builder.write(&dir, &site) {
            // Nobody watches over the directory yet.
            let _ = fs::remove_dir_all(&dir);
            return Err(err);
        }
        let mut command: Vec<OsString> = vec![found.path.clone().into(), dir.join(CONFIG).into()];
        if matches!(builder.role, Role::Sentinel { .. }) {
            command.push("--sentinel".into());
        }
        let socket = dir.join(SOCKET);
        let process = Process::start(dir, &command)?;
        let server = Self {
            process,
            port,
            found: found.clone(),
            socket,
            admin,
            ledger: Mutex::default(),
            turn: Mutex::default(),
            #[cfg(feature = "tls")]
            tls,
        };
        Ok(match server.await_ready(0)? {
            Readiness::Ready => Some(server),
            Readiness::PortTaken => None,
        })
    }

    /// Waits until the server answers a PING, or has ended; `written` is how much of its output is older.
    pub(crate) fn await_ready(&self, written: usize) -> Result<Readiness, Error> {
        let ready = poll(PATIENCE, || {
            if !self.process.is_running() {
                let output = self.process.output();
                return self.failed_start(output.get(written..).unwrap_or_default()).map(Some);
            }
            // While it loads its data it refuses, and before that nobody listens. What it counted meanwhile (commands
            // of an append-only file, or of its own) is forgotten; a sentinel does not know how, and need not.
            let asked = [&["PING"][..], &["CONFIG", "RESETSTAT"]];
            let pong = self
                .exchange(&asked)
                .is_ok_and(|replies| replies.first().and_then(Reply::as_str) == Some("PONG"));
            Ok(pong.then_some(Readiness::Ready))
        })?;
        ready
            .ok_or_else(|| Error::timeout(format!("the start of {}", self.found.version), PATIENCE))
    }

    fn failed_start(&self, output: &str) -> Result<Readiness, Error> {
        if output.contains("ddress already in use") {
            return Ok(Readiness::PortTaken);
        }
        if output.contains(">>> 'tls-port") {
            return Err(Error::NoTls { version: self.found.version });
        }
        let lines: Vec<_> =
            output.lines().filter(|line| !line.trim().is_empty()).map(without_secret).collect();
        let tail = &lines[lines.len().saturating_sub(6)..];
        Err(Error::Start { version: self.found.version, output: tail.join(" / ") })
    }
}

/// What became of a start.
pub(crate) enum Readiness {
    Ready,
    PortTaken,
}

/// A line of a server's complaint about its configuration, which it quotes, passwords and all.
fn without_secret(line: &str) -> &str {
    let secret = ["user ", "requirepass ", "masterauth ", "primaryauth ", "tls-key-file-pass "];
    let quoted = line.strip_prefix(">>> '").unwrap_or_default();
    match secret.iter().find(|name| quoted.starts_with(**name)) {
        Some(name) => &line[..">>> '".len() + name.len() - 1],
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_shows_no_password() {
        assert_eq!(without_secret(">>> 'user app on >pw +@al'"), ">>> 'user");
        assert_eq!(without_secret(">>> 'requirepass a b'"), ">>> 'requirepass");
        assert_eq!(without_secret(">>> 'maxmemory lots'"), ">>> 'maxmemory lots'");
    }
}
