use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process,
};

use rustix::fs::{FlockOperation, flock};

use super::{Want, path::probe};
use crate::{Version, unique::random};

/// Looks for what an earlier run fetched.
pub(super) fn find(want: Want, _: &mut dyn FnMut(&str)) -> Result<(PathBuf, Version), String> {
    let base = base()?;
    // What was fetched for a version will do for any, but for the one that lacks TLS; the other way round only if it
    // happens to be that version.
    let places = [want, Want::Any, Want::Redis7_0, Want::Redis8, Want::Valkey8, Want::Valkey9];
    places
        .into_iter()
        .find_map(|place| look_into(&base.join(place.to_string()), want))
        .ok_or_else(|| format!("nothing in {}", base.display()))
}

/// Has `fetch` put a server into an empty directory and keeps it under the name of what is wanted.
///
/// `fetch` leaves a program that can be moved with its directory and is called like the server.
pub(super) fn keep(
    want: Want,
    progress: &mut dyn FnMut(&str),
    fetch: impl FnOnce(&Path, &mut dyn FnMut(&str)) -> Result<(), String>,
) -> Result<(PathBuf, Version), String> {
    let base = base()?;
    let fail = |what: &str, path: &Path| {
        let path = path.display().to_string();
        let what = what.to_owned();
        move |err| format!("{what} {path}: {err}")
    };
    fs::create_dir_all(&base).map_err(fail("creating", &base))?;
    // One process fetches, the others wait for it: the lock goes with its holder, however that ends.
    let lock = base.join(format!(".lock-{want}"));
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock)
        .map_err(fail("opening", &lock))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        progress(&format!("another process is fetching {want}; waiting for it"));
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|err| format!("waiting for another process: {err}"))?;
    }
    let place = base.join(want.to_string());
    if let Some(found) = look_into(&place, want) {
        return Ok(found);
    }

    // Left by processes that were killed: nobody else drafts this one while the lock is held.
    let left = format!(".draft-{want}-");
    for entry in fs::read_dir(&base).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&left) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    // Fetched beside and renamed, so that a half of it is never taken for a server.
    let draft = base.join(format!(".draft-{want}-{}-{:08x}", process::id(), random() >> 32));
    fs::create_dir(&draft).map_err(fail("creating", &draft))?;
    let kept = fetch(&draft, progress).and_then(|()| {
        look_into(&draft, want).ok_or_else(|| format!("what was fetched is no {want}"))?;
        // What is there does not run or is another version: it was looked at above.
        if place.exists() {
            fs::remove_dir_all(&place).map_err(fail("removing the useless", &place))?;
        }
        fs::rename(&draft, &place).map_err(fail("moving into place", &place))
    });
    if kept.is_err() {
        let _ = fs::remove_dir_all(&draft);
    }
    kept?;
    look_into(&place, want).ok_or_else(|| format!("{} was removed meanwhile", place.display()))
}

fn look_into(dir: &Path, want: Want) -> Option<(PathBuf, Version)> {
    ["redis-server", "valkey-server"].iter().find_map(|name| {
        let program = dir.join(name);
        let version = program.is_file().then(|| probe(&program).ok())??;
        want.accepts(&version).then_some((program, version))
    })
}

/// `redbrick-servers` in cargo's target directory, or else in the user's cache directory.
fn base() -> Result<PathBuf, String> {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let target = target.or_else(|| {
        // Cargo puts this mark into each target directory; test binaries and cargo's own children live below it.
        let exe = env::current_exe().ok()?;
        exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file()).map(Path::to_owned)
    });
    let target = target.or_else(|| {
        // Documentation tests run from a temporary directory.
        let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
        manifest
            .ancestors()
            .map(|dir| dir.join("target"))
            .find(|dir| dir.join("CACHEDIR.TAG").is_file())
    });
    let cache = target.or_else(|| {
        let home = || env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        if cfg!(target_os = "macos") {
            return home().map(|home| home.join("Library/Caches"));
        }
        let named =
            env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
        named.or_else(|| home().map(|home| home.join(".cache")))
    });
    cache
        .map(|dir| dir.join("redbrick-servers"))
        .ok_or_else(|| "no place to keep one: neither a cargo target directory nor HOME".into())
}
