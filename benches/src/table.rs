//! The table on the terminal: a line for each side of each case, at most 120 columns.

use crate::report::{CaseReport, SideReport};

/// The line above all others.
pub(crate) fn heading() -> String {
    format!(
        "{:<16} {:<9} {:>4} {:<9} {:>9} {:>7} {:>7} {:>6} {:>6} {:>5}  {}\n{:<16} {:<9} {:>4} {:<9} {:>9} {:>7} {:>7} {:>6} {:>6} {:>5}  {}",
        "what",
        "runtime",
        "task",
        "side",
        "rate",
        "p50",
        "p99",
        "client",
        "server",
        "cmds",
        "redbrick ÷ side, rates",
        "",
        "",
        "s",
        "",
        "1/s",
        "µs",
        "µs",
        "µs/op",
        "µs/op",
        "/op",
        "median p10..p90 (min..max)"
    )
}

/// A line for each side.
pub(crate) fn lines(case: &CaseReport) -> String {
    let line = |(at, side): (usize, &SideReport)| {
        let median = &side.median;
        let label = if at == 0 {
            format!("{:<16} {:<9} {:>4}", case.what, case.runtime, case.tasks)
        } else {
            " ".repeat(31)
        };
        let figures = format!(
            "{label} {:<9} {:>9} {:>7.1} {:>7.1} {:>6.2} {:>6.2} {:>5.2}",
            side.side,
            grouped(median.per_second),
            median.p50_us,
            median.p99_us,
            median.client_us,
            median.server_us,
            median.commands,
        );
        if at == 0 { figures } else { format!("{figures}  {}", ratio(side)) }
    };
    case.sides.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

fn ratio(side: &SideReport) -> String {
    let spread = side.rate_ratio;
    format!(
        "{:>6.2} {:.2}..{:.2} ({:.2}..{:.2})",
        spread.median, spread.p10, spread.p90, spread.min, spread.max
    )
}

/// `1234567.8` as `1,234,568`.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_thousands() {
        assert_eq!(grouped(1_234_567.8), "1,234,568");
        assert_eq!(grouped(123_456.0), "123,456");
        assert_eq!(grouped(12.0), "12");
    }

    #[test]
    fn the_heading_fits() {
        assert!(heading().lines().all(|line| line.chars().count() <= 120), "{}", heading());
    }
}
