//! Workflows do nothing that cannot be done here.

use super::{Finding, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule {
    name: "workflows",
    promise: "workflows call xtask and nothing else, with pinned actions and no more rights than reading",
    check,
};

/// Steps that bring the repository and its tools, or keep build artifacts between runs.
const ACTIONS: [&str; 3] = ["actions/checkout", "Swatinem/rust-cache", "taiki-e/install-action"];
const COMMANDS: [&str; 2] = ["cargo xtask ", "rustup "];

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in
        tree.texts(".github/workflows/", ".yml").chain(tree.texts(".github/workflows/", ".yaml"))
    {
        if !text.contains("\npermissions:\n  contents: read\n") {
            findings.push(Finding::new(
                path,
                "does not state `permissions: contents: read` for all of its jobs",
            ));
        }
        if !text.contains("\nconcurrency:\n") || !text.contains("cancel-in-progress: true") {
            findings.push(Finding::new(path, "does not cancel runs that a newer one replaces"));
        }
        for (index, line) in text.lines().enumerate() {
            let line = line.trim().trim_start_matches("- ");
            let mut say = |what: &str| findings.push(Finding::new(path, what).line(index + 1));
            if let Some(command) = line.strip_prefix("run:") {
                let command = command.trim();
                let chained = command.contains(['|', ';', '&', '>']);
                if chained || !COMMANDS.iter().any(|start| command.starts_with(start)) {
                    say(
                        "runs something else than one `cargo xtask …` or `rustup …`; make it a step of xtask",
                    );
                }
            }
            if let Some(action) = line.strip_prefix("uses:") {
                let (name, version) = action.trim().split_once('@').unwrap_or((action.trim(), ""));
                let version = version.split_whitespace().next().unwrap_or_default();
                if !ACTIONS.contains(&name) {
                    say("uses an action that only brings what xtask should do");
                }
                if !version.trim_start_matches('v').starts_with(|c: char| c.is_ascii_hexdigit()) {
                    say("uses an action without a version");
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::said;

    const FLOW: &str = "on: push\npermissions:\n  contents: read\nconcurrency:\n  group: x\n  cancel-in-progress: true\n\
                        jobs:\n  a:\n    steps:\n      - uses: actions/checkout@v4\n      - run: cargo xtask ci fmt\n";

    fn with(from: &str, to: &str) -> Vec<String> {
        said(&super::RULE, &[(".github/workflows/ci.yml", &FLOW.replace(from, to))])
    }

    #[test]
    fn is_content_with_calls_of_xtask() {
        assert_eq!(with("", ""), Vec::<String>::new());
    }

    #[test]
    fn refuses_commands_actions_and_rights_of_their_own() {
        for (from, to, expected) in [
            ("cargo xtask ci fmt", "cargo fmt --check", "runs something else"),
            ("cargo xtask ci fmt", "cargo xtask ci fmt && curl x", "runs something else"),
            ("cargo xtask ci fmt", "|", "runs something else"),
            ("actions/checkout@v4", "actions/checkout@main", "without a version"),
            ("actions/checkout@v4", "someone/deploy@v1", "an action that only brings"),
            ("contents: read", "contents: write", "permissions"),
            ("cancel-in-progress: true", "cancel-in-progress: false", "does not cancel"),
        ] {
            let said = with(from, to);
            assert!(said.len() == 1 && said[0].contains(expected), "{to}: {said:?}");
        }
    }
}
