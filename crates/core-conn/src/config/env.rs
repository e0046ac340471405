use super::ConfigBuilder;
use crate::{Error, Result};

/// Reads the `REDIS_…` variables into a builder that names them in its errors.
pub(super) fn read<K: AsRef<str>>(
    vars: impl Iterator<Item = (K, String)>,
) -> Result<ConfigBuilder> {
    let mut builder = ConfigBuilder::from_environment();
    for (name, value) in vars {
        let name = name.as_ref();
        if value.is_empty() {
            continue;
        }
        builder = match name {
            "REDIS_URL" => builder.url(value),
            "REDIS_HOST" => builder.host(value),
            // Kubernetes sets it so in every pod beside a service named `redis`; nobody means it.
            "REDIS_PORT" if value.starts_with("tcp://") => builder,
            "REDIS_PORT" => builder.port(number(name, &value, "a port from 1 to 65535")?),
            "REDIS_USERNAME" => builder.username(value),
            "REDIS_PASSWORD" => builder.password(value),
            "REDIS_DB" => {
                builder.database(number(name, &value, "a database number from 0 to 255")?)
            }
            "REDIS_TLS" => builder.tls(flag(name, &value)?),
            "REDIS_OPTIONAL" => builder.optional(flag(name, &value)?),
            "REDIS_KEY_PREFIX" => builder.key_prefix(value),
            "REDIS_MAX_MEMORY" => builder.memory_threshold(bytes(name, &value)?),
            _ => builder,
        };
    }
    Ok(builder)
}

fn expected(name: &str, what: &str) -> Error {
    Error::config(format!("{name}: expected {what}"))
}

fn number<N: std::str::FromStr<Err: Into<crate::BoxError>>>(
    name: &str,
    value: &str,
    what: &str,
) -> Result<N> {
    value.trim().parse().map_err(|err: N::Err| expected(name, what).with_source(err))
}

fn flag(name: &str, value: &str) -> Result<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(expected(name, "`true` or `false`")),
    }
}

/// Reads a size as Redis writes it: `kb`, `mb` and `gb` are powers of 1024, `k`, `m` and `g` of 1000.
pub(super) fn bytes(name: &str, value: &str) -> Result<u64> {
    let wrong = || expected(name, "a number of bytes, such as `268435456` or `256mb`");
    let value = value.trim().to_ascii_lowercase();
    let digits = value.len() - value.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (count, unit) = value.split_at(digits);
    let unit = match unit.trim() {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return Err(wrong()),
    };
    count.parse::<u64>().ok().and_then(|count| count.checked_mul(unit)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_read_as_redis_reads_them() {
        for (text, size) in [
            ("0", 0),
            ("1024", 1024),
            ("1k", 1000),
            ("1KB", 1024),
            ("256mb", 268_435_456),
            ("2 gb", 2 << 30),
        ] {
            assert_eq!(bytes("REDIS_MAX_MEMORY", text).unwrap(), size, "{text}");
        }
        for text in ["mb", "-1", "1.5mb", "1tb", "18446744073709551615kb"] {
            let err = bytes("REDIS_MAX_MEMORY", text).unwrap_err();
            assert!(
                err.to_string().starts_with("REDIS_MAX_MEMORY: expected a number of bytes"),
                "{text}"
            );
        }
    }
}
