//! The oldest versions of dependencies that the manifests allow.

use std::{fs, path::Path};

use xshell::cmd;

use super::{Context, Outcome, Step};
use crate::failure::{Failure, OrFail as _};

pub(super) const STEP: Step = Step {
    name: "minimal",
    promise: "the crates build with the oldest dependencies they allow",
    full: true,
    run,
};

/// Works on a copy, because choosing versions rewrites the lock file.
fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    let Context { shell, .. } = context;
    context.with_toolchain("nightly", || {
        let copy = context.target_dir("minimal").join("copy");
        let target = context.target_dir("minimal").join("target");
        if copy.exists() {
            fs::remove_dir_all(&copy)?;
        }
        context.project.copy_to(&copy)?;
        only_published(&copy.join("Cargo.toml"))?;
        let _inside = shell.push_dir(&copy);
        cmd!(shell, "rustup run nightly cargo update --quiet -Z direct-minimal-versions")
            .run()
            .or_fail(
                "the oldest direct dependencies contradict each other; raise the one named above",
            )?;
        cmd!(shell, "cargo check --workspace --all-features")
            .env("CARGO_TARGET_DIR", &target)
            .run()
            .or_fail("a dependency's oldest allowed version is too old; raise it in Cargo.toml")?;
        Ok(Outcome::Passed)
    })
}

/// What is not published promises nothing, and what it needs would raise the versions of those that do.
fn only_published(manifest: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(manifest)?;
    let member = |line: &str| {
        if line.starts_with("members = ") { "members = [\"crates/*\"]" } else { line }.to_owned()
    };
    fs::write(manifest, text.lines().map(member).collect::<Vec<_>>().join("\n"))?;
    Ok(())
}
