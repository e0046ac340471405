//! The script that the continuous integration calls runs the test command of the README.

use super::{Finding, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule {
    name: "ci_run",
    promise: ".ci/run calls the test command that the README names, and nothing hidden",
    check,
};

const SCRIPT: &str = ".ci/run";
const COMMAND: &str = "cargo xtask test";

fn check(tree: &Tree) -> Vec<Finding> {
    let Some(script) = tree.text(SCRIPT) else {
        return vec![Finding::new(SCRIPT, "is missing")];
    };
    let mut findings = Vec::new();
    if !tree.text("README.md").is_some_and(|text| text.contains(COMMAND)) {
        findings.push(Finding::new("README.md", format!("does not name `{COMMAND}`")));
    }
    let harmless = |line: &str| {
        line.is_empty()
            || line.starts_with('#')
            || line.starts_with("set -")
            || line.starts_with("cd ")
    };
    let lines: Vec<_> = script.lines().map(str::trim).filter(|line| !harmless(line)).collect();
    if lines != [format!("exec {COMMAND} </dev/null")] {
        findings.push(Finding::new(
            SCRIPT,
            format!("does something else than `exec {COMMAND} </dev/null`"),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::said;

    const GOOD: &str = "#!/usr/bin/env bash\nset -euo pipefail\ncd \"$(dirname \"$0\")/..\"\nexec cargo xtask test </dev/null\n";

    #[test]
    fn refuses_a_script_that_does_less_or_more() {
        let with = |script: &str, readme: &str| {
            said(&super::RULE, &[(".ci/run", script), ("README.md", readme)])
        };
        assert_eq!(with(GOOD, "`cargo xtask test`"), Vec::<String>::new());
        assert_eq!(with(GOOD, "`cargo test`").len(), 1);
        assert_eq!(
            with(&GOOD.replace("test </dev/null", "test </dev/null || true"), "`cargo xtask test`")
                .len(),
            1
        );
        assert_eq!(with(&GOOD.replace("exec", "curl x\nexec"), "`cargo xtask test`").len(), 1);
        assert_eq!(said(&super::RULE, &[]), [".ci/run: is missing"]);
    }
}
