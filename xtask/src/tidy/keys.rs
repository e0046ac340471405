//! Every key pattern is listed in one place.

use super::{Finding, Rule, markdown, tree::Tree};

pub(super) const RULE: Rule = Rule {
    name: "keys",
    promise: "docs/KEYS.md lists each pattern and script of each crate, as the READMEs do",
    check,
};

const PAGE: &str = "docs/KEYS.md";
const README_SECTION: &str = "Keys written";

/// What every pattern begins with.
const PREFIX: &str = "prefix:";

fn check(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.text(PAGE) else {
        return vec![Finding::new(PAGE, "is missing")];
    };
    let mut findings = Vec::new();
    for name in tree.crates() {
        let scripts = format!("crates/{name}/src/lua/");
        let scripts: Vec<_> =
            tree.texts(&scripts, ".lua").filter_map(|(path, _)| path.rsplit('/').next()).collect();
        let readme = format!("crates/{name}/README.md");
        let written = tree.text(&readme).and_then(|text| markdown::section(text, README_SECTION));
        let listed = markdown::section(page, name);
        let (written, listed) = match (written, listed) {
            (None, None) if scripts.is_empty() => continue,
            (_, None) => {
                findings.push(Finding::new(PAGE, format!("has no section `{name}`")));
                continue;
            }
            (written, Some(listed)) => (written.unwrap_or_default(), listed),
        };
        for script in scripts {
            if !listed.iter().any(|(_, line)| markdown::code(line).contains(&script)) {
                findings.push(Finding::new(
                    PAGE,
                    format!("names no key of `{script}` in section `{name}`"),
                ));
            }
        }
        let (written, listed) = (patterns(&written), patterns(&listed));
        for pattern in written.iter().filter(|pattern| !listed.contains(pattern)) {
            findings.push(Finding::new(
                PAGE,
                format!("lacks `{pattern}` of {readme} in section `{name}`"),
            ));
        }
        for pattern in listed.iter().filter(|pattern| !written.contains(pattern)) {
            findings.push(Finding::new(
                &readme,
                format!("lacks `{pattern}` of {PAGE} under `{README_SECTION}`"),
            ));
        }
    }
    findings
}

fn patterns<'a>(lines: &[(usize, &'a str)]) -> Vec<&'a str> {
    lines
        .iter()
        .flat_map(|(_, line)| markdown::code(line))
        .filter(|code| code.starts_with(PREFIX))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::said;

    const PAGE: &str =
        "# Keys\n\n## lock\n\n| `prefix:lock:name` | string | lease | `acquire.lua` |\n";
    const README: &str = "# lock\n\n## Keys written\n\n`prefix:lock:name`, a string.\n";

    fn with(page: &str, readme: &str) -> Vec<String> {
        let files = [
            ("docs/KEYS.md", page),
            ("crates/lock/Cargo.toml", ""),
            ("crates/lock/README.md", readme),
            ("crates/lock/src/lua/acquire.lua", ""),
        ];
        said(&super::RULE, &files)
    }

    #[test]
    fn is_content_when_page_readme_and_scripts_agree() {
        assert_eq!(with(PAGE, README), Vec::<String>::new());
    }

    #[test]
    fn refuses_a_pattern_that_only_one_of_them_knows() {
        let more =
            README.replace("`prefix:lock:name`", "`prefix:lock:name`, `prefix:lock:name:queue`");
        assert!(with(PAGE, &more)[0].contains("docs/KEYS.md: lacks `prefix:lock:name:queue`"));
        let other = README.replace("`prefix:lock:name`", "`prefix:lock:id`");
        assert_eq!(with(PAGE, &other).len(), 2);
    }

    #[test]
    fn refuses_an_unlisted_script_and_a_missing_section() {
        assert!(
            with(&PAGE.replace("`acquire.lua`", "lock"), README)[0]
                .contains("no key of `acquire.lua`")
        );
        assert!(with("# Keys\n", README)[0].contains("has no section `lock`"));
    }
}
