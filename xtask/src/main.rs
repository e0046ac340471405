//! The one door for every habit of this repository: `cargo xtask --help` lists them.
//!
//! A command or step is a file. Each says what it does, fails with a sentence of its own and prints how to repeat
//! what failed. Workflows call the same commands by name, so what passes here passes there.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its user"
)]

mod bench;
mod ci;
mod demo;
mod failure;
mod flags;
mod integration;
mod new;
mod project;
mod runner;
mod server;
mod table;
mod tally;
mod test;
mod tidy;

use std::process::ExitCode;

use crate::{
    failure::Failure,
    flags::{Xtask, XtaskCmd},
    project::Project,
};

fn main() -> ExitCode {
    let flags = Xtask::from_env_or_exit();
    match run(flags.subcommand) {
        Ok(()) => ExitCode::SUCCESS,
        Err(mut failure) => {
            failure.tell();
            failure.exit_code()
        }
    }
}

fn run(command: XtaskCmd) -> Result<(), Failure> {
    let project = Project::find()?;
    match command {
        XtaskCmd::Demo(_) => demo::run(&project),
        XtaskCmd::Test(_) => test::run(&project),
        XtaskCmd::Integration(flags) => integration::run(&project, &flags),
        XtaskCmd::Ci(flags) => ci::run(&project, &flags),
        XtaskCmd::Tidy(_) => tidy::run(&project),
        XtaskCmd::Server(flags) => server::run(&flags),
        XtaskCmd::Bench(flags) => bench::run(&project, &flags),
        XtaskCmd::New(flags) => new::run(&project, &flags),
    }
}
