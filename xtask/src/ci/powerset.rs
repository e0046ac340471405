//! Features in every combination.

use xshell::cmd;

use super::{Context, Outcome, Step};
use crate::failure::{Failure, OrFail as _};

pub(super) const STEP: Step = Step {
    name: "powerset",
    promise: "each crate builds with every combination of its features",
    full: true,
    run,
};

fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    context.with_tool("hack", || {
        cmd!(context.shell, "cargo hack check --workspace --feature-powerset --depth 3")
            .run()
            .or_fail(
                "a crate does not build with a combination of features; the line above names it",
            )?;
        Ok(Outcome::Passed)
    })
}
