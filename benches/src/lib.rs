#![doc = include_str!("../README.md")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

mod bench;
mod figures;
mod flavor;
mod keys;
mod load;
mod machine;
mod options;
mod report;
mod script;
pub mod sides;
mod slice;
mod summary;
mod table;
mod usage;

pub use bench::{Bench, Case};
pub use flavor::Flavor;
pub use keys::{Keys, VALUE_LEN};
pub use load::{Operation, Side};
pub use options::Options;
