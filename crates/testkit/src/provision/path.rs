use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Want, run::run};
use crate::Version;

/// Looks for an installed server.
pub(super) fn find(want: Want, _: &mut dyn FnMut(&str)) -> Result<(PathBuf, Version), String> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Homebrew's folders are not on everybody's PATH.
    let more = ["/opt/homebrew/bin", "/usr/local/bin", "/home/linuxbrew/.linuxbrew/bin"];
    let mut others = Vec::new();
    for dir in env::split_paths(&path).chain(more.map(PathBuf::from)) {
        for name in ["redis-server", "valkey-server"] {
            let program = dir.join(name);
            if !program.is_file() || others.iter().any(|(known, _)| *known == program) {
                continue;
            }
            match probe(&program) {
                Ok(version) if want.accepts(&version) => return Ok((program, version)),
                Ok(version) => others.push((program, version.to_string())),
                Err(reason) => others.push((program, reason)),
            }
        }
    }
    if others.is_empty() {
        return Err("neither redis-server nor valkey-server is installed".into());
    }
    let others: Vec<_> =
        others.iter().map(|(path, what)| format!("{} ({what})", path.display())).collect();
    Err(format!("found only {}", others.join(", ")))
}

/// Asks a program which server it is.
pub(super) fn probe(program: &Path) -> Result<Version, String> {
    let said = run(Command::new(program).arg("--version"))?;
    Version::parse(&said)
        .ok_or_else(|| format!("{} --version gives no version of a server", program.display()))
}
