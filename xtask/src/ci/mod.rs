//! `cargo xtask ci`: the steps that a change must pass, cheap ones first.

mod api;
mod clippy;
mod deny;
mod docs;
mod features;
mod fmt;
mod minimal;
mod msrv;
mod package;
mod powerset;
mod semver;
mod test;
mod tidy;

use std::{env, path::PathBuf, time::Instant};

use xshell::{Shell, cmd};

use crate::{failure::Failure, flags, project::Project};

/// A step of the list: what it is called, what it promises, and whether only `--full` runs it.
#[derive(Debug)]
struct Step {
    name: &'static str,
    promise: &'static str,
    full: bool,
    run: fn(&Context<'_>) -> Result<Outcome, Failure>,
}

/// How a step that did not fail ended.
#[derive(Debug)]
enum Outcome {
    Passed,
    /// A tool is not installed; the text says which and how to get it.
    Absent(String),
    /// There is nothing to look at yet; the text says why.
    Nothing(String),
}

/// What every step needs.
#[derive(Debug)]
struct Context<'a> {
    project: &'a Project,
    shell: Shell,
    bless: bool,
}

const STEPS: &[Step] = &[
    fmt::STEP,
    tidy::STEP,
    clippy::STEP,
    docs::STEP,
    features::STEP,
    package::STEP,
    test::STEP,
    msrv::STEP,
    minimal::STEP,
    powerset::STEP,
    deny::STEP,
    semver::STEP,
    api::STEP,
];

pub(crate) fn run(project: &Project, flags: &flags::Ci) -> Result<(), Failure> {
    let steps = chosen(flags)?;
    let context = Context { project, shell: project.shell()?, bless: flags.bless };
    let mut report = Vec::new();
    for step in steps {
        eprintln!("\n== {}: {}", step.name, step.promise);
        let start = Instant::now();
        let outcome = (step.run)(&context)
            .map_err(|failure| failure.repeat(format!("cargo xtask ci {}", step.name)))?;
        let line = match outcome {
            Outcome::Passed => format!("passed in {:.1} s", start.elapsed().as_secs_f64()),
            Outcome::Nothing(why) => format!("nothing to do: {why}"),
            Outcome::Absent(tool) if flags.step.is_empty() => format!("NOT RUN: {tool}"),
            Outcome::Absent(tool) => {
                return Err(Failure::new(tool).repeat(format!("cargo xtask ci {}", step.name)));
            }
        };
        report.push(format!("{:<9} {line}", step.name));
    }
    eprintln!("\n{}", report.join("\n"));
    Ok(())
}

/// The named steps in their given order, or all of them.
fn chosen(flags: &flags::Ci) -> Result<Vec<&'static Step>, Failure> {
    if flags.step.is_empty() {
        return Ok(STEPS.iter().filter(|step| flags.full || !step.full).collect());
    }
    let find = |name: &String| {
        STEPS.iter().find(|step| step.name == name).ok_or_else(|| {
            let known: Vec<_> = STEPS.iter().map(|step| step.name).collect();
            Failure::new(format!("there is no step `{name}`; known are {}", known.join(", ")))
        })
    };
    flags.step.iter().map(find).collect()
}

impl Context<'_> {
    /// A folder of a step's own below cargo's target folder.
    fn target_dir(&self, step: &str) -> PathBuf {
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
        self.project.root().join(target).join("xtask").join(step)
    }

    /// Runs `work` when `cargo <tool>` is there, else says how to get it.
    fn with_tool(
        &self,
        tool: &str,
        work: impl FnOnce() -> Result<Outcome, Failure>,
    ) -> Result<Outcome, Failure> {
        if self.has_tool(tool) {
            work()
        } else {
            Ok(Outcome::Absent(format!(
                "cargo-{tool} is not installed; `cargo install --locked cargo-{tool}`"
            )))
        }
    }

    fn has_tool(&self, tool: &str) -> bool {
        cmd!(self.shell, "cargo {tool} --version")
            .quiet()
            .ignore_stdout()
            .ignore_stderr()
            .run()
            .is_ok()
    }

    /// Runs `work` when rustup has `toolchain`, else says how to get it.
    fn with_toolchain(
        &self,
        toolchain: &str,
        work: impl FnOnce() -> Result<Outcome, Failure>,
    ) -> Result<Outcome, Failure> {
        // `rustup run` would download a missing toolchain without being asked.
        let installed = cmd!(self.shell, "rustup toolchain list")
            .quiet()
            .ignore_stderr()
            .read()
            .unwrap_or_default();
        if installed.lines().any(|line| {
            line.strip_prefix(toolchain).is_some_and(|rest| rest.starts_with(['.', '-']))
        }) {
            work()
        } else {
            Ok(Outcome::Absent(format!(
                "toolchain {toolchain} is not installed; `rustup toolchain install --profile minimal {toolchain}`"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{STEPS, chosen};
    use crate::flags::Ci;

    fn names(full: bool, steps: &[&str]) -> Result<Vec<&'static str>, String> {
        let flags =
            Ci { full, bless: false, step: steps.iter().map(ToString::to_string).collect() };
        match chosen(&flags) {
            Ok(steps) => Ok(steps.into_iter().map(|step| step.name).collect()),
            Err(failure) => Err(failure.to_string()),
        }
    }

    #[test]
    fn runs_named_steps_in_their_given_order() {
        assert_eq!(names(false, &["clippy", "fmt"]), Ok(vec!["clippy", "fmt"]));
    }

    #[test]
    fn refuses_an_unknown_step_and_lists_the_known() {
        let text = names(false, &["lint"]).expect_err("no such step");
        assert!(text.contains("`lint`") && text.contains("clippy"), "{text}");
    }

    #[test]
    fn full_adds_steps() {
        assert_eq!(names(true, &[]).expect("all").len(), STEPS.len());
        assert!(names(false, &[]).expect("some").len() < STEPS.len());
    }
}
