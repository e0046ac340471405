//! The public API as text, so that a review sees what users will.

use xshell::cmd;

use super::{Context, Outcome, Step};
use crate::failure::Failure;

pub(super) const STEP: Step =
    Step { name: "api", promise: "the public API is the one in xtask/public-api", full: true, run };

fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    context.with_toolchain("nightly", || context.with_tool("public-api", || compare(context)))
}

fn compare(context: &Context<'_>) -> Result<Outcome, Failure> {
    let Context { shell, project, bless } = context;
    let mut changed = Vec::new();
    for package in project.packages()?.into_iter().filter(|package| package.published) {
        let name = &package.name;
        let text =
            cmd!(shell, "rustup run nightly cargo public-api --package {name} --all-features -sss")
                .read()?;
        let text = format!("{text}\n");
        let file = format!("xtask/public-api/{name}.txt");
        if shell.read_file(&file).is_ok_and(|committed| committed == text) {
            continue;
        }
        if *bless {
            shell.write_file(&file, text)?;
        } else {
            changed.push(file);
        }
    }
    if changed.is_empty() {
        return Ok(Outcome::Passed);
    }
    Err(Failure::new(format!(
        "the public API differs from {}; `cargo xtask ci api --bless` rewrites them, `git diff` then shows the change",
        changed.join(", ")
    )))
}
