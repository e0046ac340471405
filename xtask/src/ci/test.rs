//! Every test.

use super::{Context, Outcome, Step};
use crate::{failure::Failure, test};

pub(super) const STEP: Step =
    Step { name: "test", promise: "every test passes, and none is ignored", full: false, run };

fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    test::run(context.project)?;
    Ok(Outcome::Passed)
}
