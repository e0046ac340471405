//! The little Rust that rules need: lines without comments, words, definitions, tests.

/// Whether `word` stands in `text` with no letter, digit or underscore beside it.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(part)
            && !text[at + word.len()..].chars().next().is_some_and(part)
    })
}

/// Lines that are no comment, with their numbers; documentation counts as a comment.
pub(super) fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim().starts_with("//"))
}

/// Whether `name` occurs in the code, comments aside.
pub(super) fn mentions(text: &str, name: &str) -> bool {
    code_lines(text).any(|(_, line)| has_word(line, name))
}

/// Whether a function `name` stands under an attribute that makes it a test.
pub(super) fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let is_function = |line: &&str| {
        line.split_once("fn ").is_some_and(|(_, rest)| {
            rest.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('(') || rest.starts_with('<'))
        })
    };
    lines.iter().enumerate().filter(|(_, line)| is_function(line)).any(|(at, _)| {
        let above = lines[..at]
            .iter()
            .rev()
            .take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        above.into_iter().any(|line| {
            let attribute =
                line.trim_start_matches("#[").split(['(', ']']).next().unwrap_or_default();
            attribute == "test" || attribute.ends_with("::test")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{has_test, has_word, mentions};

    #[test]
    fn tells_words_from_parts_of_words() {
        assert!(has_word("conn.get(key)", "get"));
        assert!(!has_word("conn.get_or_load(key)", "get"));
        assert!(!mentions("/// calls get\n//! get\nfn budget() {}", "get"));
    }

    #[test]
    fn knows_a_test_by_its_attribute() {
        let text = "#[tokio::test(flavor = \"multi_thread\")]\n// why\nasync fn holds() {}\n\nfn helper() {}\n#[test]\nfn plain() {}";
        assert!(has_test(text, "holds") && has_test(text, "plain"));
        assert!(!has_test(text, "helper") && !has_test(text, "hold"));
    }
}
