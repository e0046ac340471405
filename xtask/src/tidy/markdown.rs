//! The little Markdown that rules need: headings, sections, anchors, table rows, code in backticks, links.

/// A heading with its line number, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heading<'a> {
    pub(super) level: usize,
    pub(super) text: &'a str,
    pub(super) line: usize,
}

/// The lines outside of fenced code, with their numbers.
pub(super) fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((index + 1, line))
    })
}

pub(super) fn headings(text: &str) -> Vec<Heading<'_>> {
    prose(text)
        .filter_map(|(line, content)| {
            let level = content.chars().take_while(|c| *c == '#').count();
            let text = content[level..].strip_prefix(' ')?.trim();
            (1..=6).contains(&level).then_some(Heading { level, text, line })
        })
        .collect()
}

/// The lines under the heading of that text, up to the next heading of its level or above.
pub(super) fn section<'a>(text: &'a str, heading: &str) -> Option<Vec<(usize, &'a str)>> {
    let headings = headings(text);
    let at = headings.iter().position(|candidate| candidate.text == heading)?;
    let start = headings[at];
    let end = headings[at + 1..]
        .iter()
        .find(|next| next.level <= start.level)
        .map_or(usize::MAX, |next| next.line);
    Some(prose(text).filter(|(line, _)| *line > start.line && *line < end).collect())
}

/// The anchor that a heading gets on the page: lower case, punctuation dropped, spaces as hyphens.
pub(super) fn anchor(heading: &str) -> String {
    heading
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
        .collect()
}

/// The cells of a table row; nothing for other lines and for the line under the heading.
pub(super) fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let cells: Vec<_> = inner.split('|').map(str::trim).collect();
    let rule =
        cells.iter().all(|cell| !cell.is_empty() && cell.chars().all(|c| matches!(c, '-' | ':')));
    (!rule).then_some(cells)
}

/// What stands between backticks.
pub(super) fn code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The targets of links, as in `[text](target)`.
pub(super) fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{anchor, cells, code, headings, links, section};

    const PAGE: &str = "# Top\n\ntext\n\n## One `x`\nfirst\n```sh\n# no heading\n```\n### Sub\nsecond\n## Two\nthird\n";

    #[test]
    fn finds_headings_and_no_comments_of_code() {
        let found: Vec<_> =
            headings(PAGE).iter().map(|heading| (heading.level, heading.text)).collect();
        assert_eq!(found, [(1, "Top"), (2, "One `x`"), (3, "Sub"), (2, "Two")]);
    }

    #[test]
    fn cuts_a_section_at_the_next_of_its_level() {
        let lines: Vec<_> =
            section(PAGE, "One `x`").expect("it is there").iter().map(|(_, line)| *line).collect();
        assert_eq!(lines, ["first", "### Sub", "second"]);
        assert_eq!(section(PAGE, "Three"), None);
    }

    #[test]
    fn reads_anchors_cells_code_and_links() {
        assert_eq!(anchor("When Redis is down, `Conn::get`"), "when-redis-is-down-connget");
        assert_eq!(cells("| a | b c |"), Some(vec!["a", "b c"]));
        assert_eq!(cells("|---|:-:|"), None);
        assert_eq!(code("a `b` c `d`"), ["b", "d"]);
        assert_eq!(links("see [x](y.md#z) and [v](w)"), ["y.md#z", "w"]);
    }
}
