//! The table on the terminal: a line for each side of each case, at most 120 columns.

use crate::report::{CaseReport, SideReport};

/// The line above all others.
pub(crate) fn heading() -> String {
    let above = [
        "what",
        "runtime",
        "tasks",
        "side",
        "rate",
        "p50",
        "p99",
        "client",
        "server",
        "cmds",
        "first ÷ side, rates",
    ];
    let below =
        ["", "", "", "", "1/s", "µs", "µs", "µs/op", "µs/op", "/op", "median p10..p90 (min..max)"];
    [above, below].map(row).join("\n")
}

fn row(
    [what, runtime, tasks, side, rate, p50, p99, client, server, cmds, ratio]: [&str; 11],
) -> String {
    format!(
        "{what:<16} {runtime:<9} {tasks:>5} {side:<9} {rate:>9} {p50:>7} {p99:>7} {client:>6} {server:>6} {cmds:>5}  {ratio}"
    )
}

/// A line for each side.
pub(crate) fn lines(case: &CaseReport) -> String {
    let line = |(at, side): (usize, &SideReport)| {
        let (what, runtime) = (&*case.what, case.runtime.to_string());
        let tasks = case.tasks.to_string();
        let case = if at == 0 { [what, &*runtime, &*tasks] } else { [""; 3] };
        let median = &side.median;
        let ratio = if at == 0 { String::new() } else { ratio(side) };
        row([
            case[0],
            case[1],
            case[2],
            side.side,
            &grouped(median.per_second),
            &format!("{:.1}", median.p50_us),
            &format!("{:.1}", median.p99_us),
            &format!("{:.2}", median.client_us),
            &format!("{:.2}", median.server_us),
            &format!("{:.2}", median.commands),
            &ratio,
        ])
        .trim_end()
        .to_owned()
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
