//! A copy of values that the feed keeps true, against writes, kills, restarts, flushes, expiry and eviction.
