//! Links between pages lead somewhere.

use super::{Finding, Rule, markdown, tree::Tree};

pub(super) const RULE: Rule = Rule {
    name: "links",
    promise: "every relative link of a page leads to a file and a heading of this repository",
    check,
};

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts("", ".md") {
        for (line, content) in markdown::prose(text) {
            for link in markdown::links(&strip_code(content)) {
                // Rust paths in a README are links of rustdoc, which checks them by itself.
                let foreign =
                    link.contains("://") || link.starts_with("mailto:") || link.contains("::");
                if !foreign && !leads(tree, path, link) {
                    findings.push(
                        Finding::new(path, format!("links to {link}, which does not exist"))
                            .line(line),
                    );
                }
            }
        }
    }
    findings
}

fn leads(tree: &Tree, from: &str, link: &str) -> bool {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { from.to_owned() } else { resolve(from, file) };
    if !tree.holds(&target) && !target.is_empty() {
        // A bare word in a crate's page may be an item that rustdoc resolves.
        return !file.contains(['/', '.']) && from.starts_with("crates/") && anchor.is_empty();
    }
    anchor.is_empty()
        || tree.text(&target).is_some_and(|text| {
            markdown::headings(text).iter().any(|heading| markdown::anchor(heading.text) == anchor)
        })
}

/// The path from the root that a link from a file means.
fn resolve(from: &str, link: &str) -> String {
    let mut parts: Vec<_> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The line without what stands between backticks, where brackets are code.
fn strip_code(line: &str) -> String {
    let kept: Vec<_> = line.split('`').step_by(2).collect();
    kept.join("")
}

#[cfg(test)]
mod tests {
    use super::super::said;

    #[test]
    fn refuses_links_to_nowhere() {
        let files = [
            ("README.md", "[a](docs/A.md) [b](docs/A.md#here) [c](#top) [d](crates/x)\n\n# Top\n"),
            (
                "docs/A.md",
                "# Here\n[up](../README.md) [gone](B.md)\n[gone](../README.md#away) `[i](j.md)`\n",
            ),
            (
                "crates/x/README.md",
                "[`Conn`](Conn) [`get`](crate::Conn::get) [web](https://example.org/x)\n",
            ),
        ];
        assert_eq!(
            said(&super::RULE, &files),
            [
                "docs/A.md:2: links to B.md, which does not exist",
                "docs/A.md:3: links to ../README.md#away, which does not exist",
            ]
        );
    }
}
