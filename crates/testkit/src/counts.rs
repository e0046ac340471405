use std::{collections::BTreeMap, ops::AddAssign};

use crate::Reply;

/// How often a server ran each command, as [`Server::command_counts`](crate::Server::command_counts) found it.
///
/// Names are in lower case; commands with subcommands are counted per subcommand (`config|get`) by servers that do so
/// (Redis 7.0 and later, Valkey) and together (`config`) by others. A script counts as `eval` or `evalsha`, and what it
/// calls counts too. Commands that the server refuses before it runs them (wrong arguments, no right) do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandCounts(BTreeMap<String, u64>);

/// What connections are kept up by.
const HOUSEKEEPING: [&str; 8] =
    ["auth", "client", "command", "hello", "info", "ping", "role", "select"];

impl CommandCounts {
    /// How often `command` ran. `config` is the sum of its subcommands, `config|get` that one alone; upper and lower
    /// case are alike.
    #[must_use]
    pub fn of(&self, command: &str) -> u64 {
        let command = command.to_ascii_lowercase();
        self.0
            .iter()
            .filter(|(name, _)| {
                name.strip_prefix(&*command)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('|'))
            })
            .map(|(_, count)| count)
            .sum()
    }

    /// How many commands ran in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// What ran after `before` was taken. Commands that did not run since are left out.
    ///
    /// Both must come from one life of the server: a restart starts from zero.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let grown = self.0.iter().filter_map(|(name, &count)| {
            let more = count.saturating_sub(before.0.get(name).copied().unwrap_or(0));
            (more > 0).then(|| (name.clone(), more))
        });
        Self(grown.collect())
    }

    /// Without what clients send to set up, watch and describe their connections: `auth`, `client`, `command`, `hello`,
    /// `info`, `ping`, `role`, `select`.
    #[must_use]
    pub fn of_calls(mut self) -> Self {
        self.0.retain(|name, _| !HOUSEKEEPING.contains(&name.split('|').next().unwrap_or(name)));
        self
    }

    /// Names and counts, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, &count)| (&**name, count))
    }

    /// Reads `INFO commandstats`: `cmdstat_get:calls=3,usec=…`.
    pub(crate) fn parse(info: &str) -> Self {
        let counts = info.lines().filter_map(|line| {
            let (name, stats) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            let calls = stats.split(',').find_map(|stat| stat.strip_prefix("calls="))?;
            Some((name.to_ascii_lowercase(), calls.parse().ok()?))
        });
        Self(counts.filter(|(_, count)| *count > 0).collect())
    }
}

impl AddAssign<&Self> for CommandCounts {
    fn add_assign(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            *self.0.entry(name.clone()).or_default() += count;
        }
    }
}

/// The commands that this crate sent itself, which are taken off the counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Vec<(String, u64)>);

impl Ledger {
    /// Notes a command that the server ran.
    pub(crate) fn note<A: AsRef<[u8]>>(&mut self, command: &[A], answer: &Reply) {
        let word = |at: usize| {
            command.get(at).map(|arg| String::from_utf8_lossy(arg.as_ref()).to_ascii_lowercase())
        };
        let Some(name) = word(0) else { return };
        if matches!(answer, Reply::Error(_)) {
            return;
        }
        let full = word(1).map_or_else(|| name.clone(), |sub| format!("{name}|{sub}"));
        if full == "config|resetstat" {
            self.0.clear();
        }
        match self.0.iter_mut().find(|(known, _)| *known == full) {
            Some((_, count)) => *count += 1,
            // Kept with its first argument: whether that is a subcommand shows only in the server's own names.
            None => self.0.push((full, 1)),
        }
    }

    /// Forgets one sending of a command, given as `name|first argument`.
    pub(crate) fn forget_one(&mut self, full: &str) {
        if let Some((_, count)) = self.0.iter_mut().find(|(known, _)| known == full) {
            *count = count.saturating_sub(1);
        }
    }

    /// Takes what was noted off `counts`.
    pub(crate) fn take_off(&self, counts: &mut CommandCounts) {
        for (full, sent) in &self.0 {
            let name = full.split('|').next().unwrap_or(full);
            let entry = if counts.0.contains_key(full) { full } else { name };
            if let Some(count) = counts.0.get_mut(entry) {
                *count = count.saturating_sub(*sent);
            }
        }
        counts.0.retain(|_, count| *count > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Commandstats\r\n\
        cmdstat_get:calls=3,usec=9,usec_per_call=3.00\r\n\
        cmdstat_config|get:calls=2,usec=1\r\n\
        cmdstat_config|set:calls=1,usec=1\r\n";

    #[test]
    fn sums_subcommands() {
        let counts = CommandCounts::parse(INFO);
        assert_eq!((counts.of("GET"), counts.of("config"), counts.of("config|get")), (3, 3, 2));
        assert_eq!((counts.of("conf"), counts.total()), (0, 6));
    }

    #[test]
    fn takes_own_commands_off() {
        let mut ledger = Ledger::default();
        ledger.note(&["GET", "a"], &Reply::Nil);
        ledger.note(&["CONFIG", "SET", "x", "y"], &Reply::Status("OK".into()));
        ledger.note(&["GET", "b"], &Reply::Error("ERR refused".into()));
        let mut counts = CommandCounts::parse(INFO);
        ledger.take_off(&mut counts);
        assert_eq!((counts.of("get"), counts.of("config|set"), counts.total()), (2, 0, 4));
    }

    #[test]
    fn what_connections_are_kept_up_by_is_no_call() {
        let info = "cmdstat_client|setname:calls=1\r\ncmdstat_ping:calls=9\r\ncmdstat_get:calls=1";
        let calls = CommandCounts::parse(info).of_calls();
        assert_eq!(calls.iter().collect::<Vec<_>>(), [("get", 1)]);
    }

    #[test]
    fn since_leaves_out_what_did_not_run() {
        let before = CommandCounts::parse(INFO);
        let after =
            CommandCounts::parse("cmdstat_get:calls=5,usec=1\r\ncmdstat_set:calls=1,usec=1");
        let since = after.since(&before);
        assert_eq!(since.iter().collect::<Vec<_>>(), [("get", 2), ("set", 1)]);
    }
}
