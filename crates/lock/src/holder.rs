use std::{process, sync::OnceLock};

/// Who this process is to people, as `host:pid`.
pub(crate) fn of_this_process() -> String {
    static HOST: OnceLock<String> = OnceLock::new();
    let host = HOST.get_or_init(|| {
        let named = std::env::var("HOSTNAME").ok();
        let named = named.or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
        let named = named.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        named.unwrap_or_else(|| "unknown".to_owned())
    });
    format!("{host}:{}", process::id())
}
