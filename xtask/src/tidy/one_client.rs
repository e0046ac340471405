//! One crate speaks to the Redis client library.

use super::{Finding, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule {
    name: "one_client",
    promise: "only core-conn speaks fred, so that its hazards are contained in one place",
    check,
};

/// core-conn is built on it; the benchmarks measure against it, and nobody depends on them.
const MAY: [&str; 2] = ["crates/core-conn", "benches"];

fn check(tree: &Tree) -> Vec<Finding> {
    tree.manifests()
        .iter()
        .filter(|manifest| !MAY.contains(&manifest.folder))
        .filter(|manifest| {
            manifest.dependencies().iter().any(|dependency| dependency.package == "fred")
        })
        .map(|manifest| {
            Finding::new(
                manifest.path,
                "depends on fred; ask core-conn for the call that is missing",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::said;

    #[test]
    fn refuses_a_second_user_of_fred() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\nfred.workspace = true";
        let dev = "[package]\nname = \"x\"\n[dev-dependencies]\nclient = { package = \"fred\", version = \"10\" }";
        let files = [
            ("crates/core-conn/Cargo.toml", manifest),
            ("crates/cache/Cargo.toml", manifest),
            ("crates/lock/Cargo.toml", dev),
        ];
        let said = said(&super::RULE, &files);
        assert_eq!(said.len(), 2);
        assert!(said[0].starts_with("crates/cache/Cargo.toml: depends on fred"), "{said:?}");
    }
}
