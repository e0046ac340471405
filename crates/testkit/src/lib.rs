//! Real Redis and Valkey servers and a fault proxy for tests.
