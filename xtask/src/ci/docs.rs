//! Documentation.

use xshell::cmd;

use super::{Context, Outcome, Step};
use crate::failure::{Failure, OrFail as _};

pub(super) const STEP: Step =
    Step { name: "docs", promise: "the documentation builds without a warning", full: false, run };

fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    cmd!(context.shell, "cargo doc --workspace --no-deps --all-features")
        .env("RUSTDOCFLAGS", "-D warnings")
        .run()
        .or_fail("rustdoc complains; its message is above")?;
    Ok(Outcome::Passed)
}
