//! Counts the tests of many test binaries from what their runners print.

use std::fmt;

/// How many tests passed, failed and were ignored, over all binaries seen.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
    /// The names of failed tests, as far as they were printed.
    pub(crate) failures: Vec<String>,
    /// Tests of the binary that is running now: announced, and not yet summed up.
    open: Option<u64>,
}

impl Tally {
    /// Takes one line of the runner's output.
    ///
    /// A binary that dies before its summary line is noticed when the next one starts, or at [`Tally::finish`]: the
    /// tests it announced count as failed, because nobody knows what became of them.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(announced) = announced(line) {
            self.abandon();
            self.open = Some(announced);
        } else if let Some([passed, failed, ignored]) = summary(line) {
            self.open = None;
            self.passed += passed;
            self.failed += failed;
            self.ignored += ignored;
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
    }

    /// The tally after the last line.
    pub(crate) fn finish(mut self) -> Self {
        self.abandon();
        self
    }

    pub(crate) fn total(&self) -> u64 {
        self.passed + self.failed + self.ignored
    }

    fn abandon(&mut self) {
        self.failed += self.open.take().unwrap_or(0);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// `running 3 tests` announces three.
fn announced(line: &str) -> Option<u64> {
    let count = line.strip_prefix("running ")?;
    let count = count.strip_suffix(" tests").or_else(|| count.strip_suffix(" test"))?;
    count.parse().ok()
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; …` holds the three counts.
fn summary(line: &str) -> Option<[u64; 3]> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = counts.split("; ");
    let mut next = |word: &str| counts.next()?.strip_suffix(word)?.trim_end().parse().ok();
    Some([next("passed")?, next("failed")?, next("ignored")?])
}

#[cfg(test)]
mod tests {
    use super::Tally;

    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        text.lines().for_each(|line| tally.line(line));
        tally.finish()
    }

    #[test]
    fn sums_over_binaries() {
        let tally = tally(
            "running 2 tests\n\
             test a ... ok\n\
             test b ... FAILED\n\
             test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             running 1 test\n\
             test c ... ignored\n\
             test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        );
        assert_eq!((tally.passed, tally.failed, tally.ignored), (1, 1, 1));
        assert_eq!(tally.failures, ["b"]);
        assert_eq!(tally.to_string(), "1 passed, 1 failed");
    }

    #[test]
    fn counts_the_tests_of_a_binary_that_died_as_failed() {
        let tally = tally(
            "running 3 tests\n\
             test a ... ok\n\
             running 1 test\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             running 2 tests\n",
        );
        assert_eq!((tally.passed, tally.failed), (1, 5));
    }

    #[test]
    fn reads_no_count_from_prose() {
        let tally = tally(
            "running late tests\ntest result: unknown\nthe test result: ok. 5 passed; 0 failed; 0 ignored\n",
        );
        assert_eq!(tally.total(), 0);
    }
}
