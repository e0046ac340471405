//! `cargo xtask bench`: the benchmarks, against a server.

mod telemetry;

use redbrick_testkit::provision::{Found, Want};
use xshell::{Shell, cmd};

use crate::{
    failure::{Failure, OrFail as _},
    flags,
    project::Project,
    server,
};

/// All of them, in the order in which they run.
const ALL: [&str; 11] = [
    "reads",
    "writes",
    "scripts",
    "values",
    "far",
    "cluster_reads",
    "cache",
    "local",
    "lock",
    "telemetry",
    "micro",
];
/// What `--quick` runs when none is named: what is done in three minutes.
const QUICK: [&str; 3] = ["reads", "scripts", "values"];
/// Where results go, below the root.
const OUT: &str = "target/redbrick-bench";

pub(crate) fn run(project: &Project, flags: &flags::Bench) -> Result<(), Failure> {
    let shell = project.shell()?;
    let found = server::get(Want::Any)?;
    let names = names(flags)?;
    build(&shell, &names)?;
    for name in names {
        let measured = match name {
            "telemetry" => telemetry::run(&shell, &found, flags.quick),
            "micro" => micro(&shell, flags.quick),
            _ => measure(&shell, &found, name, flags.quick),
        };
        measured.map_err(|failure| failure.repeat(repeat(name, flags.quick)))?;
    }
    println!("\nresults: {}", project.root().join(OUT).display());
    Ok(())
}

fn names(flags: &flags::Bench) -> Result<Vec<&'static str>, Failure> {
    let Some(name) = &flags.name else {
        return Ok(if flags.quick { QUICK.to_vec() } else { ALL.to_vec() });
    };
    let known = ALL.into_iter().find(|known| known == name);
    known.map(|name| vec![name]).ok_or_else(|| {
        Failure::new(format!("there is no benchmark `{name}`; known are {}", ALL.join(", ")))
    })
}

/// All at once, so that nothing is compiled between measurements; but telemetry, which is built in two ways.
fn build(shell: &Shell, names: &[&str]) -> Result<(), Failure> {
    let once = names.iter().filter(|name| **name != "telemetry");
    let chosen: Vec<_> = once.flat_map(|name| ["--bench", name]).collect();
    if chosen.is_empty() {
        return Ok(());
    }
    cmd!(shell, "cargo bench --package redbrick-benches {chosen...} --no-run")
        .run()
        .or_fail("the benchmarks do not build; the compiler's message is above")
}

/// One of those that share the harness, which prints its table and writes its file.
fn measure(shell: &Shell, found: &Found, name: &str, quick: bool) -> Result<(), Failure> {
    let out = shell.current_dir().join(OUT);
    let quick = quick.then_some("--quick");
    cmd!(shell, "cargo bench --package redbrick-benches --bench {name} -- {quick...} --out {out}")
        .env("REDIS_SERVER", &found.path)
        .run()
        .or_fail(format!("the benchmark `{name}` did not come to its end"))
}

/// criterion's, which keeps its figures in `target/criterion`.
fn micro(shell: &Shell, quick: bool) -> Result<(), Failure> {
    let quick = quick.then_some("--quick");
    cmd!(shell, "cargo bench --package redbrick-benches --bench micro -- {quick...}")
        .run()
        .or_fail("the benchmark `micro` did not come to its end")
}

fn repeat(name: &str, quick: bool) -> String {
    format!("cargo xtask bench {name}{}", if quick { " --quick" } else { "" })
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn knows_every_file_and_no_other() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/benches");
        let files = fs::read_dir(folder).expect("there are benchmarks");
        let mut files: Vec<_> = files
            .map(|file| file.expect("a file can be listed").path())
            .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
            .collect();
        files.sort();
        let mut known = ALL.map(String::from);
        known.sort();
        assert_eq!(files, known);
        assert!(QUICK.iter().all(|name| ALL.contains(name)));
    }
}
