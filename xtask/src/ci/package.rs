//! Packages as users will get them.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use xshell::cmd;

use super::{Context, Outcome, Step};
use crate::{
    failure::{Failure, OrFail as _},
    project::Package,
};

pub(super) const STEP: Step = Step {
    name: "package",
    promise: "each published crate packs, builds from its pack and holds its papers",
    full: false,
    run,
};

/// Files that a user of a crate expects to find in it.
const PAPERS: [&str; 3] = ["README.md", "CHANGELOG.md", "LICENSE"];

fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    let Context { shell, .. } = context;
    let published: Vec<_> =
        context.project.packages()?.into_iter().filter(|package| package.published).collect();

    for package in &published {
        let name = &package.name;
        let list =
            cmd!(shell, "cargo package --list --allow-dirty --package {name}").quiet().read()?;
        for paper in PAPERS {
            if !list.lines().any(|line| line == paper) {
                return Err(Failure::new(format!("the package of {name} holds no {paper}")));
            }
        }
    }

    let target = context.project.root().join("target").join("packages");
    forget_builds(&published, &target)?;
    // All at once, so that cargo builds those that depend on each other from their packs and asks no registry for them.
    let packages = published.iter().flat_map(|package| ["--package", &package.name]);
    cmd!(shell, "cargo package --allow-dirty --target-dir {target} {packages...}")
        .run()
        .or_fail("a crate does not build from its package; cargo's message is above")?;
    Ok(Outcome::Passed)
}

/// Removes what cargo has unpacked and built of our packages before. While the version stays the same, it would take
/// that for the packages of today.
fn forget_builds(published: &[Package], target: &Path) -> Result<(), Failure> {
    let mut folders = vec![target.join("debug").join(".fingerprint")];
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    if let Some(home) = home.or_else(|| Some(env::home_dir()?.join(".cargo"))) {
        let registries = entries(&home.join("registry").join("src"))?;
        // Those of local registries have no name of their own before the dash.
        folders.extend(registries.into_iter().filter(|registry| begins(registry, "-")));
    }
    for folder in folders {
        for entry in entries(&folder)? {
            if published.iter().any(|package| begins(&entry, &format!("{}-", package.name))) {
                fs::remove_dir_all(entry)?;
            }
        }
    }
    Ok(())
}

fn begins(path: &Path, with: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(with))
}

/// What a folder holds; nothing when there is none.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(err) => Err(err),
    }
}
