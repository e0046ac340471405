//! The public API as text, so that a review sees what users will.

use std::fs;

use xshell::cmd;

use super::{Context, Outcome, Step};
use crate::failure::Failure;

pub(super) const STEP: Step =
    Step { name: "api", promise: "the public API is the one in xtask/public-api", full: true, run };

const TEXTS: &str = "xtask/public-api";

fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    if !context.bless && !has_texts(context) {
        return Ok(Outcome::Nothing(format!(
            "no text is committed yet in {TEXTS}; `cargo xtask ci api --bless` writes one per crate"
        )));
    }
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
        let file = format!("{TEXTS}/{name}.txt");
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

fn has_texts(context: &Context<'_>) -> bool {
    let folder = fs::read_dir(context.project.root().join(TEXTS));
    folder
        .into_iter()
        .flatten()
        .flatten()
        .any(|file| file.path().extension().is_some_and(|end| end == "txt"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Context, Outcome, TEXTS, has_texts, run};
    use crate::project::Project;

    #[test]
    fn has_nothing_to_compare_with_before_the_first_text() {
        let root = tempfile::tempdir().expect("a folder");
        let project = Project::at(root.path());
        let shell = project.shell().expect("a shell");
        let context = Context { project: &project, shell, bless: false };

        let outcome = run(&context).expect("no text is no failure");

        assert!(matches!(outcome, Outcome::Nothing(_)), "{outcome:?}");
        fs::create_dir_all(root.path().join(TEXTS)).expect("a folder");
        assert!(!has_texts(&context));
        fs::write(root.path().join(TEXTS).join("a.txt"), "").expect("a file");
        assert!(has_texts(&context));
    }
}
