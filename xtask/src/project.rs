//! Where the project is and which packages it has.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use xshell::{Shell, cmd};

use crate::failure::Failure;

/// The root folder of the work tree.
#[derive(Debug)]
pub(crate) struct Project {
    root: PathBuf,
}

/// A package of the workspace, as cargo sees it.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) features: Vec<String>,
    pub(crate) published: bool,
    pub(crate) rust_version: Option<String>,
}

impl Project {
    /// Finds the root from where cargo says this package is, so that a moved work tree is no trouble.
    pub(crate) fn find() -> Result<Self, Failure> {
        let manifest_dir = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        match manifest_dir.parent() {
            Some(root) if root.join("Cargo.toml").is_file() => Ok(Self { root: root.to_owned() }),
            _ => Err(Failure::new(
                "no workspace found; run this as `cargo xtask` inside the repository",
            )),
        }
    }

    /// A project of a test's own.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Every file that git tracks or would track, relative to the root and sorted; all files but `target` where the
    /// folder is no git work tree.
    pub(crate) fn files(&self) -> Result<Vec<String>, Failure> {
        let shell = self.shell()?;
        let listed = cmd!(shell, "git ls-files --cached --others --exclude-standard --deduplicate")
            .quiet()
            .ignore_stderr()
            .read();
        let mut files = match listed {
            // A file may be listed and deleted; a link may point nowhere and is still there.
            Ok(text) => text
                .lines()
                .filter(|file| self.root.join(file).symlink_metadata().is_ok())
                .map(str::to_owned)
                .collect(),
            Err(_) => {
                let mut files = Vec::new();
                self.walk(Path::new(""), &mut files)?;
                files
            }
        };
        files.sort();
        Ok(files)
    }

    /// Copies the files of [`Project::files`] into `folder`; links stay links.
    pub(crate) fn copy_to(&self, folder: &Path) -> Result<(), Failure> {
        for file in self.files()? {
            let (from, to) = (self.root.join(&file), folder.join(&file));
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            if from.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(&from)?, &to)?;
            } else {
                fs::copy(&from, &to)?;
            }
        }
        Ok(())
    }

    fn walk(&self, under: &Path, files: &mut Vec<String>) -> Result<(), Failure> {
        for entry in fs::read_dir(self.root.join(under))? {
            let entry = entry?;
            let path = under.join(entry.file_name());
            if !entry.file_type()?.is_dir() {
                files.push(path.to_string_lossy().into_owned());
            } else if entry.file_name() != "target" {
                self.walk(&path, files)?;
            }
        }
        Ok(())
    }

    /// A shell that stands in the root folder.
    pub(crate) fn shell(&self) -> Result<Shell, Failure> {
        let shell = Shell::new()?;
        shell.change_dir(&self.root);
        Ok(shell)
    }

    pub(crate) fn packages(&self) -> Result<Vec<Package>, Failure> {
        let shell = self.shell()?;
        let text = cmd!(shell, "cargo metadata --format-version 1 --no-deps").quiet().read()?;
        let metadata: Value = serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("`cargo metadata` printed no JSON: {error}")))?;
        Ok(array(&metadata["packages"]).map(Package::read).collect())
    }

    /// The oldest toolchain the workspace promises to build with, from `rust-version` in the root manifest.
    pub(crate) fn rust_version(&self) -> Result<String, Failure> {
        let packages = self.packages()?;
        packages.into_iter().find_map(|package| package.rust_version).ok_or_else(|| {
            Failure::new("no package states a rust-version; set it in [workspace.package]")
        })
    }
}

impl Package {
    fn read(value: &Value) -> Self {
        Self {
            name: value["name"].as_str().unwrap_or_default().to_owned(),
            features: value["features"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.clone())
                .collect(),
            published: value["publish"].as_array().is_none_or(|registries| !registries.is_empty()),
            rust_version: value["rust_version"].as_str().map(str::to_owned),
        }
    }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
