//! `cargo xtask test`: every test of every crate, in its short form.

use std::{io, process::Command};

use redbrick_testkit::provision::Want;

use crate::{failure::Failure, project::Project, runner, server};

pub(crate) const REPEAT: &str = "cargo xtask test";

/// Unit, integration and documentation tests with all features; the last line printed is `N passed, N failed`.
pub(crate) fn run(project: &Project) -> Result<(), Failure> {
    let found = server::get(Want::Any)?;
    let mut command = Command::new("cargo");
    command
        .args(["test", "--workspace", "--all-features", "--no-fail-fast"])
        .env("REDIS_SERVER", &found.path)
        .current_dir(project.root());
    let outcome = runner::stream(command, &mut io::stdout().lock())?;

    // The complaint goes out first, so that the sum is the last line whatever happened.
    let mut failure = outcome.failure(REPEAT);
    if let Some(failure) = &mut failure {
        failure.tell();
    }
    println!("\n{}", outcome.tally);
    failure.map_or(Ok(()), Err)
}
