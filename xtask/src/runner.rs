//! Runs `cargo test` so that its output streams through while it is counted.

use std::{
    io::{BufRead as _, BufReader, Write},
    process::{Command, ExitStatus, Stdio},
};

use crate::{failure::Failure, tally::Tally};

/// What a run of the test runner came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) status: ExitStatus,
}

/// Runs `command`, passing every byte of its output on as it comes; its messages on stderr go their own way.
pub(crate) fn stream(mut command: Command, terminal: &mut impl Write) -> Result<Outcome, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::new(format!("`{program}` could not be started: {error}")))?;

    let mut tally = Tally::default();
    if let Some(output) = child.stdout.take() {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line)? > 0 {
            terminal.write_all(&line)?;
            terminal.flush()?;
            tally.line(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
    }
    Ok(Outcome { tally: tally.finish(), status: child.wait()? })
}

impl Outcome {
    /// Why the run counts as failed, if it does: a failed or unreported test, a skipped one, a runner that ended badly
    /// although no test did, or no test at all.
    pub(crate) fn complaint(&self) -> Option<String> {
        let Self { tally, status } = self;
        if tally.failed > 0 {
            Some(format!(
                "{} of {} tests failed; their names and output are above",
                tally.failed,
                tally.total()
            ))
        } else if !status.success() {
            Some(format!(
                "the test runner ended with {status} although no test failed; its message is above"
            ))
        } else if tally.ignored > 0 {
            Some(format!(
                "{} tests were ignored; a test runs or is removed, it is never skipped",
                tally.ignored
            ))
        } else if tally.passed == 0 {
            Some("no test ran".to_owned())
        } else {
            None
        }
    }

    pub(crate) fn failure(&self, repeat: &str) -> Option<Failure> {
        Some(Failure::new(self.complaint()?).repeat(repeat).code(self.status.code()))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::stream;

    fn complaint(script: &str) -> Option<String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let mut seen = Vec::new();
        let outcome = stream(command, &mut seen).expect("sh starts");
        assert_eq!(seen.is_empty(), outcome.tally.total() == 0, "what was counted was passed on");
        outcome.complaint()
    }

    #[test]
    fn is_content_when_tests_passed() {
        assert_eq!(
            complaint(
                "echo 'running 1 test'; echo 'test result: ok. 1 passed; 0 failed; 0 ignored'"
            ),
            None
        );
    }

    #[test]
    fn complains_about_what_nobody_should_overlook() {
        let failed = "echo 'test result: FAILED. 1 passed; 2 failed; 0 ignored'; exit 101";
        assert!(complaint(failed).expect("a complaint").starts_with("2 of 3 tests failed"));
        let ignored = "echo 'test result: ok. 1 passed; 0 failed; 1 ignored'";
        assert!(complaint(ignored).expect("a complaint").starts_with("1 tests were ignored"));
        assert!(complaint("exit 101").expect("a complaint").contains("although no test failed"));
        assert_eq!(complaint("true").as_deref(), Some("no test ran"));
    }
}
