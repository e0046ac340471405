//! What spans and meters cost when nobody listens: two builds of one benchmark, run in turns.

use std::{
    fs,
    path::{Path, PathBuf},
};

use redbrick_testkit::provision::Found;
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use super::OUT;
use crate::{
    failure::{Failure, OrFail as _},
    table,
};

/// What is compared: the features of a build, and how it is called.
const BUILDS: [(&str, &str); 2] = [("silent", "without"), ("metrics", "with")];
/// How often each is run.
const ROUNDS: usize = 9;

pub(super) fn run(shell: &Shell, found: &Found, quick: bool) -> Result<(), Failure> {
    let programs = BUILDS.map(|(feature, _)| build(shell, feature));
    let [without, with] = programs;
    let programs = [without?, with?];

    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let mut pair = [Vec::new(), Vec::new()];
        for at in [round % 2, (round + 1) % 2] {
            pair[at] = measure(shell, found, &programs[at], BUILDS[at].1, quick)?;
        }
        rounds.push(pair);
        println!("telemetry: round {} of {ROUNDS}", round + 1);
    }

    let cases = compare(&rounds);
    println!("\n{}", table::render(&rows(&cases)));
    let file = shell.current_dir().join(OUT).join("telemetry.json");
    let report =
        json!({ "benchmark": "telemetry", "quick": quick, "rounds": ROUNDS, "cases": cases });
    fs::write(&file, format!("{report:#}\n"))?;
    println!("telemetry is in {}", file.display());
    Ok(())
}

/// Builds the benchmark with one feature and gives the program. Features are part of a program's file name, so neither
/// build takes the other's place.
fn build(shell: &Shell, feature: &str) -> Result<PathBuf, Failure> {
    let messages = cmd!(
        shell,
        "cargo bench --package redbrick-benches --bench telemetry --no-run --features {feature} --message-format json-render-diagnostics"
    )
    .read()
    .or_fail("the benchmark `telemetry` does not build")?;
    let program = messages.lines().find_map(program);
    program.ok_or_else(|| Failure::new("cargo named no program of the benchmark `telemetry`"))
}

/// The program that a line of cargo's tells of, if it is the benchmark.
fn program(line: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_it = message["target"]["name"] == "telemetry";
    message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
}

/// What a run found, by case.
#[derive(Clone, Debug, PartialEq)]
struct Run {
    what: String,
    rate: f64,
    client: f64,
}

fn measure(
    shell: &Shell,
    found: &Found,
    program: &Path,
    name: &str,
    quick: bool,
) -> Result<Vec<Run>, Failure> {
    let out = shell.current_dir().join(OUT).join("telemetry").join(name);
    let quick = quick.then_some("--quick");
    cmd!(shell, "{program} --bench {quick...} --out {out}")
        .quiet()
        .ignore_stdout()
        .env("REDIS_SERVER", &found.path)
        .run()
        .or_fail("the benchmark `telemetry` did not come to its end")?;
    let text = fs::read_to_string(out.join("telemetry.json"))?;
    let report: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("a benchmark wrote no JSON: {error}")))?;
    let cases = report["cases"].as_array().into_iter().flatten();
    let figure = |case: &Value, name: &str| case["sides"][0]["median"][name].as_f64();
    let runs = cases.map(|case| {
        Some(Run {
            what: case["what"].as_str()?.to_owned(),
            rate: figure(case, "per_second")?,
            client: figure(case, "client_us")?,
        })
    });
    runs.collect::<Option<_>>().ok_or_else(|| Failure::new("a benchmark left a figure out"))
}

/// For each case, the second build's figures as multiples of the first one's.
fn compare(rounds: &[[Vec<Run>; 2]]) -> Vec<Value> {
    let cases = rounds.first().map_or(0, |[first, _]| first.len());
    let compared = (0..cases).map(|case| {
        let ratios = |figure: fn(&Run) -> f64| {
            let mut ratios: Vec<f64> = rounds
                .iter()
                .map(|[without, with]| figure(&with[case]) / figure(&without[case]))
                .collect();
            ratios.sort_by(f64::total_cmp);
            let at = |percent| ratios[(ratios.len() - 1) * percent / 100];
            json!({ "median": at(50), "p10": at(10), "p90": at(90), "min": at(0), "max": at(100) })
        };
        json!({
            "what": rounds[0][0][case].what,
            "rate_ratio": ratios(|run| run.rate),
            "client_cpu_ratio": ratios(|run| run.client),
        })
    });
    compared.collect()
}

fn rows(cases: &[Value]) -> Vec<Vec<String>> {
    let heading = ["with ÷ without", "rate", "p10..p90", "client cpu", "p10..p90"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for case in cases {
        let mut row = vec![case["what"].as_str().unwrap_or_default().to_owned()];
        for spread in [&case["rate_ratio"], &case["client_cpu_ratio"]] {
            let figure = |name: &str| format!("{:.3}", spread[name].as_f64().unwrap_or_default());
            row.extend([figure("median"), format!("{}..{}", figure("p10"), figure("p90"))]);
        }
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_program_among_cargos_messages() {
        let line = |name: &str, executable: &str| {
            format!(r#"{{"target":{{"name":"{name}"}},"executable":{executable}}}"#)
        };
        assert_eq!(program(&line("telemetry", "\"/t\"")), Some("/t".into()));
        assert_eq!(program(&line("telemetry", "null")), None);
        assert_eq!(program(&line("reads", "\"/r\"")), None);
    }

    #[test]
    fn compares_within_a_round() {
        let run = |rate| vec![Run { what: "get".into(), rate, client: 1.0 }];
        let rounds = [[run(100.0), run(90.0)], [run(50.0), run(50.0)], [run(10.0), run(8.0)]];
        let cases = compare(&rounds);
        assert_eq!(cases[0]["rate_ratio"]["median"], 0.9);
        assert_eq!(rows(&cases)[1][..3], ["get", "0.900", "0.800..0.900"]);
    }
}
