//! The ratios of a whole benchmark as a Markdown table, for docs/PERFORMANCE.md.

use crate::report::{CaseReport, Report, SideReport};

/// A row for each comparison; nothing when there is none.
pub(crate) fn markdown(report: &Report) -> Option<String> {
    let rows = report.cases.iter().flat_map(|case| {
        let others = case.sides.iter().skip(1);
        others.map(|other| row(case, other))
    });
    let rows: Vec<_> = rows.collect();
    let heading = "| what | runtime | tasks | against | rate | p10..p90 | p50 | p99 | client CPU | server CPU |\n\
                   |---|---|---|---|---|---|---|---|---|---|";
    (!rows.is_empty()).then(|| format!("{heading}\n{}", rows.join("\n")))
}

fn row(case: &CaseReport, other: &SideReport) -> String {
    format!(
        "| {} | {} | {} | {} | {:.2} | {:.2}..{:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
        case.what,
        case.runtime,
        case.tasks,
        other.side,
        other.rate_ratio.median,
        other.rate_ratio.p10,
        other.rate_ratio.p90,
        other.p50_ratio.median,
        other.p99_ratio.median,
        other.client_cpu_ratio.median,
        other.server_cpu_ratio.median,
    )
}
