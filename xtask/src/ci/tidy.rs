//! The rules of this repository.

use super::{Context, Outcome, Step};
use crate::{failure::Failure, tidy};

pub(super) const STEP: Step =
    Step { name: "tidy", promise: "the rules that no other tool knows are kept", full: false, run };

fn run(context: &Context<'_>) -> Result<Outcome, Failure> {
    tidy::run(context.project)?;
    Ok(Outcome::Passed)
}
