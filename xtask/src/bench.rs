//! `cargo xtask bench`: the benchmarks, against a server.

use redbrick_testkit::provision::Want;
use xshell::cmd;

use crate::{
    failure::{Failure, OrFail as _},
    flags,
    project::Project,
    server,
};

pub(crate) fn run(project: &Project, flags: &flags::Bench) -> Result<(), Failure> {
    let shell = project.shell()?;
    let repeat = flags
        .name
        .as_ref()
        .map_or("cargo xtask bench".to_owned(), |name| format!("cargo xtask bench {name}"));
    let found = server::get(Want::Any)?;
    let only = flags.name.iter().flat_map(|name| ["--bench", name]);
    cmd!(shell, "cargo bench --package redbrick-benches {only...}")
        .env("REDIS_SERVER", &found.path)
        .run()
        .or_fail("the benchmark did not come to its end")
        .map_err(|failure| failure.repeat(repeat))
}
