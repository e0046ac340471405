//! `cargo xtask server`: prints the path of a server's executable, and is how the other commands get one.

use redbrick_testkit::provision::{self, Found, Want};

use crate::{failure::Failure, flags};

pub(crate) fn run(flags: &flags::Server) -> Result<(), Failure> {
    let want = flags.want.as_deref().map_or(Ok(Want::Any), parse)?;
    let found = get(want)?;
    println!("{}", found.path.display());
    Ok(())
}

/// Gets an executable and tells the user on stderr what happens meanwhile.
pub(crate) fn get(want: Want) -> Result<Found, Failure> {
    let found = provision::server_binary(want, &mut |step| eprintln!("server: {step}"))
        .map_err(|error| Failure::new(chain(&error)).repeat(repeat(want)))?;
    eprintln!("server: {} at {}", found.version, found.path.display());
    Ok(found)
}

pub(crate) fn parse(name: &str) -> Result<Want, Failure> {
    Want::ALL.into_iter().find(|want| want.to_string() == name).ok_or_else(|| {
        let known: Vec<_> = Want::ALL.iter().map(ToString::to_string).collect();
        Failure::new(format!("there is no server `{name}`; known are {}", known.join(", ")))
    })
}

/// An error with its sources, one after the other.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn repeat(want: Want) -> String {
    match want {
        Want::Any => "cargo xtask server".to_owned(),
        want => format!("cargo xtask server --want {want}"),
    }
}
