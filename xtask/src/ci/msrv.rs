//! The oldest toolchain that the crates promise to build with.

use xshell::cmd;

use super::{Context, Outcome, Step};
use crate::failure::{Failure, OrFail as _};

pub(super) const STEP: Step = Step {
    name: "msrv",
    promise: "everything builds and passes with the declared rust-version",
    full: true,
    run,
};

fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    let Context { shell, .. } = context;
    let version = context.project.rust_version()?;
    context.with_toolchain(&version, || {
        // The build artifacts of two compilers do not mix; a folder of its own spares both a full rebuild.
        let target = context.target_dir("msrv");
        for verb in [["check", "--all-targets"], ["test", "--no-fail-fast"]] {
            cmd!(shell, "rustup run {version} cargo {verb...} --workspace --all-features")
                .env("CARGO_TARGET_DIR", &target)
                .run()
                .or_fail(format!("`cargo {}` fails with Rust {version}", verb[0]))?;
        }
        Ok(Outcome::Passed)
    })
}
