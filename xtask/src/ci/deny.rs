//! Licenses, sources and advisories of dependencies.

use xshell::cmd;

use super::{Context, Outcome, Step};
use crate::failure::{Failure, OrFail as _};

pub(super) const STEP: Step = Step {
    name: "deny",
    promise: "dependencies keep to deny.toml: licenses, versions, sources, advisories",
    full: true,
    run,
};

fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    let Context { shell, .. } = context;
    context.with_tool("deny", || {
        cmd!(shell, "cargo deny --all-features check licenses bans sources")
            .run()
            .or_fail("a dependency breaks a rule of deny.toml; the message above names it")?;
        cmd!(shell, "cargo deny --all-features check advisories")
            .run()
            .or_fail("a dependency has an advisory, or the advisories could not be fetched")?;
        Ok(Outcome::Passed)
    })
}
