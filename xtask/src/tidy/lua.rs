//! Scripts state their signature.

use super::{Finding, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule {
    name: "lua",
    promise: "a script's header says why it exists, what it takes and what it returns, and the script is used",
    check,
};

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts("crates/", ".lua") {
        let Some((folder, name)) = path.split_once("/src/lua/") else {
            findings.push(Finding::new(path, "is not in its crate's src/lua"));
            continue;
        };
        let header: Vec<_> = text.lines().take_while(|line| line.starts_with("--")).collect();
        let body: String =
            text.lines().skip(header.len()).filter(|line| !line.trim().starts_with("--")).collect();
        // Of such a one the keys and arguments of each caller are the parameters of a function.
        let is_batch = text.lines().any(|line| line.starts_with("return function("));
        let mut say =
            |line: usize, what: String| findings.push(Finding::new(path, what).line(line));

        let first = header.first().and_then(|line| line.strip_prefix("-- ")).unwrap_or_default();
        if !first.starts_with(|c: char| c.is_uppercase())
            || first.starts_with("KEYS[")
            || first.starts_with("ARGV[")
        {
            say(
                1,
                "does not begin with a sentence that says what plain commands cannot do here"
                    .to_owned(),
            );
        }
        if stated(&header, "KEYS").is_empty() {
            say(1, "has no `-- KEYS[1]  ` line or the like; every key comes in KEYS".to_owned());
        }
        if !header.iter().any(|line| line.starts_with("-- returns  ")) {
            say(1, "has no `-- returns  ` line".to_owned());
        }
        for table in ["KEYS", "ARGV"] {
            let stated = stated(&header, table);
            for missing in used(&body, table)
                .into_iter()
                .filter(|used| !stated.iter().any(|range| range.covers(*used)))
            {
                say(
                    1,
                    format!("uses {table}[{missing}] and has no `-- {table}[{missing}]  ` line"),
                );
            }
            for (index, name) in header.iter().enumerate() {
                let label = format!("-- {table}[");
                if let Some(range) = name.strip_prefix(&label).and_then(Range::read)
                    && !is_batch
                    && !used(&body, table).into_iter().any(|used| range.covers(used))
                {
                    say(index + 1, format!("states a {table} that the script does not use"));
                }
            }
        }
        let include = format!("lua/{name}\")");
        if !tree
            .texts(&format!("{folder}/"), ".rs")
            .any(|(_, code)| code.contains("include_str!(") && code.contains(&include))
        {
            findings.push(Finding::new(path, "is included by no Rust file of its crate"));
        }
    }
    findings
}

/// What an index may be: a number, or whatever a loop makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Index {
    Number(u32),
    Any,
}

/// The indices that a header line speaks for: one, or all from one on (`KEYS[2..]`, `KEYS[2..n]`).
#[derive(Debug, Clone, Copy)]
struct Range {
    from: u32,
    open: bool,
}

impl Range {
    /// Reads what follows `KEYS[`; two spaces must part the label from its words.
    fn read(text: &str) -> Option<Self> {
        let (label, words) = text.split_once(']')?;
        let from = label.split_once("..").map_or(label, |(from, _)| from).parse().ok()?;
        words.starts_with("  ").then_some(Self { from, open: label.contains("..") })
    }

    fn covers(self, index: Index) -> bool {
        match index {
            Index::Number(number) => number == self.from || self.open && number > self.from,
            Index::Any => self.open,
        }
    }
}

impl std::fmt::Display for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Any => f.write_str("1.."),
        }
    }
}

fn stated(header: &[&str], table: &str) -> Vec<Range> {
    let label = format!("-- {table}[");
    header.iter().filter_map(|line| Range::read(line.strip_prefix(&label)?)).collect()
}

/// Each index once; a use of the table as a whole (`#KEYS`, `unpack(KEYS)`) counts as any.
fn used(body: &str, table: &str) -> Vec<Index> {
    let mut all = Vec::new();
    for (at, _) in body.match_indices(table) {
        // `HKEYS` is another word.
        if body[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &body[at + table.len()..];
        let index =
            rest.strip_prefix('[').and_then(|rest| rest.split_once(']')?.0.trim().parse().ok());
        let index = index.map_or(Index::Any, Index::Number);
        if !all.contains(&index) {
            all.push(index);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::said;

    const SCRIPT: &str = "-- Stores a value unless its fence moved, which no command compares.\n\
                          --\n\
                          -- KEYS[1]  entry: string, expires\n\
                          -- KEYS[2..]  fences: strings\n\
                          -- ARGV[1]  the value\n\
                          -- returns  1 stored, 0 refused\n\
                          for i = 2, #KEYS do redis.call('GET', KEYS[i]) end\n\
                          redis.call('SET', KEYS[1], ARGV[1])\n\
                          return 1\n";

    fn with(script: &str) -> Vec<String> {
        let code =
            "static STORE: Script = Script::new(\"cache.store\", include_str!(\"lua/store.lua\"));";
        said(
            &super::RULE,
            &[("crates/cache/src/lua/store.lua", script), ("crates/cache/src/store.rs", code)],
        )
    }

    #[test]
    fn is_content_with_a_full_signature() {
        assert_eq!(with(SCRIPT), Vec::<String>::new());
    }

    #[test]
    fn a_command_is_no_table() {
        let script = SCRIPT.replace("return 1\n", "redis.call('HKEYS', KEYS[1])\nreturn 1\n");
        assert_eq!(with(&script), Vec::<String>::new());
    }

    #[test]
    fn the_parameters_of_a_batch_script_are_what_it_states() {
        let of_each = "-- Hits a page and lets it live, which no command does.\n\
                       --\n\
                       -- KEYS[1]  page: number, expires\n\
                       -- ARGV[1]  hits\n\
                       -- returns  how many there are\n\
                       return function(page, hits) return redis.call('INCRBY', page, hits) end\n";
        assert_eq!(with(of_each), Vec::<String>::new());
        let said = with(&of_each.replace("-- KEYS[1]  page: number, expires\n", ""));
        assert_eq!(said.len(), 1, "{said:?}");
    }

    #[test]
    fn refuses_a_header_with_any_line_missing() {
        for (line, expected) in [
            (
                "-- Stores a value unless its fence moved, which no command compares.\n",
                "does not begin with a sentence",
            ),
            ("-- KEYS[1]  entry: string, expires\n", "has no `-- KEYS[1]  ` line"),
            ("-- KEYS[2..]  fences: strings\n", "uses KEYS[1..]"),
            ("-- ARGV[1]  the value\n", "uses ARGV[1] and has no"),
            ("-- returns  1 stored, 0 refused\n", "has no `-- returns  ` line"),
        ] {
            let said = with(&SCRIPT.replace(line, ""));
            assert!(
                said.iter().any(|finding| finding.contains(expected)),
                "without {line:?}: {said:?}"
            );
        }
    }

    #[test]
    fn refuses_a_line_that_speaks_of_nothing() {
        let said = with(&SCRIPT.replace("-- ARGV[1]", "-- ARGV[2]  time to live\n-- ARGV[1]"));
        assert_eq!(
            said,
            ["crates/cache/src/lua/store.lua:5: states a ARGV that the script does not use"]
        );
    }

    #[test]
    fn refuses_a_script_that_nobody_includes_or_that_lies_elsewhere() {
        let said = said(
            &super::RULE,
            &[("crates/cache/src/lua/store.lua", SCRIPT), ("crates/cache/store.lua", SCRIPT)],
        );
        assert!(
            said[0].contains("included by no Rust file")
                && said[1].contains("not in its crate's src/lua"),
            "{said:?}"
        );
    }
}
