//! `cargo xtask bench`: the benchmarks, against a server.

use redbrick_testkit::provision::{Found, Want};
use xshell::{Shell, cmd};

use crate::{
    failure::{Failure, OrFail as _},
    flags,
    project::Project,
    server,
};

/// All of them, in the order in which they run.
const ALL: [&str; 3] = ["reads", "writes", "scripts"];
/// What `--quick` runs when none is named.
const QUICK: [&str; 3] = ["reads", "scripts", "writes"];
/// Where results go, below the root.
const OUT: &str = "target/redbrick-bench";

pub(crate) fn run(project: &Project, flags: &flags::Bench) -> Result<(), Failure> {
    let shell = project.shell()?;
    let found = server::get(Want::Any)?;
    for name in names(flags)? {
        measure(&shell, &found, name, flags.quick)?;
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

fn measure(shell: &Shell, found: &Found, name: &str, quick: bool) -> Result<(), Failure> {
    let out = shell.current_dir().join(OUT);
    let quick = quick.then_some("--quick");
    cmd!(shell, "cargo bench --package redbrick-benches --bench {name} -- {quick...} --out {out}")
        .env("REDIS_SERVER", &found.path)
        .run()
        .or_fail(format!("the benchmark `{name}` did not come to its end"))
        .map_err(|failure| failure.repeat(repeat(name, quick.is_some())))
}

fn repeat(name: &str, quick: bool) -> String {
    format!("cargo xtask bench {name}{}", if quick { " --quick" } else { "" })
}
