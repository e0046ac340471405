//! Files speak of no machine and no mirror.

use super::{Finding, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule {
    name: "paths",
    promise: "no file names a package registry's host or a folder of one machine",
    check,
};

/// Hosts are in two parts, so that this file obeys its own rule.
const HOSTS: &[(&str, &str)] = &[
    ("crates", ".io"),
    ("debian", ".org"),
    ("ubuntu", ".com"),
    ("fedoraproject", ".org"),
    ("alpinelinux", ".org"),
    ("pypi", ".org"),
    ("pythonhosted", ".org"),
    ("npmjs", ".org"),
    ("npmjs", ".com"),
    ("golang", ".org"),
    ("rubygems", ".org"),
    ("maven", ".org"),
    ("ghcr", ".io"),
    ("docker", ".io"),
    ("docker", ".com"),
    ("quay", ".io"),
];

const HOMES: &[(&str, &str)] = &[("/home", "/"), ("/Users", "/"), ("/root", "/")];

/// A place that is the same on every machine that has it.
const COMMON: &str = "linuxbrew";

fn check(tree: &Tree) -> Vec<Finding> {
    let here =
        tree.root().map(|root| root.to_string_lossy().into_owned()).filter(|root| root.len() > 1);
    let mut findings = Vec::new();
    // The lock file names the registry in a form that cargo dictates.
    for (path, text) in tree.texts("", "").filter(|(path, _)| !path.ends_with("Cargo.lock")) {
        for (index, line) in text.lines().enumerate() {
            let mut say = |what: String| findings.push(Finding::new(path, what).line(index + 1));
            for (name, end) in HOSTS {
                if line.contains(&format!("{name}{end}")) {
                    say(format!(
                        "names {name}{end}; a machine's own configuration says where packages come from"
                    ));
                }
            }
            for (home, slash) in HOMES {
                let start = format!("{home}{slash}");
                let mut places = line
                    .match_indices(&start)
                    .map(|(at, _)| (&line[..at], &line[at + start.len()..]));
                let own = |before: &str| {
                    !before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '}' | '.' | '_'))
                };
                if places.any(|(before, after)| own(before) && !after.starts_with(COMMON)) {
                    say(format!("names a folder below {home}, which other machines do not have"));
                }
            }
            if here.as_ref().is_some_and(|here| line.contains(here)) {
                say("names the folder of this work tree".to_owned());
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{super::said, HOMES, HOSTS};

    #[test]
    fn refuses_each_host_and_home() {
        for (start, end) in HOSTS.iter().chain(HOMES) {
            let text = format!("first\nsee {start}{end}x\n");
            let said = said(&super::RULE, &[("docs/a.md", &text)]);
            assert!(
                said.len() == 1 && said[0].starts_with("docs/a.md:2: names"),
                "{text:?}: {said:?}"
            );
        }
    }

    #[test]
    fn allows_paths_that_every_machine_has_and_relative_ones() {
        let text = format!(
            "/usr/bin /opt/homebrew/bin {}{}linuxbrew/bin docs{}{}x",
            "/home", "/", "/root", "/"
        );
        assert_eq!(said(&super::RULE, &[("a.rs", &text)]), Vec::<String>::new());
    }
}
