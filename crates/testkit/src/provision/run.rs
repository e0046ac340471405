use std::{
    io,
    process::{Command, Stdio},
};

/// Runs a program to its end; its output, or what it said when it failed.
pub(super) fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.env("LC_ALL", "C").stdin(Stdio::null()).output().map_err(|err| {
            match err.kind() {
                io::ErrorKind::NotFound => format!("there is no {program}"),
                _ => format!("{program}: {err}"),
            }
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said = said[said.len().saturating_sub(3)..].join(" / ");
    Err(if said.is_empty() {
        format!("{program} failed: {}", output.status)
    } else {
        format!("{program}: {said}")
    })
}
