//! Lints.

use xshell::cmd;

use super::{Context, Outcome, Step};
use crate::failure::{Failure, OrFail as _};

pub(super) const STEP: Step = Step {
    name: "clippy",
    promise: "no lint fires, with all features and with none",
    full: false,
    run,
};

fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    for features in ["--all-features", "--no-default-features"] {
        cmd!(context.shell, "cargo clippy --workspace --all-targets {features} -- -D warnings")
            .run()
            .or_fail(format!("clippy complains with {features}; its message is above"))?;
    }
    Ok(Outcome::Passed)
}
