use redbrick_testkit::Server;
use tokio::runtime::Runtime;

use crate::{
    Flavor, Options, Side,
    machine::Machine,
    options::Effort,
    report::{CaseReport, Report, SideReport},
    slice, summary, table,
};

/// A benchmark that is under way.
#[derive(Debug)]
pub struct Bench {
    options: Options,
    effort: Effort,
    report: Report,
}

/// Sides that do the same thing.
#[expect(clippy::exhaustive_structs, reason = "benchmarks fill it in, and all of them are here")]
#[derive(Debug)]
pub struct Case<'a> {
    /// What they do.
    pub what: &'a str,
    /// What kind of runtime it is.
    pub flavor: Flavor,
    /// Where the sides' clients were connected.
    pub runtime: &'a Runtime,
    /// How many tasks do it at the same time.
    pub tasks: usize,
    /// Who; the others are compared with the first one.
    pub sides: &'a [Side],
    /// The servers that they talk to.
    pub servers: &'a [Server],
}

impl Bench {
    /// Begins a benchmark, and says what it measures.
    #[must_use]
    pub fn new(name: &'static str, about: &str, options: Options) -> Self {
        println!("\n{name}: {about}\n\n{}", table::heading());
        let report = Report {
            benchmark: name,
            machine: Machine::here(),
            server: None,
            quick: options.quick,
            cases: Vec::new(),
        };
        Self { effort: options.effort(), options, report }
    }

    /// Makes slices so many times as long, where calls take their time.
    #[must_use]
    pub fn longer(mut self, times: u32) -> Self {
        self.effort = self.effort.longer(times);
        self
    }

    /// Chooses between the full and the quick form.
    #[must_use]
    pub fn choose<T>(&self, full: T, quick: T) -> T {
        if self.options.quick { quick } else { full }
    }

    /// Measures a case and prints it.
    ///
    /// In each round every side has a slice of time of its own, and the order changes from round to round: what happens to
    /// the machine meanwhile hits all alike, and nobody always finds what the same other one left behind.
    ///
    /// # Panics
    ///
    /// When an operation fails, or does not end.
    pub fn case(&mut self, case: &Case<'_>) {
        let &Case { what, flavor, runtime, tasks, sides, servers } = case;
        let mut rounds = vec![Vec::new(); sides.len()];
        for round in 0..self.effort.rounds {
            for turn in 0..sides.len() {
                let side = (round + turn) % sides.len();
                rounds[side].push(slice::run(
                    runtime,
                    &sides[side],
                    tasks,
                    round,
                    self.effort,
                    servers,
                ));
            }
        }
        let first = rounds[0].clone();
        let named = sides.iter().zip(rounds);
        let case = CaseReport {
            what: what.to_owned(),
            runtime: flavor,
            tasks,
            sides: named.map(|(side, own)| SideReport::new(side.name, &first, own)).collect(),
        };
        println!("{}", table::lines(&case));
        self.report.cases.push(case);
        self.report.server = servers.first().map(|server| server.version().to_string());
    }

    /// Writes the results and says where they are.
    ///
    /// # Panics
    ///
    /// When they cannot be written.
    pub fn finish(self) {
        let name = self.report.benchmark;
        if let Some(ratios) = summary::markdown(&self.report) {
            println!("\n{name}, first ÷ other, medians over {} rounds:\n", self.effort.rounds);
            println!("{ratios}");
        }
        println!("\n{name} is in {}", self.report.write(&self.options.out).display());
    }
}
