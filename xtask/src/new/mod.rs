//! `cargo xtask new`: the folder of a new crate, with the files that every crate has.

use std::{fs, os::unix::fs::symlink, path::Path};

use xshell::cmd;

use crate::{
    failure::{Failure, OrFail as _},
    flags,
    project::Project,
};

/// Files by their paths in the crate; `{{module}}` and the like are filled in, in paths and texts.
const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("templates/Cargo.toml.tmpl")),
    ("README.md", include_str!("templates/README.md.tmpl")),
    ("CHANGELOG.md", include_str!("templates/CHANGELOG.md.tmpl")),
    ("src/lib.rs", include_str!("templates/src/lib.rs.tmpl")),
    ("src/builder.rs", include_str!("templates/src/builder.rs.tmpl")),
    ("src/error.rs", include_str!("templates/src/error.rs.tmpl")),
    ("src/{{module}}.rs", include_str!("templates/src/service.rs.tmpl")),
    ("tests/it/main.rs", include_str!("templates/tests/main.rs.tmpl")),
    ("tests/it/ready.rs", include_str!("templates/tests/ready.rs.tmpl")),
];

/// Names that cannot be the name of a module, or that a brick has none of its own for.
const RESERVED: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "builder", "const", "continue",
    "core", "crate", "do", "dyn", "else", "enum", "error", "extern", "false", "final", "fn", "for",
    "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv",
    "pub", "ref", "return", "self", "static", "std", "struct", "super", "trait", "true", "try",
    "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

pub(crate) fn run(project: &Project, flags: &flags::New) -> Result<(), Failure> {
    let about =
        flags.about.clone().unwrap_or_else(|| format!("A Redis building block: {}", flags.name));
    let names = Names::read(&flags.name, &about)?;
    let folder = project.root().join("crates").join(&names.name);
    if folder.exists() {
        return Err(Failure::new(format!(
            "crates/{} exists already; choose another name",
            names.name
        )));
    }

    write(project.root(), &names)?;

    // Names have lengths of their own, so only rustfmt knows where the lines break.
    let shell = project.shell()?;
    let package = format!("redbrick-{}", names.name);
    cmd!(shell, "cargo fmt --package {package}")
        .quiet()
        .run()
        .or_fail("the new crate cannot be formatted")?;
    println!(
        "made crates/{name}; next:\n  cargo test --package {package}\n  cargo xtask tidy\nThen give it rows in \
         docs/FEATURES.md, a line in [workspace.dependencies] and a feature in crates/redbrick.",
        name = names.name
    );
    Ok(())
}

/// Writes the crate's files and its lines in the pages that list all crates.
fn write(root: &Path, names: &Names) -> Result<(), Failure> {
    let folder = root.join("crates").join(&names.name);
    for (path, text) in FILES {
        let path = folder.join(names.fill(path));
        fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        fs::write(path, names.fill(text))?;
    }
    symlink("../../LICENSE", folder.join("LICENSE"))?;
    append(&root.join("docs/KEYS.md"), &names.fill("\n## {{name}}\n\n{{name}} writes no keys.\n"))?;
    append(
        &root.join("CHANGELOG.md"),
        &names.fill("- [{{name}}](crates/{{name}}/CHANGELOG.md): {{about}}\n"),
    )?;
    Ok(())
}

/// The ways in which the crate is named.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    name: String,
    module: String,
    type_name: String,
    about: String,
}

impl Names {
    fn read(name: &str, about: &str) -> Result<Self, Failure> {
        let letters =
            name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        let parts: Vec<_> = name.split('-').collect();
        let begun = parts.iter().all(|part| part.starts_with(|c: char| c.is_ascii_lowercase()));
        if !letters || !begun || RESERVED.contains(&name) {
            return Err(Failure::new(format!(
                "`{name}` cannot be the name of a crate; take a word of lower-case letters, such as `jobs`"
            )));
        }
        let about = about.trim().trim_end_matches('.');
        if about.is_empty() || about.contains(['"', '\\', '\n']) {
            return Err(Failure::new(
                "--about is one sentence that says what the crate does for its users",
            ));
        }
        let capital = |part: &&str| part[..1].to_ascii_uppercase() + &part[1..];
        Ok(Self {
            name: name.to_owned(),
            module: name.replace('-', "_"),
            type_name: parts.iter().map(capital).collect(),
            about: about.to_owned(),
        })
    }

    fn fill(&self, text: &str) -> String {
        text.replace("{{name}}", &self.name)
            .replace("{{module}}", &self.module)
            .replace("{{type}}", &self.type_name)
            .replace("{{about}}", &self.about)
    }
}

fn append(path: &Path, text: &str) -> Result<(), Failure> {
    let before = fs::read_to_string(path)?;
    fs::write(path, before + text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{FILES, Names, write};
    use crate::{project::Project, tidy};

    #[test]
    fn derives_the_names_of_module_and_type() {
        let names = Names::read("feature-flags", "Flags that change without a restart.")
            .expect("a good name");
        assert_eq!(
            (names.module.as_str(), names.type_name.as_str()),
            ("feature_flags", "FeatureFlags")
        );
        assert_eq!(names.about, "Flags that change without a restart");
    }

    #[test]
    fn refuses_names_that_are_none() {
        for name in ["", "Jobs", "type", "a b", "1st", "a--b", "-a", "../x", "a_b"] {
            assert!(Names::read(name, "Does").is_err(), "{name}");
        }
        assert!(Names::read("jobs", " ").is_err());
    }

    #[test]
    fn leaves_no_placeholder() {
        let names = Names::read("jobs", "Work that is done later").expect("a good name");
        for (path, text) in FILES {
            let filled = names.fill(path) + &names.fill(text);
            assert!(!filled.contains("{{"), "{filled}");
        }
    }

    #[test]
    fn its_error_answers_what_every_brick_is_asked() {
        let text = FILES.iter().find(|(path, _)| *path == "src/error.rs").expect("an error").1;
        for question in ["is_retryable", "is_timeout", "is_outcome_unknown"] {
            assert!(text.contains(&format!("pub fn {question}(&self) -> bool")), "{question}");
            assert!(
                text.contains(&format!("Self::Conn(error) => error.{question}()")),
                "{question}"
            );
        }
    }

    #[test]
    fn makes_a_crate_that_tidy_has_nothing_against() {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in
            [("docs/KEYS.md", "# Keys\n"), ("CHANGELOG.md", "# Changes\n\n"), ("LICENSE", "MIT")]
        {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        let names = Names::read("feature-flags", "Flags that change without a restart")
            .expect("a good name");
        write(root.path(), &names).expect("the crate is written");

        let findings = tidy::findings(&Project::at(root.path())).expect("the folder is read");

        let about_it: Vec<_> =
            findings.iter().filter(|finding| finding.contains("feature-flags")).collect();
        assert!(about_it.is_empty(), "{about_it:#?}");
        assert!(
            findings.iter().all(|finding| !finding.starts_with("CHANGELOG.md")),
            "{findings:#?}"
        );
    }
}
