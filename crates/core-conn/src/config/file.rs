//! A configuration file's form, through serde.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as DeError, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{Config, ConfigBuilder};

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UrlOrTable)
    }
}

struct UrlOrTable;

impl<'de> Visitor<'de> for UrlOrTable {
    type Value = Config;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL or a table of settings")
    }

    fn visit_str<E: DeError>(self, url: &str) -> Result<Config, E> {
        Config::from_url(url).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Config, A::Error> {
        let builder =
            ConfigBuilder::deserialize(MapAccessDeserializer::new(table)).map_err(|err| {
                // serde quotes the value that has the wrong type, and it may be a password.
                match err.to_string().rsplit_once("expected ") {
                    Some((before, expected)) if before.starts_with("invalid ") => A::Error::custom(
                        format!("a setting has the wrong type, expected {expected}"),
                    ),
                    _ => err,
                }
            })?;
        builder.build().map_err(A::Error::custom)
    }
}
