//! Compatibility with the last release.

use xshell::cmd;

use super::{Context, Outcome, Step};
use crate::failure::{Failure, OrFail as _};

pub(super) const STEP: Step = Step {
    name: "semver",
    promise: "versions say what changed since the last release",
    full: true,
    run,
};

fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    let Context { shell, .. } = context;
    context.with_tool("semver-checks", || {
        let tags = cmd!(shell, "git tag --list v* --sort=-version:refname").quiet().read()?;
        let Some(release) = tags.lines().next() else {
            return Ok(Outcome::Nothing("no release is tagged yet".to_owned()));
        };
        cmd!(shell, "cargo semver-checks --workspace --baseline-rev {release}")
            .run()
            .or_fail(format!("a change since {release} asks for a larger version step"))?;
        Ok(Outcome::Passed)
    })
}
