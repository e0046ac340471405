//! Tests that run in a process of their own, short in a plain run and long where that is asked for.

use std::{env, fs, process::Command};

/// Set to anything, it asks for the long forms.
const LONG: &str = "REDBRICK_TEST_SOAK";
/// Set in the process in which a test runs alone, so that its memory and its tasks are its own.
const ALONE: &str = "REDBRICK_TEST_SOAK_ALONE";

/// Whether the long forms are asked for.
pub(crate) fn is_long() -> bool {
    env::var_os(LONG).is_some_and(|long| !long.is_empty())
}

/// Runs the test of this name in a process of its own.
pub(crate) fn alone(test: &str, run: impl FnOnce()) {
    if env::var_os(ALONE).is_some() {
        return run();
    }
    let mut child = Command::new(env::current_exe().expect("this program"));
    child.args(["--exact", test, "--nocapture"]).env(ALONE, "1");
    let output = child.output().expect("this program runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    // Marked, so that nobody takes its result for one of this process.
    text.lines().for_each(|line| tell(&format!("| {line}")));
    assert!(output.status.success() && text.contains("1 passed"), "see above");
}

/// What the process has in memory, where the system says so.
pub(crate) fn memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes << 10)
}

/// Says what was measured, for those who run the tests with `--nocapture`, and when one fails.
#[expect(clippy::print_stdout, reason = "figures beside the bounds they are held to")]
pub(crate) fn tell(text: &str) {
    println!("{text}");
}
