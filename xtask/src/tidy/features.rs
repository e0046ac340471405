//! The list of features, and what proves each of them.

use super::{Finding, Rule, markdown, rust, tree::Tree};

pub(super) const RULE: Rule = Rule {
    name: "features",
    promise: "docs/FEATURES.md loses no row, and a row that is done names a call, a test and a page that exist",
    check,
};

const PAGE: &str = "docs/FEATURES.md";
/// What stands in the cells of a row that is not done, alone or with what is missing behind it: `planned: macros`.
const PLANNED: &str = "planned";
const COLUMNS: [&str; 5] = ["id", "feature", "call", "test", "page"];

fn check(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(PAGE) else {
        return vec![Finding::new(PAGE, "is missing")];
    };
    let mut check = Check { tree, findings: Vec::new(), letters: Vec::new() };
    let sections: Vec<_> =
        markdown::headings(text).into_iter().filter(|heading| heading.level == 2).collect();
    if sections.is_empty() {
        check.say(1, "has no section".to_owned());
    }
    for heading in sections {
        check.section(&heading, &markdown::section(text, heading.text).unwrap_or_default());
    }
    check.findings
}

struct Check<'a> {
    tree: &'a Tree,
    findings: Vec<Finding>,
    /// The letters of ids seen, one per section.
    letters: Vec<String>,
}

impl Check<'_> {
    fn say(&mut self, line: usize, what: String) {
        self.findings.push(Finding::new(PAGE, what).line(line));
    }

    /// `## lock (13 rows)` states how many rows its table has, so that none is lost unnoticed.
    fn section(&mut self, heading: &markdown::Heading<'_>, lines: &[(usize, &str)]) {
        let stated = heading.text.split_once(" (").and_then(|(name, rest)| {
            let count = rest.strip_suffix(" rows)").or_else(|| rest.strip_suffix(" row)"))?;
            Some((name, count.parse::<usize>().ok()?))
        });
        let Some((name, count)) = stated else {
            return self.say(
                heading.line,
                format!(
                    "`{}` does not state its number of rows, as in `lock (13 rows)`",
                    heading.text
                ),
            );
        };
        let mut rows =
            lines.iter().filter_map(|(line, text)| Some((*line, markdown::cells(text)?)));
        if rows.next().is_none_or(|(_, cells)| cells != COLUMNS) {
            return self.say(
                heading.line,
                format!("the table of `{name}` has not the columns {}", COLUMNS.join(", ")),
            );
        }
        let rows: Vec<_> = rows.collect();
        if rows.len() != count {
            self.say(
                heading.line,
                format!(
                    "`{name}` states {count} rows and has {}; rows are never deleted",
                    rows.len()
                ),
            );
        }
        let letter: String = rows
            .first()
            .map_or("", |(_, cells)| cells[0])
            .chars()
            .take_while(char::is_ascii_alphabetic)
            .collect();
        if letter.is_empty() || self.letters.contains(&letter) {
            self.say(
                heading.line,
                format!("`{name}` needs ids with a letter of its own, as in `L1`"),
            );
        }
        for (index, (line, cells)) in rows.iter().enumerate() {
            let id = format!("{letter}{}", index + 1);
            match cells.as_slice() {
                [found, ..] if *found != id => self.say(
                    *line,
                    format!("`{found}` stands where {id} belongs; ids are stable and without gaps"),
                ),
                [_, feature, call, test, page] => {
                    self.row(*line, name, &id, feature, [call, test, page]);
                }
                _ => self
                    .say(*line, format!("{id} has {} cells, not {}", cells.len(), COLUMNS.len())),
            }
        }
        self.letters.push(letter);
    }

    fn row(&mut self, line: usize, name: &str, id: &str, feature: &str, proof: [&str; 3]) {
        if feature.is_empty() {
            self.say(line, format!("{id} says no feature"));
        }
        let is_planned = |cell: &&&str| **cell == PLANNED || cell.starts_with("planned: ");
        match proof.iter().filter(is_planned).count() {
            3 if proof.iter().all(|cell| *cell == proof[0]) => return,
            0 => {}
            _ => {
                return self.say(
                    line,
                    format!("{id} is half planned; it is planned in all three cells or in none"),
                );
            }
        }
        let [call, test, page] = proof;
        let (calls, tests, pages) =
            (markdown::code(call), markdown::code(test), markdown::links(page));
        for (cells, what) in [
            (&calls, "call, in backticks"),
            (&tests, "test, in backticks"),
            (&pages, "page, as a link"),
        ] {
            if cells.is_empty() {
                self.say(line, format!("{id} names no {what}"));
            }
        }
        for call in calls {
            if !self.has_call(name, call) {
                self.say(
                    line,
                    format!("{id} names `{call}`, which does not occur in crates/{name}/src"),
                );
            } else if !pages.iter().any(|page| self.shows(page, call)) {
                self.say(line, format!("{id} names `{call}`, which no page of it mentions"));
            }
        }
        for test in tests {
            if !self.has_test(test) {
                self.say(line, format!("{id} names `{test}`, which is no test"));
            }
        }
        for page in &pages {
            if !self.has_page(page) {
                self.say(line, format!("{id} links to {page}, which does not exist"));
            }
        }
    }

    /// `Conn::get` exists when code of the crate's src names both.
    fn has_call(&self, name: &str, call: &str) -> bool {
        let folder = format!("crates/{name}/src/");
        let words: Vec<_> = call
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|word| !word.is_empty())
            .collect();
        let occurs = |word: &&str| {
            self.tree.texts(&folder, ".rs").any(|(_, text)| rust::mentions(text, word))
        };
        !words.is_empty() && words.iter().all(occurs)
    }

    /// `crates/x/tests/it/file.rs::name`, or a file alone when its documentation holds the test.
    fn has_test(&self, test: &str) -> bool {
        let (path, name) = test
            .split_once("::")
            .map_or((test, None), |(path, name)| (path, name.rsplit("::").next()));
        let Some(text) = self.tree.text(path) else { return false };
        name.map_or_else(|| documents(path, text), |name| rust::has_test(text, name))
    }

    /// A link from `docs/`, with the anchor of a heading.
    fn has_page(&self, link: &str) -> bool {
        let (text, anchor) = self.page(link);
        markdown::headings(text).iter().any(|heading| markdown::anchor(heading.text) == anchor)
    }

    /// Whether the page that a link leads to names the call, by its last word.
    fn shows(&self, link: &str, call: &str) -> bool {
        rust::has_word(self.page(link).0, call.rsplit("::").next().unwrap_or(call))
    }

    /// The text of the file that a link from `docs/` leads to, and the anchor within it.
    fn page<'b>(&self, link: &'b str) -> (&str, &'b str) {
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let path = path.strip_prefix("../").map_or_else(|| format!("docs/{path}"), str::to_owned);
        (self.tree.text(&path).unwrap_or_default(), anchor)
    }
}

