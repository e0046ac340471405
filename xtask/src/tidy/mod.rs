//! `cargo xtask tidy`: the rules of this repository that no other tool knows, one file per rule.

mod ci_run;
mod features;
mod keys;
mod links;
mod lua;
mod manifest;
mod markdown;
mod one_client;
mod papers;
mod paths;
mod readme;
mod rust;
mod siblings;
mod tree;
mod words;
mod workflows;

use std::fmt;

use crate::{failure::Failure, project::Project};
use tree::Tree;

/// A rule: what it is called, what it keeps true, and what it finds against that.
#[derive(Debug)]
struct Rule {
    name: &'static str,
    promise: &'static str,
    check: fn(&Tree) -> Vec<Finding>,
}

/// One place where a rule is broken, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: Option<usize>,
    what: String,
}

const RULES: &[Rule] = &[
    siblings::RULE,
    one_client::RULE,
    manifest::RULE,
    papers::RULE,
    readme::RULE,
    lua::RULE,
    keys::RULE,
    features::RULE,
    links::RULE,
    paths::RULE,
    words::RULE,
    workflows::RULE,
    ci_run::RULE,
];

pub(crate) fn run(project: &Project) -> Result<(), Failure> {
    let tree = Tree::read(project)?;
    let mut broken = Vec::new();
    for rule in RULES {
        let findings = (rule.check)(&tree);
        if !findings.is_empty() {
            eprintln!("\n{}: {}", rule.name, rule.promise);
            findings.iter().for_each(|finding| eprintln!("  {finding}"));
            broken.push(rule.name);
        }
    }
    if broken.is_empty() {
        println!("tidy: {} rules hold for {} files", RULES.len(), tree.len());
        return Ok(());
    }
    Err(Failure::new(format!("rules are broken: {}", broken.join(", "))).repeat("cargo xtask tidy"))
}

impl Finding {
    fn new(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self { path: path.into(), line: None, what: what.into() }
    }

    /// Names a line, counted from 1.
    fn line(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.what),
            None => write!(f, "{}: {}", self.path, self.what),
        }
    }
}

/// What all rules say about a project, for tests of what writes files.
#[cfg(test)]
pub(crate) fn findings(project: &Project) -> Result<Vec<String>, Failure> {
    let tree = Tree::read(project)?;
    Ok(RULES
        .iter()
        .flat_map(|rule| (rule.check)(&tree))
        .map(|finding| finding.to_string())
        .collect())
}

/// What a rule says about a tree made of the given files, as text, for the rules' own tests.
#[cfg(test)]
fn said(rule: &Rule, files: &[(&str, &str)]) -> Vec<String> {
    (rule.check)(&Tree::of(files)).iter().map(ToString::to_string).collect()
}
