//! Why a command ended badly, and how to repeat it.

use std::{fmt, process::ExitCode};

/// A sentence for the user, the command that shows the failure again, and the exit code to end with.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    cause: Option<String>,
    repeat: Option<String>,
    code: u8,
    told: bool,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), cause: None, repeat: None, code: 1, told: false }
    }

    /// Names the command that repeats what failed.
    pub(crate) fn repeat(mut self, command: impl Into<String>) -> Self {
        self.repeat = Some(command.into());
        self
    }

    /// Ends with the exit code of the program that failed; a signal or an odd code counts as 1.
    pub(crate) fn code(mut self, code: Option<i32>) -> Self {
        self.code =
            code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(1);
        self
    }

    /// Prints the failure, once however often it is called.
    pub(crate) fn tell(&mut self) {
        if !self.told {
            self.told = true;
            eprint!("{self}");
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nfailed: {}", self.what)?;
        if let Some(cause) = &self.cause {
            writeln!(f, "because: {cause}")?;
        }
        if let Some(command) = &self.repeat {
            writeln!(f, "repeat it with: {command}")?;
        }
        Ok(())
    }
}

/// Puts a failed command into words.
pub(crate) trait OrFail<T> {
    /// Says what the failure means for the user; the command and its exit code stay as the cause.
    fn or_fail(self, what: impl Into<String>) -> Result<T, Failure>;
}

impl<T> OrFail<T> for xshell::Result<T> {
    fn or_fail(self, what: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure { cause: Some(error.to_string()), ..Failure::new(what) })
    }
}

impl From<xshell::Error> for Failure {
    fn from(error: xshell::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}
