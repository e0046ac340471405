//! Formatting.

use xshell::cmd;

use super::{Context, Outcome, Step};
use crate::failure::{Failure, OrFail as _};

pub(super) const STEP: Step =
    Step { name: "fmt", promise: "every file is formatted by rustfmt", full: false, run };

fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    cmd!(context.shell, "cargo fmt --all --check")
        .run()
        .or_fail("some files are not formatted; `cargo fmt --all` does it")?;
    Ok(Outcome::Passed)
}
