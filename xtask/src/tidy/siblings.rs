//! Which crate of ours may depend on which.

use super::{
    Finding, Rule,
    tree::{Dependency, Kind, Manifest, Tree},
};

pub(super) const RULE: Rule = Rule {
    name: "siblings",
    promise: "bricks share core-conn and nothing else, so that each can be used alone",
    check,
};

const BRAND: &str = "redbrick";
const CORE: &str = "redbrick-core-conn";
const MACROS: &str = "redbrick-macros";
const TESTKIT: &str = "redbrick-testkit";

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for manifest in tree.manifests() {
        let ours = manifest.dependencies();
        let ours = ours.iter().filter(|dependency| dependency.package.starts_with(BRAND));
        findings.extend(ours.filter_map(|dependency| refuse(&manifest, dependency)));
    }
    findings
}

fn refuse(manifest: &Manifest<'_>, dependency: &Dependency) -> Option<Finding> {
    let name = manifest.folder.strip_prefix("crates/").unwrap_or(manifest.folder);
    let on = dependency.package.as_str();
    let dev = dependency.kind == Kind::Dev;
    let rule = match name {
        // The facade and the operator's tool stand above all bricks; what is unpublished is nobody's dependency.
        "redbrick" | "cli" => return None,
        "xtask" => (on != TESTKIT).then_some("xtask needs servers only, from testkit"),
        _ if !manifest.is_published() => return None,
        "testkit" | "macros" => Some("it stands at the bottom and depends on no crate of ours"),
        "core-conn" => {
            (!dev || on != TESTKIT).then_some("of ours, only testkit, and only in dev-dependencies")
        }
        _ if dev => (![CORE, TESTKIT].contains(&on))
            .then_some("in tests, of ours, only core-conn and testkit"),
        _ if on == MACROS => (!dependency.optional).then_some("macros are optional"),
        _ => (on != CORE).then_some("only core-conn is shared"),
    }?;
    let kind = if dev { "in its dev-dependencies " } else { "" };
    Some(Finding::new(manifest.path, format!("{name} depends {kind}on {on}; {rule}")))
}

#[cfg(test)]
mod tests {
    use super::super::said;

    fn with(name: &str, dependencies: &str) -> Vec<String> {
        let path = format!("crates/{name}/Cargo.toml");
        said(
            &super::RULE,
            &[(&path, &format!("[package]\nname = \"redbrick-{name}\"\n{dependencies}"))],
        )
    }

    #[test]
    fn allows_what_a_brick_needs() {
        let dependencies = "[dependencies]\nredbrick-core-conn.workspace = true\nserde = \"1\"\n\
                            redbrick-macros = { workspace = true, optional = true }\n\
                            [dev-dependencies]\nredbrick-testkit.workspace = true";
        assert_eq!(with("lock", dependencies), Vec::<String>::new());
    }

    #[test]
    fn refuses_a_sibling() {
        let expected =
            "crates/lock/Cargo.toml: lock depends on redbrick-cache; only core-conn is shared";
        assert_eq!(with("lock", "[dependencies]\nredbrick-cache = \"0.1\""), [expected]);
        let renamed = "[dependencies]\nother = { package = \"redbrick-cache\", version = \"0.1\" }";
        assert_eq!(with("lock", renamed), [expected]);
        let on_unix = "[target.'cfg(unix)'.dependencies]\nredbrick-cache = \"0.1\"";
        assert_eq!(with("lock", on_unix), [expected]);
        assert_eq!(with("lock", "[dev-dependencies]\nredbrick-cache = \"0.1\"").len(), 1);
    }

    #[test]
    fn refuses_arrows_that_point_up() {
        assert_eq!(with("core-conn", "[dependencies]\nredbrick-testkit = \"0.1\"").len(), 1);
        assert_eq!(with("testkit", "[dev-dependencies]\nredbrick-core-conn = \"0.1\"").len(), 1);
        assert_eq!(with("macros", "[dependencies]\nredbrick-core-conn = \"0.1\"").len(), 1);
        assert_eq!(with("cache", "[dependencies]\nredbrick-macros = \"0.1\"").len(), 1);
        assert_eq!(with("cache", "[dependencies]\nredbrick-testkit = \"0.1\"").len(), 1);
    }
}
