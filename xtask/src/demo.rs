//! `cargo xtask demo`: a server and the tour on it.

use xshell::cmd;

use crate::{
    failure::{Failure, OrFail as _},
    project::Project,
    server,
};
use redbrick_testkit::provision::Want;

const REPEAT: &str = "cargo xtask demo";

pub(crate) fn run(project: &Project) -> Result<(), Failure> {
    let shell = project.shell()?;
    eprintln!("demo: building the tour (the first build takes a minute or two)");
    cmd!(shell, "cargo build --package redbrick --example tour --all-features")
        .run()
        .or_fail("the tour does not build; the compiler's message is above")
        .map_err(|failure| failure.repeat(REPEAT))?;

    let found = server::get(Want::Any)?;
    // The tour starts and stops servers by itself and needs to know the executable only.
    cmd!(shell, "cargo run --quiet --package redbrick --example tour --all-features")
        .env("REDIS_SERVER", &found.path)
        .quiet()
        .run()
        .or_fail("the tour did not come to its end; its last lines say where")
        .map_err(|failure| failure.repeat(REPEAT))
}
