//! The files of the repository in memory, so that rules need no disk and tests can invent trees.

use std::{collections::BTreeMap, fs, path::PathBuf};

use toml::{Table, Value};

use crate::{failure::Failure, project::Project};

/// Every tracked file by its path from the root.
#[derive(Debug, Default)]
pub(super) struct Tree {
    root: Option<PathBuf>,
    files: BTreeMap<String, Entry>,
}

#[derive(Debug)]
enum Entry {
    Text(String),
    Link(PathBuf),
    Binary,
}

/// The manifest of a package of the workspace.
#[derive(Debug)]
pub(super) struct Manifest<'a> {
    /// The manifest's own path.
    pub(super) path: &'a str,
    /// The folder's path, such as `crates/cache`.
    pub(super) folder: &'a str,
    pub(super) table: Table,
}

/// A dependency as a manifest names it.
#[derive(Debug)]
pub(super) struct Dependency {
    pub(super) package: String,
    pub(super) kind: Kind,
    pub(super) optional: bool,
    pub(super) value: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Dev,
    Build,
}

impl Tree {
    pub(super) fn read(project: &Project) -> Result<Self, Failure> {
        let mut files = BTreeMap::new();
        for path in project.files()? {
            let full = project.root().join(&path);
            let entry = if full.is_symlink() {
                Entry::Link(fs::read_link(&full)?)
            } else {
                String::from_utf8(fs::read(&full)?).map_or(Entry::Binary, Entry::Text)
            };
            files.insert(path, entry);
        }
        Ok(Self { root: Some(project.root().to_owned()), files })
    }

    /// A tree of invented files; a text that begins with `-> ` makes a link.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let entry = |text: &str| match text.strip_prefix("-> ") {
            Some(target) => Entry::Link(target.into()),
            None => Entry::Text(text.to_owned()),
        };
        Self {
            root: None,
            files: files.iter().map(|(path, text)| ((*path).to_owned(), entry(text))).collect(),
        }
    }

    pub(super) fn root(&self) -> Option<&PathBuf> {
        self.root.as_ref()
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is such a file, or a folder that holds one.
    pub(super) fn holds(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&folder))
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        match self.files.get(path)? {
            Entry::Text(text) => Some(text),
            Entry::Link(_) | Entry::Binary => None,
        }
    }

    pub(super) fn link(&self, path: &str) -> Option<&PathBuf> {
        match self.files.get(path)? {
            Entry::Link(target) => Some(target),
            Entry::Text(_) | Entry::Binary => None,
        }
    }

    /// Text files below a folder (`""` is the root) whose names end so.
    pub(super) fn texts<'a>(
        &'a self,
        under: &'a str,
        end: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.starts_with(under) && path.ends_with(end))
            .filter_map(|(path, entry)| match entry {
                Entry::Text(text) => Some((path.as_str(), text.as_str())),
                Entry::Link(_) | Entry::Binary => None,
            })
    }

    /// Every package's manifest; the root's is [`Tree::workspace`]. One that cannot be parsed is cargo's to report.
    pub(super) fn manifests(&self) -> Vec<Manifest<'_>> {
        self.texts("", "/Cargo.toml")
            .filter_map(|(path, text)| {
                let table: Table = text.parse().ok()?;
                let folder = path.strip_suffix("/Cargo.toml")?;
                table.contains_key("package").then_some(Manifest { path, folder, table })
            })
            .collect()
    }

    pub(super) fn workspace(&self) -> Table {
        self.text("Cargo.toml").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// The folders directly below `crates` that hold a package.
    pub(super) fn crates(&self) -> Vec<&str> {
        self.files
            .keys()
            .filter_map(|path| path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml"))
            .filter(|name| !name.contains('/'))
            .collect()
    }
}

impl Manifest<'_> {
    pub(super) fn dependencies(&self) -> Vec<Dependency> {
        let mut all = Vec::new();
        read_dependencies(&self.table, &mut all);
        for target in table(self.table.get("target")).values() {
            read_dependencies(&table(Some(target)), &mut all);
        }
        all
    }

    pub(super) fn is_published(&self) -> bool {
        table(self.table.get("package")).get("publish").and_then(Value::as_bool) != Some(false)
    }
}

/// The value as a table, empty when it is none.
pub(super) fn table(value: Option<&Value>) -> Table {
    value.and_then(Value::as_table).cloned().unwrap_or_default()
}

fn read_dependencies(from: &Table, all: &mut Vec<Dependency>) {
    let kinds = [
        ("dependencies", Kind::Normal),
        ("dev-dependencies", Kind::Dev),
        ("build-dependencies", Kind::Build),
    ];
    for (section, kind) in kinds {
        for (name, value) in table(from.get(section)) {
            let package = value.get("package").and_then(Value::as_str).unwrap_or(&name).to_owned();
            let optional = value.get("optional").and_then(Value::as_bool).unwrap_or(false);
            all.push(Dependency { package, kind, optional, value });
        }
    }
}
