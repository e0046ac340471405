//! The one door for every habit of this repository.

fn main() {}
