//! What a rate limiter asks for each request, in its simplest form.

/// Whether it passes (1 or 0), and microseconds.
pub(crate) type Decision = (i64, i64);

pub(crate) const SOURCE: &str = include_str!("lua/decide.lua");
/// The same as a batch script.
pub(crate) const EACH: &str = include_str!("lua/decide_each.lua");

/// Microseconds between two that pass.
pub(crate) const INTERVAL: i64 = 1;
/// Microseconds that may be used in advance. Together they let everything pass, which is the costly way: it writes.
pub(crate) const BURST: i64 = 1_000_000;

pub(crate) fn check((passes, room): Decision) {
    assert!(passes == 1 && room <= BURST, "every request passes");
}
