//! Each feature alone.

use xshell::cmd;

use super::{Context, Outcome, Step};
use crate::failure::{Failure, OrFail as _};

pub(super) const STEP: Step = Step {
    name: "features",
    promise: "each crate builds with no feature and with each alone",
    full: false,
    run,
};

/// Asks cargo for the features; `cargo hack` does the same faster when it is there.
fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    let Context { shell, .. } = context;
    if context.has_tool("hack") {
        cmd!(shell, "cargo hack check --workspace --each-feature")
            .run()
            .or_fail("a crate does not build with one feature alone; the line above names it")?;
        return Ok(Outcome::Passed);
    }
    for package in context.project.packages()? {
        let name = &package.name;
        let alone = package.features.iter().filter(|feature| *feature != "default");
        for feature in std::iter::once("").chain(alone.map(String::as_str)) {
            let (flags, with): (&[&str], _) = match feature {
                "" => (&[], "no feature".to_owned()),
                feature => (&["--features", feature], format!("`{feature}` alone")),
            };
            cmd!(shell, "cargo check --quiet --package {name} --no-default-features {flags...}")
                .run()
                .or_fail(format!("{name} does not build with {with}"))?;
        }
    }
    Ok(Outcome::Passed)
}
