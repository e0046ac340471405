#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use redbrick_core_conn as core_conn;

/// What most programs need: `use redbrick::prelude::*;`.
///
/// `Error` is that of `core_conn`; a type of this name that you define or import yourself wins over it.
pub mod prelude {
    #[doc(no_inline)]
    pub use redbrick_core_conn::{
        Codec, Config, Conn, Credentials, Error, ErrorKind, Event, Health, Invalidation, Key,
        Overflow, Pattern, Prefix, ReadFrom, Registry, Replay, Script, State, Ttl,
    };
}
