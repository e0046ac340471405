#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod algorithm;
mod builder;
mod decision;
mod error;
mod limiter;
mod local;
mod policy;
mod quota;
mod rule;
mod subject;

pub use algorithm::Algorithm;
pub use builder::{DEFAULT_LOCAL_SUBJECTS, DEFAULT_REDIS_TIMEOUT, RateLimiterBuilder};
pub use decision::{Decision, Source};
pub use error::Error;
pub use limiter::RateLimiter;
pub use policy::OnError;
pub use quota::Quota;
pub use subject::Subject;
