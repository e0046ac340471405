use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{Flavor, figures::Spread, machine::Machine, slice::Slice};

/// What a benchmark found, as its JSON file has it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) benchmark: &'static str,
    pub(crate) machine: Machine,
    pub(crate) server: Option<String>,
    pub(crate) quick: bool,
    pub(crate) cases: Vec<CaseReport>,
}

/// Sides that took turns.
#[derive(Debug, Serialize)]
pub(crate) struct CaseReport {
    pub(crate) what: String,
    pub(crate) runtime: Flavor,
    pub(crate) tasks: usize,
    /// The first one is what the others are compared with.
    pub(crate) sides: Vec<SideReport>,
}

/// One side's figures.
#[derive(Debug, Serialize)]
pub(crate) struct SideReport {
    pub(crate) side: &'static str,
    pub(crate) median: Slice,
    /// How many times as many operations the first side did, by round.
    pub(crate) rate_ratio: Spread,
    /// The first side's latencies as multiples of this one's, by round.
    pub(crate) p50_ratio: Spread,
    pub(crate) p99_ratio: Spread,
    /// The processor time of the first side's operations as a multiple of this one's, by round.
    pub(crate) client_cpu_ratio: Spread,
    pub(crate) server_cpu_ratio: Spread,
    pub(crate) rounds: Vec<Slice>,
}

impl SideReport {
    /// Sets a side's rounds beside those of the first side.
    pub(crate) fn new(side: &'static str, first: &[Slice], rounds: Vec<Slice>) -> Self {
        let ratio = |figure: fn(&Slice) -> f64| {
            Spread::of(first.iter().zip(&rounds).map(|(first, own)| figure(first) / figure(own)))
        };
        let median = |figure: fn(&Slice) -> f64| Spread::of(rounds.iter().map(figure)).median;
        Self {
            side,
            median: Slice {
                per_second: median(|slice| slice.per_second),
                p50_us: median(|slice| slice.p50_us),
                p99_us: median(|slice| slice.p99_us),
                client_us: median(|slice| slice.client_us),
                server_us: median(|slice| slice.server_us),
                commands: median(|slice| slice.commands),
            },
            rate_ratio: ratio(|slice| slice.per_second),
            p50_ratio: ratio(|slice| slice.p50_us),
            p99_ratio: ratio(|slice| slice.p99_us),
            client_cpu_ratio: ratio(|slice| slice.client_us),
            server_cpu_ratio: ratio(|slice| slice.server_us),
            rounds,
        }
    }
}

impl Report {
    /// Writes the file and gives its path.
    pub(crate) fn write(&self, folder: &Path) -> PathBuf {
        fs::create_dir_all(folder).expect("the folder for results can be made");
        let folder = folder.canonicalize().expect("the folder was just made");
        let path = folder.join(format!("{}.json", self.benchmark));
        let json = serde_json::to_string_pretty(self).expect("a report is plain data");
        fs::write(&path, json + "\n").expect("results can be written");
        path
    }
}
