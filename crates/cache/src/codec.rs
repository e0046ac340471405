//! How values are written, where it is not serde that says so.

use bytes::Bytes;
use redbrick_core_conn::{BoxError, Codec};
use serde::{Serialize, de::DeserializeOwned};

/// Writes and reads the values of a cache; see [`CacheBuilder::build_with_codec`](crate::CacheBuilder::build_with_codec).
///
/// ```
/// use bytes::Bytes;
/// use redbrick_cache::ValueCodec;
/// use redbrick_core_conn::BoxError;
///
/// /// Text as it is.
/// struct Text;
///
/// impl ValueCodec<String> for Text {
///     fn encode(&self, value: &String) -> Result<Bytes, BoxError> {
///         Ok(Bytes::copy_from_slice(value.as_bytes()))
///     }
///
///     fn decode(&self, encoded: &[u8]) -> Result<String, BoxError> {
///         Ok(std::str::from_utf8(encoded)?.to_owned())
///     }
/// }
/// ```
pub trait ValueCodec<V>: Send + Sync {
    /// Writes a value.
    ///
    /// # Errors
    ///
    /// Where it cannot be written; the call that stores it fails with [`Error::Unencodable`](crate::Error::Unencodable).
    fn encode(&self, value: &V) -> Result<Bytes, BoxError>;

    /// Reads a value from what another program, another release or chance may have written.
    ///
    /// # Errors
    ///
    /// Where that is no such value; it counts as a miss.
    fn decode(&self, encoded: &[u8]) -> Result<V, BoxError>;
}

impl<V: Serialize + DeserializeOwned> ValueCodec<V> for Codec {
    fn encode(&self, value: &V) -> Result<Bytes, BoxError> {
        Ok(Self::encode(*self, value)?)
    }

    fn decode(&self, encoded: &[u8]) -> Result<V, BoxError> {
        Ok(Self::decode(*self, encoded)?)
    }
}