/// Whether the file holds a code block that `cargo test` compiles.
fn documents(path: &str, text: &str) -> bool {
    let opens = |line: &str| ["```", "```rust", "```no_run", "```rust,no_run"].contains(&line);
    if path.ends_with(".md") {
        // Every other fence closes a block.
        let fences = text.lines().map(str::trim).filter(|line| line.starts_with("```"));
        return fences.step_by(2).any(opens);
    }
    text.lines().any(|line| {
        let line = line.trim();
        line.strip_prefix("///")
            .or_else(|| line.strip_prefix("//!"))
            .is_some_and(|doc| opens(doc.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::super::said;

    const DONE: &str = "| L2 | try once | `Locker::try_lock` | `crates/lock/tests/it/try_lock.rs::refuses_a_second` | [README](../crates/lock/README.md#try-once) |\n";
    const PLANNED: &str = "| L1 | wait in line | planned | planned | planned |\n";

    fn page(rows: &[&str], count: usize) -> String {
        format!(
            "# Features\n\n## lock ({count} rows)\n\n| id | feature | call | test | page |\n|---|---|---|---|---|\n{}",
            rows.concat()
        )
    }

    fn with(page: &str) -> Vec<String> {
        let files = [
            ("docs/FEATURES.md", page),
            (
                "crates/lock/README.md",
                "# lock\n\n## Try once\n\n```rust\nlocker.try_lock();\n```\n",
            ),
            (
                "crates/lock/src/locker.rs",
                "/// `release`\nstruct Locker;\nimpl Locker { pub async fn try_lock(&self) {} }",
            ),
            (
                "crates/lock/tests/it/try_lock.rs",
                "#[tokio::test]\nasync fn refuses_a_second() {}\n\nfn helper() {}",
            ),
        ];
        said(&super::RULE, &files)
    }

    fn with_done(from: &str, to: &str) -> Vec<String> {
        with(&page(&[PLANNED, &DONE.replace(from, to)], 2))
    }

    #[test]
    fn is_content_with_planned_and_proven_rows() {
        assert_eq!(with(&page(&[PLANNED, DONE], 2)), Vec::<String>::new());
        assert_eq!(
            with_done(
                "`crates/lock/tests/it/try_lock.rs::refuses_a_second`",
                "`crates/lock/README.md`"
            ),
            Vec::<String>::new()
        );
    }

    #[test]
    fn refuses_a_lost_row() {
        let said = with(&page(&[PLANNED], 2));
        assert!(said[0].contains("states 2 rows and has 1"), "{said:?}");
        let said = with(&page(&[DONE], 1));
        assert!(said[0].contains("`L2` stands where L1 belongs"), "{said:?}");
    }

    #[test]
    fn refuses_a_section_without_a_count_or_with_other_columns() {
        assert!(with("## lock\n")[0].contains("does not state its number of rows"));
        assert!(
            with(&page(&[PLANNED], 1).replace("| test |", "| tests |"))[0]
                .contains("has not the columns")
        );
        let twice = page(&[PLANNED], 1) + &page(&[PLANNED], 1).replace("## lock", "## cache");
        assert!(with(&twice)[0].contains("a letter of its own"));
    }

    #[test]
    fn a_planned_row_can_say_what_is_missing() {
        let missing = PLANNED.replace("planned", "planned: fairness");
        assert_eq!(with(&page(&[&missing, DONE], 2)), Vec::<String>::new());
        let two = missing.replacen("fairness", "hope", 1);
        assert!(with(&page(&[&two, DONE], 2))[0].contains("half planned"));
    }

    #[test]
    fn refuses_a_row_that_is_half_done() {
        assert!(with_done("`Locker::try_lock`", "planned")[0].contains("half planned"));
        assert!(with_done("`Locker::try_lock`", "try it")[0].contains("names no call"));
    }

    #[test]
    fn refuses_proof_that_does_not_exist() {
        assert!(
            with_done("Locker::try_lock", "Locker::lock")[0]
                .contains("does not occur in crates/lock/src")
        );
        assert!(
            with_done("Locker::try_lock", "Locker::release")[0].contains("does not occur"),
            "only a comment names it"
        );
        assert!(with_done("refuses_a_second", "helper")[0].contains("is no test"));
        assert!(with_done("try_lock.rs::", "lock.rs::")[0].contains("is no test"));
        assert!(with_done("#try-once", "#try-twice")[0].contains("does not exist"));
        assert!(with_done("Locker::try_lock", "Locker")[0].contains("no page of it mentions"));
    }
}
