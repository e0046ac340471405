//! Words that have no place in finished code.

use super::{Finding, Rule, rust, tree::Tree};

pub(super) const RULE: Rule = Rule {
    name: "words",
    promise: "nothing is skipped, left to do, slept through or answered by walking all keys",
    check,
};

/// The rules themselves name what they refuse.
const RULES: &str = "xtask/src/tidy/";

const REFUSED: &[(&str, &str)] = &[
    ("#[ignore", "a test runs or is removed"),
    ("todo!(", "finish it or leave it out"),
    ("unimplemented!(", "finish it or leave it out"),
    ("dbg!(", "use tracing or remove it"),
    ("(\"KEYS\"", "the command blocks the server while it walks all keys; use SCAN"),
    ("[\"KEYS\"", "the command blocks the server while it walks all keys; use SCAN"),
    ("[b\"KEYS\"", "the command blocks the server while it walks all keys; use SCAN"),
    ("('KEYS'", "the command blocks the server while it walks all keys; use SCAN"),
    ("#[allow(", "write #[expect(…, reason = \"…\")], which says why and ends with its cause"),
    ("#![allow(", "write #![expect(…, reason = \"…\")], which says why and ends with its cause"),
];

const SLEEPS: [&str; 2] = ["sleep(", "sleep_until("];
const PERMIT: &str = "clippy::disallowed_methods";

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree
        .texts("", ".rs")
        .chain(tree.texts("", ".lua"))
        .filter(|(path, _)| !path.starts_with(RULES))
    {
        for (line, code) in rust::code_lines(text) {
            for (word, instead) in REFUSED.iter().filter(|(word, _)| code.contains(word)) {
                findings.push(Finding::new(path, format!("`{word}`: {instead}")).line(line));
            }
        }
        findings.extend(sleeps(path, text));
    }
    findings.extend(permits(tree));
    findings
}

/// In tests, a sleep stands only below a permit, which clippy asks for and of which a crate has one.
fn sleeps(path: &str, text: &str) -> Vec<Finding> {
    let is_test = path.contains("/tests/") || path.contains("/benches/");
    let calls = |code: &str| SLEEPS.iter().any(|call| code.contains(call));
    if !is_test || text.contains(PERMIT) {
        return Vec::new();
    }
    let lines = rust::code_lines(text).filter(|(_, code)| calls(code));
    lines
        .map(|(line, _)| {
            Finding::new(path, "sleeps; await the event, or move the clock").line(line)
        })
        .collect()
}

/// One helper per crate may wait for an outside process: one permit in its sources and one in its tests.
fn permits(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in tree.manifests().iter().map(|manifest| manifest.folder) {
        for part in ["src", "tests"] {
            let part = format!("{folder}/{part}/");
            let mut places = Vec::new();
            for (path, text) in
                tree.texts(&part, ".rs").filter(|(path, _)| !path.starts_with(RULES))
            {
                places.extend(
                    rust::code_lines(text)
                        .filter(|(_, code)| code.contains(PERMIT))
                        .map(|(line, _)| (path, line)),
                );
            }
            let more = places.into_iter().skip(1);
            findings.extend(more.map(|(path, line)| {
                Finding::new(
                    path,
                    format!("a second `{PERMIT}` in {part}; call the helper that has the first"),
                )
                .line(line)
            }));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{super::said, REFUSED};

    #[test]
    fn refuses_each_word_in_code_and_none_in_comments() {
        for (word, _) in REFUSED {
            let code = format!("fn x() {{\n    {word}\n}}\n");
            let said_code = said(&super::RULE, &[("crates/x/src/a.rs", &code)]);
            assert!(
                said_code.len() == 1 && said_code[0].starts_with("crates/x/src/a.rs:2"),
                "{word}: {said_code:?}"
            );
            let comment = format!("// {word}\n");
            assert_eq!(
                said(&super::RULE, &[("crates/x/src/a.rs", &comment)]),
                Vec::<String>::new()
            );
        }
    }

    #[test]
    fn refuses_a_sleep_in_a_test() {
        let code = "async fn waits() {\n    tokio::time::sleep(PAUSE).await;\n}\n";
        assert_eq!(
            said(
                &super::RULE,
                &[("crates/x/tests/it/a.rs", code), ("crates/x/src/timer.rs", code)]
            ),
            ["crates/x/tests/it/a.rs:2: sleeps; await the event, or move the clock"]
        );
    }

    #[test]
    fn allows_one_permit_per_crate() {
        let wait = "#[expect(clippy::disallowed_methods, reason = \"…\")]\nfn wait() { std::thread::sleep(PAUSE) }\n";
        let manifest = ("crates/x/Cargo.toml", "[package]\nname = \"x\"\n");
        assert_eq!(
            said(&super::RULE, &[manifest, ("crates/x/tests/it/wait.rs", wait)]),
            Vec::<String>::new()
        );
        let said = said(
            &super::RULE,
            &[manifest, ("crates/x/tests/it/wait.rs", wait), ("crates/x/tests/it/z.rs", wait)],
        );
        assert!(said[0].starts_with("crates/x/tests/it/z.rs:1: a second"), "{said:?}");
    }
}
