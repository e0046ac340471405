//! The files that every crate has.

use super::{
    Finding, Rule,
    tree::{Tree, table},
};

pub(super) const RULE: Rule = Rule {
    name: "papers",
    promise: "each crate carries its README, changelog, license, description and integration tests; a change begins with \
              what kind it is",
    check,
};

/// The kinds of changes, the gravest first.
const KINDS: [&str; 7] =
    ["breaking", "security", "removed", "deprecated", "changed", "fixed", "added"];

const LICENSE: &str = "../../LICENSE";

/// The facade holds no logic, macros are tested by their users' builds: these need no integration tests of their own.
const NO_TESTS: [&str; 2] = ["redbrick", "macros"];

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in tree.crates() {
        let folder = format!("crates/{name}");
        let mut need = |file: &str, why: &str| {
            if !tree.holds(&format!("{folder}/{file}")) {
                findings
                    .push(Finding::new(format!("{folder}/{file}"), format!("is missing; {why}")));
            }
        };
        need("README.md", "it is the crate's documentation");
        need("CHANGELOG.md", "users read there what changed for them");
        if !NO_TESTS.contains(&name) {
            need("tests/it/main.rs", "integration tests are one binary, one file per behavior");
        }
        findings.extend(changes(tree, &folder));
        if tree
            .link(&format!("{folder}/LICENSE"))
            .is_none_or(|target| target.as_os_str() != LICENSE)
        {
            findings.push(Finding::new(
                format!("{folder}/LICENSE"),
                format!("is no link to {LICENSE}; the package would lack it"),
            ));
        }
    }
    for manifest in
        tree.manifests().iter().filter(|manifest| manifest.folder.starts_with("crates/"))
    {
        let package = table(manifest.table.get("package"));
        for field in ["description", "license", "rust-version"]
            .into_iter()
            .filter(|field| !package.contains_key(*field))
        {
            findings.push(Finding::new(manifest.path, format!("states no {field}")));
        }
    }
    findings
}

/// Changes without a bold verb, by which users look for what breaks them.
fn changes(tree: &Tree, folder: &str) -> Vec<Finding> {
    let path = format!("{folder}/CHANGELOG.md");
    let lines = tree.text(&path).unwrap_or_default().lines().enumerate();
    let is_bare = |line: &str| {
        line.strip_prefix("- ").is_some_and(|change| {
            !KINDS.iter().any(|kind| change.starts_with(&format!("**{kind}:** ")))
        })
    };
    lines
        .filter(|(_, line)| is_bare(line))
        .map(|(index, _)| {
            let what =
                format!("begins with none of {}, in bold and with a colon", KINDS.join(", "));
            Finding::new(&*path, what).line(index + 1)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::said;

    const MANIFEST: (&str, &str) = (
        "crates/x/Cargo.toml",
        "[package]\nname = \"x\"\ndescription = \"X\"\nlicense.workspace = true\nrust-version.workspace = true\n",
    );
    const FILES: [(&str, &str); 5] = [
        MANIFEST,
        ("crates/x/README.md", "# x"),
        ("crates/x/CHANGELOG.md", "# Changes"),
        ("crates/x/LICENSE", "-> ../../LICENSE"),
        ("crates/x/tests/it/main.rs", ""),
    ];

    #[test]
    fn is_content_with_a_complete_crate() {
        assert_eq!(said(&super::RULE, &FILES), Vec::<String>::new());
    }

    #[test]
    fn names_each_missing_file() {
        for (missing, _) in &FILES[1..] {
            let rest: Vec<_> = FILES.into_iter().filter(|(path, _)| path != missing).collect();
            let said = said(&super::RULE, &rest);
            assert!(said.len() == 1 && said[0].starts_with(missing), "{said:?}");
        }
    }

    #[test]
    fn wants_the_kind_of_each_change() {
        let mut files = FILES;
        files[2].1 = "# Changelog\n\n## Unreleased\n\n- **added:** a call\n  and more\n- a call\n- **new:** a call\n";
        let said = said(&super::RULE, &files);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("crates/x/CHANGELOG.md:7: begins with none of"), "{said:?}");
    }

    #[test]
    fn refuses_a_license_that_is_a_copy_and_a_crate_without_a_description() {
        let mut files = FILES;
        files[3] = ("crates/x/LICENSE", "MIT");
        assert!(said(&super::RULE, &files)[0].contains("is no link"));
        files[3] = FILES[3];
        files[0].1 = "[package]\nname = \"x\"\nlicense = \"MIT\"\nrust-version = \"1.88\"\n";
        assert_eq!(said(&super::RULE, &files), ["crates/x/Cargo.toml: states no description"]);
    }
}
