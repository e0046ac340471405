//! What a rate limiter asks for each request, in its simplest form.

/// Microseconds of budget that are left; below zero it does not pass.
pub(crate) type Decision = i64;

pub(crate) const SOURCE: &str = include_str!("lua/decide.lua");
/// The same as a batch script.
pub(crate) const EACH: &str = include_str!("lua/decide_each.lua");

/// Microseconds between two that pass.
pub(crate) const INTERVAL: i64 = 1;
/// Microseconds that may be used in advance. Together they let everything pass, which is the costly way: it writes.
pub(crate) const BURST: i64 = 1_000_000;

pub(crate) fn check(room: Decision) {
    assert!((0..=BURST).contains(&room), "every request passes");
}
