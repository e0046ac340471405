//! What a README must answer.

use super::{Finding, Rule, markdown, tree::Tree};

pub(super) const RULE: Rule = Rule {
    name: "readme",
    promise: "a crate's README is its documentation and answers what every user asks",
    check,
};

/// Headings of every crate that stores something for its users.
const BRICK: &[&str] =
    &["Guarantees", "Limitations", "Keys written", "When Redis is down", "Server versions"];

/// What the crates that are no bricks answer.
fn headings(name: &str) -> &'static [&'static str] {
    match name {
        "redbrick" => &[],
        "macros" => &["Limitations"],
        "testkit" => &["Guarantees", "Limitations"],
        "core-conn" => &["Guarantees", "Limitations", "When Redis is down", "Server versions"],
        "cli" => &["Limitations", "Server versions"],
        _ => BRICK,
    }
}

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in tree.crates() {
        let path = format!("crates/{name}/README.md");
        // A missing README is another rule's finding.
        let Some(text) = tree.text(&path) else { continue };
        let present = markdown::headings(text);
        for heading in headings(name) {
            if !present.iter().any(|candidate| candidate.text == *heading) {
                findings.push(Finding::new(&path, format!("has no heading `{heading}`")));
            } else if markdown::section(text, heading)
                .unwrap_or_default()
                .iter()
                .all(|(_, line)| line.trim().is_empty())
            {
                findings.push(Finding::new(&path, format!("says nothing under `{heading}`")));
            }
        }
        let lib = format!("crates/{name}/src/lib.rs");
        if tree
            .text(&lib)
            .is_some_and(|text| !text.contains("#![doc = include_str!(\"../README.md\")]"))
        {
            findings.push(Finding::new(lib, "does not take the README as its documentation"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::said;

    const LIB: &str = "#![doc = include_str!(\"../README.md\")]\n";

    fn with(readme: &str, lib: &str) -> Vec<String> {
        said(
            &super::RULE,
            &[
                ("crates/x/Cargo.toml", ""),
                ("crates/x/README.md", readme),
                ("crates/x/src/lib.rs", lib),
            ],
        )
    }

    fn readme() -> String {
        super::BRICK.iter().map(|heading| format!("## {heading}\n\nText.\n\n")).collect()
    }

    #[test]
    fn is_content_when_every_question_is_answered() {
        assert_eq!(with(&readme(), LIB), Vec::<String>::new());
    }

    #[test]
    fn refuses_a_missing_and_an_empty_answer() {
        let missing = readme().replace("## Keys written", "## Keys");
        assert_eq!(with(&missing, LIB), ["crates/x/README.md: has no heading `Keys written`"]);
        let empty = readme().replacen("Text.", "", 1);
        assert_eq!(with(&empty, LIB), ["crates/x/README.md: says nothing under `Guarantees`"]);
    }

    #[test]
    fn refuses_a_readme_that_nobody_compiles() {
        assert_eq!(
            with(&readme(), "//! X\n"),
            ["crates/x/src/lib.rs: does not take the README as its documentation"]
        );
    }
}
