//! Packages as users will get them.

use xshell::cmd;

use super::{Context, Outcome, Step};
use crate::failure::{Failure, OrFail as _};

pub(super) const STEP: Step = Step {
    name: "package",
    promise: "each published crate packs, builds from its pack and holds its papers",
    full: false,
    run,
};

/// Files that a user of a crate expects to find in it.
const PAPERS: [&str; 3] = ["README.md", "CHANGELOG.md", "LICENSE"];

fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    let Context { shell, .. } = context;
    let published: Vec<_> =
        context.project.packages()?.into_iter().filter(|package| package.published).collect();

    for package in &published {
        let name = &package.name;
        let list =
            cmd!(shell, "cargo package --list --allow-dirty --package {name}").quiet().read()?;
        for paper in PAPERS {
            if !list.lines().any(|line| line == paper) {
                return Err(Failure::new(format!("the package of {name} holds no {paper}")));
            }
        }
    }

    // All at once, so that cargo builds those that depend on each other from their packs and asks no registry for them.
    let packages = published.iter().flat_map(|package| ["--package", &package.name]);
    cmd!(shell, "cargo package --allow-dirty {packages...}")
        .run()
        .or_fail("a crate does not build from its package; cargo's message is above")?;
    Ok(Outcome::Passed)
}
