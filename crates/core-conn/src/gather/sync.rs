//! What threads share. The exploration of all orders in `tests/interleavings/` puts its own in the place of these.

pub(super) use std::sync::{Arc, Mutex, MutexGuard};
