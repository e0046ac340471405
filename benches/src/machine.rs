use std::{fs, process::Command, thread};

use serde::Serialize;

/// What was measured on. Rates hold for this machine alone.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: Option<usize>,
    system: &'static str,
    architecture: &'static str,
    kernel: Option<String>,
    rustc: Option<String>,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let rustc = Command::new("rustc").arg("--version").output().ok();
        Self {
            cores: thread::available_parallelism().ok().map(Into::into),
            system: std::env::consts::OS,
            architecture: std::env::consts::ARCH,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").ok().as_deref().map(trimmed),
            rustc: rustc.and_then(|run| String::from_utf8(run.stdout).ok()).as_deref().map(trimmed),
        }
    }
}

fn trimmed(text: &str) -> String {
    text.trim().to_owned()
}
