use std::{
    fmt::Display,
    time::{Duration, Instant},
};

/// Numbers the steps and times them.
pub(crate) struct Tour {
    step: u32,
    started: Instant,
}

impl Tour {
    pub(crate) fn begin() -> Self {
        println!("redbrick, brick by brick. Times count from the start of each step.");
        Self { step: 0, started: Instant::now() }
    }

    pub(crate) fn step(&mut self, title: &str) {
        self.step += 1;
        self.started = Instant::now();
        println!("\n{}. {title}", self.step);
    }

    pub(crate) fn say(&self, what: impl Display) {
        println!("   {:>7.1} ms  {what}", self.started.elapsed().as_secs_f64() * 1000.0);
    }
}

/// Takes 50 ms.
#[expect(clippy::disallowed_methods, reason = "it stands for work elsewhere")]
pub(crate) async fn a_slow_database() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}
