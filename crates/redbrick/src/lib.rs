#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use redbrick_core_conn as core_conn;

/// What most programs need: `use redbrick::prelude::*;`.
pub mod prelude {
    #[doc(no_inline)]
    pub use redbrick_core_conn::{Codec, Config, Conn, Health, Registry, State, Ttl};
}
