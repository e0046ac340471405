//! Workflows do nothing that cannot be done here.

use super::{Finding, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule {
    name: "workflows",
    promise: "workflows call xtask and nothing else, with actions at a release's tag or a commit, and no more rights than \
              reading",
    check,
};

/// Steps that bring the repository and its tools, or keep build artifacts between runs.
const ACTIONS: [&str; 3] = ["actions/checkout", "Swatinem/rust-cache", "taiki-e/install-action"];
const COMMANDS: [&str; 2] = ["cargo xtask ", "rustup "];
/// What several workflows share lies beside them and is used by its path.
const OWN: &str = "./.github/workflows/";

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
        let cancels =
            text.contains("\nconcurrency:\n") && text.contains("cancel-in-progress: true");
        if !cancels && !is_only_called(text) {
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
                let action = action.split_whitespace().next().unwrap_or_default();
                if action.starts_with(OWN) {
                    if !tree.holds(&action[2..]) {
                        say("uses a workflow that is not there");
                    }
                    continue;
                }
                let (name, version) = action.split_once('@').unwrap_or((action, ""));
                if !ACTIONS.contains(&name) {
                    say("uses an action that only brings what xtask should do");
                }
                if !is_release(version) && !is_commit(version) {
                    say(
                        "uses an action at neither a release's tag (`v4`, `v4.2.1`) nor a commit (40 digits)",
                    );
                }
            }
        }
    }
    findings
}

/// Whether nothing but other workflows starts it: then it is part of its caller's run and ends with that.
fn is_only_called(text: &str) -> bool {
    let triggers = text.lines().skip_while(|line| *line != "on:").skip(1);
    let triggers: Vec<_> = triggers.take_while(|line| line.starts_with("  ")).collect();
    triggers == ["  workflow_call:"]
}

/// `v4` or `v4.2.1`: a tag of a release, whatever it points to today.
fn is_release(version: &str) -> bool {
    let numbers: Vec<_> =
        version.strip_prefix('v').into_iter().flat_map(|v| v.split('.')).collect();
    let is_number =
        |text: &&str| !text.is_empty() && text.chars().all(|digit| digit.is_ascii_digit());
    matches!(numbers.len(), 1 | 3) && numbers.iter().all(is_number)
}

fn is_commit(version: &str) -> bool {
    version.len() == 40 && version.chars().all(|digit| digit.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::super::said;

    const FLOW: &str = "name: ci\non: push\npermissions:\n  contents: read\nconcurrency:\n  group: x\n  cancel-in-progress: true\n\
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
            ("actions/checkout@v4", "actions/checkout", "neither a release's tag"),
            ("actions/checkout@v4", "./.github/workflows/absent.yml", "is not there"),
            ("actions/checkout@v4", "someone/deploy@v1", "an action that only brings"),
            ("contents: read", "contents: write", "permissions"),
            ("cancel-in-progress: true", "cancel-in-progress: false", "does not cancel"),
        ] {
            let said = with(from, to);
            assert!(said.len() == 1 && said[0].contains(expected), "{to}: {said:?}");
        }
    }

    #[test]
    fn takes_a_release_or_a_commit_and_no_branch() {
        let commit = "11bd71901bbe5b1630ceea73d27597364c9af683";
        for good in ["v4", "v4.2.1", commit] {
            assert_eq!(with("@v4", &format!("@{good}")), Vec::<String>::new(), "{good}");
        }
        for bad in
            ["main", "dev", "beta", "edge", "vdev", "v", "v4.", "v4.2", "vv4", "4", &commit[..39]]
        {
            let said = with("@v4", &format!("@{bad}"));
            assert!(
                said.len() == 1 && said[0].contains("neither a release's tag"),
                "{bad}: {said:?}"
            );
        }
    }

    #[test]
    fn lets_workflows_share_one_that_needs_no_cancelling_of_its_own() {
        let caller = FLOW.replace("actions/checkout@v4", "./.github/workflows/shared.yml");
        let shared = FLOW
            .replace("on: push", "on:\n  workflow_call:")
            .replace("concurrency:\n  group: x\n  cancel-in-progress: true\n", "");
        let files =
            [(".github/workflows/ci.yml", &*caller), (".github/workflows/shared.yml", &*shared)];
        assert_eq!(said(&super::RULE, &files), Vec::<String>::new());

        let also = shared.replace("  workflow_call:", "  workflow_call:\n  push:");
        let files = [(".github/workflows/shared.yml", &*also)];
        assert_eq!(said(&super::RULE, &files).len(), 1, "a push starts it too");
    }
}
