//! The shape of manifests.

use toml::Value;

use super::{
    Finding, Rule,
    tree::{Tree, table},
};

pub(super) const RULE: Rule = Rule {
    name: "manifest",
    promise: "manifests are sorted, inherit from the workspace, and let users mix our crates across patch releases",
    check,
};

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(text) = tree.text("Cargo.toml") {
        findings.extend(unsorted("Cargo.toml", text));
        findings.extend(loose_versions(tree));
    }
    for manifest in tree.manifests() {
        findings.extend(unsorted(manifest.path, tree.text(manifest.path).unwrap_or_default()));
        if table(manifest.table.get("lints")).get("workspace") != Some(&Value::Boolean(true)) {
            findings.push(Finding::new(
                manifest.path,
                "does not take the workspace's lints; add `[lints] workspace = true`",
            ));
        }
        for dependency in manifest.dependencies() {
            if dependency.value.get("workspace") != Some(&Value::Boolean(true)) {
                let what =
                    format!("{} is not taken from [workspace.dependencies]", dependency.package);
                findings.push(Finding::new(manifest.path, what));
            }
        }
    }
    findings
}

/// Our own crates: a plain version, which cargo reads as a caret, and no default features.
fn loose_versions(tree: &Tree) -> Vec<Finding> {
    let dependencies = table(table(tree.workspace().get("workspace")).get("dependencies"));
    let ours = dependencies.iter().filter(|(_, value)| value.get("path").is_some());
    ours.filter_map(|(name, value)| {
        let version = value.get("version").and_then(Value::as_str).unwrap_or_default();
        let caret = version.starts_with(|c: char| c.is_ascii_digit())
            && !version.contains(['*', ',', '<', '>']);
        let bare = value.get("default-features") == Some(&Value::Boolean(false));
        let what = match (caret, bare) {
            (true, true) => return None,
            (false, _) => {
                format!("{name} needs a version such as \"0.1.0\", with neither `=` nor `*`")
            }
            (true, false) => format!(
                "{name} needs `default-features = false`; crates choose features, not the workspace"
            ),
        };
        Some(Finding::new("Cargo.toml", what))
    })
    .collect()
}

/// Names within a block of a dependency or lint table go up; a blank line, a comment or a table begins a new block.
fn unsorted(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (mut watched, mut last) = (false, String::new());
    for (index, line) in text.lines().enumerate() {
        if let Some(header) = line.strip_prefix('[') {
            watched = header.contains("dependencies]") || header.contains("lints.");
            last.clear();
        } else if line.trim().is_empty() || line.starts_with('#') {
            last.clear();
        } else if let Some((name, _)) = line.split_once(['=', '.', ' '])
            && watched
            && !line.starts_with([' ', '\t', ']', '}'])
        {
            if name < last.as_str() {
                findings.push(
                    Finding::new(path, format!("`{name}` comes after `{last}`; sort the block"))
                        .line(index + 1),
                );
            }
            name.clone_into(&mut last);
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::said;

    const GOOD: &str = "[package]\nname = \"x\"\n[lints]\nworkspace = true\n[dependencies]\na.workspace = true\nb.workspace = true\n";

    #[test]
    fn refuses_an_unsorted_block() {
        assert_eq!(said(&super::RULE, &[("crates/x/Cargo.toml", GOOD)]), Vec::<String>::new());
        let swapped =
            GOOD.replace("a.workspace = true\nb.workspace", "b.workspace = true\na.workspace");
        let expected = "crates/x/Cargo.toml:7: `a` comes after `b`; sort the block";
        assert_eq!(said(&super::RULE, &[("crates/x/Cargo.toml", &swapped)]), [expected]);
    }

    #[test]
    fn refuses_lints_and_versions_of_a_crates_own() {
        let lints = GOOD.replace("[lints]\nworkspace = true\n", "");
        assert!(
            said(&super::RULE, &[("crates/x/Cargo.toml", &lints)])[0].contains("workspace's lints")
        );
        let version = GOOD.replace("a.workspace = true", "a = \"1\"");
        assert!(
            said(&super::RULE, &[("crates/x/Cargo.toml", &version)])[0]
                .contains("a is not taken from")
        );
    }

    #[test]
    fn refuses_exact_and_missing_versions_of_our_crates() {
        let root = |value: &str| {
            let text =
                format!("[workspace.dependencies]\nours = {{ path = \"crates/ours\", {value} }}\n");
            said(&super::RULE, &[("Cargo.toml", &text)])
        };
        assert_eq!(root("version = \"0.1.0\", default-features = false"), Vec::<String>::new());
        assert!(
            root("version = \"=0.1.0\", default-features = false")[0]
                .contains("neither `=` nor `*`")
        );
        assert!(root("default-features = false")[0].contains("needs a version"));
        assert!(root("version = \"0.1.0\"")[0].contains("default-features = false"));
    }
}
