use std::{env, path::PathBuf, time::Duration};

/// What the command line says: `cargo bench` itself adds `--bench`, `cargo xtask bench` adds the others.
#[derive(Clone, Debug)]
pub struct Options {
    /// Fewer cases and shorter rounds.
    pub quick: bool,
    /// Where the results go.
    pub(crate) out: PathBuf,
}

/// How a case is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// What is thrown away at the beginning of each slice.
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

impl Effort {
    /// Makes slices so many times as long.
    pub(crate) fn longer(self, times: u32) -> Self {
        Self { warm_up: self.warm_up * times, measured: self.measured * times, ..self }
    }
}

impl Options {
    /// Reads `--quick` and `--out FOLDER`. `None` when nobody asked for a benchmark: `cargo test --benches` runs these
    /// programs too.
    ///
    /// # Panics
    ///
    /// When `--out` names no folder.
    #[must_use]
    pub fn from_args() -> Option<Self> {
        let mut asked = false;
        let mut options = Self {
            quick: false,
            out: concat!(env!("CARGO_MANIFEST_DIR"), "/../target/redbrick-bench").into(),
        };
        let mut args = env::args_os().skip(1);
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--bench") => asked = true,
                Some("--quick") => options.quick = true,
                Some("--out") => options.out = args.next().expect("--out names a folder").into(),
                _ => {}
            }
        }
        asked.then_some(options)
    }

    pub(crate) fn effort(&self) -> Effort {
        if self.quick {
            Effort {
                rounds: 9,
                warm_up: Duration::from_millis(25),
                measured: Duration::from_millis(75),
            }
        } else {
            Effort {
                rounds: 15,
                warm_up: Duration::from_millis(50),
                measured: Duration::from_millis(200),
            }
        }
    }
}
