//! Prints rows of text with their columns in line.

/// The rows as a Markdown table; the first row is the heading.
pub(crate) fn render(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();

    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        line(&mut text, &widths, |column| row.get(column).map_or("", String::as_str).to_owned());
        if index == 0 {
            line(&mut text, &widths, |column| "-".repeat(widths[column]));
        }
    }
    text
}

fn line(text: &mut String, widths: &[usize], cell: impl Fn(usize) -> String) {
    for (column, width) in widths.iter().enumerate() {
        text.push_str(&format!("| {:<width$} ", cell(column)));
    }
    text.push_str("|\n");
}

#[cfg(test)]
mod tests {
    #[test]
    fn puts_columns_in_line() {
        let rows = [["server", "result"], ["redis 7.0.15", "ok"]]
            .map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            super::render(&rows),
            "| server       | result |\n\
             | ------------ | ------ |\n\
             | redis 7.0.15 | ok     |\n"
        );
    }
}
