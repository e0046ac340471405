//! `cargo xtask integration`: the integration tests on each server version and topology.

use std::{
    env, fs, io,
    path::Path,
    process::{Command, Stdio},
};

use redbrick_testkit::provision::{Found, Want};
use xshell::cmd;

use crate::{
    failure::{Failure, OrFail as _},
    flags,
    project::Project,
    runner, server, table,
};

const TOPOLOGIES: [&str; 4] = ["standalone", "cluster", "sentinel", "tls"];
/// What a suite with a long form looks at.
const SOAK: &str = "REDBRICK_TEST_SOAK";

pub(crate) fn run(project: &Project, flags: &flags::Integration) -> Result<(), Failure> {
    let wants = wants(flags.servers.as_deref())?;
    let topologies = topologies(flags.topology.as_deref())?;
    let external = env::var_os("REDIS_URL").is_some_and(|url| !url.is_empty());
    if external {
        external_allows(flags)?;
    }
    if flags.soak && !has_long_forms(project)? {
        eprintln!(
            "--soak: no suite has a long form yet (no test names {SOAK}); the short forms are run"
        );
    }

    let shell = project.shell()?;
    cmd!(shell, "cargo test --workspace --all-features --test it --no-run")
        .run()
        .or_fail("the tests do not build; the compiler's message is above")
        .map_err(|failure| failure.repeat(repeat(flags)))?;

    let mut rows = vec![["server", "topology", "result"].map(str::to_owned).to_vec()];
    let mut bad = 0;
    for want in wants {
        let server = server::get(want);
        for topology in &topologies {
            let (name, cell) = match &server {
                Ok(found) => {
                    (found.version.to_string(), cell(project, found, topology, flags.soak)?)
                }
                Err(failure) => (want.to_string(), unavailable(want, failure)),
            };
            bad += usize::from(cell.is_bad());
            rows.push(vec![name, (*topology).to_owned(), cell.text()]);
        }
    }

    println!("\n{}", table::render(&rows));
    match bad {
        0 => Ok(()),
        bad => Err(Failure::new(format!("{bad} of {} cells of the table failed", rows.len() - 1))
            .repeat(repeat(flags))),
    }
}

/// What one server version came to on one topology.
#[derive(Debug)]
enum Cell {
    Passed(String),
    Failed(String),
    /// It could not be run and never can be: said, and no failure.
    Impossible(String),
}

impl Cell {
    fn is_bad(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    fn text(self) -> String {
        match self {
            Self::Passed(text) => text,
            Self::Failed(text) => format!("FAILED: {text}"),
            Self::Impossible(text) => format!("not possible: {text}"),
        }
    }
}

fn cell(project: &Project, found: &Found, topology: &str, soak: bool) -> Result<Cell, Failure> {
    if topology == "tls" && !speaks_tls(&found.path) {
        return Ok(Cell::Impossible("this build of the server has no TLS".to_owned()));
    }
    println!("\n=== {} on {topology} ===", found.version);
    let mut command = Command::new("cargo");
    command
        .args(["test", "--workspace", "--all-features", "--no-fail-fast", "--test", "it"])
        .env("REDIS_SERVER", &found.path)
        .env("REDBRICK_TEST_TOPOLOGY", topology)
        .current_dir(project.root());
    if soak {
        command.env(SOAK, "1");
    }
    let outcome = runner::stream(command, &mut io::stdout().lock())?;
    Ok(match outcome.complaint() {
        None => Cell::Passed(outcome.tally.to_string()),
        // The names are enough for the table; the tests' output stands above it.
        Some(_) if outcome.tally.failed > 0 => {
            Cell::Failed(format!("{}: {}", outcome.tally, outcome.tally.failures.join(", ")))
        }
        Some(complaint) => Cell::Failed(format!("{} ({complaint})", outcome.tally)),
    })
}

/// A server without TLS does not know the directive; one with TLS knows it and refuses the value. Neither starts.
fn speaks_tls(server: &Path) -> bool {
    let output = Command::new(server)
        .args(["--port", "0", "--tls-port", "none"])
        .stdin(Stdio::null())
        .output();
    output.is_ok_and(|output| {
        let text = [output.stdout, output.stderr].concat();
        !output.status.success() && !String::from_utf8_lossy(&text).contains("Bad directive")
    })
}

/// Redis 6.2 comes from a package that exists for one platform only; every other server must be had.
fn unavailable(want: Want, failure: &Failure) -> Cell {
    let reason = failure.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    let here = cfg!(all(target_os = "linux", target_arch = "x86_64"));
    if want == Want::Redis6_2 && !here { Cell::Impossible(reason) } else { Cell::Failed(reason) }
}

/// Whether a test's source names the variable that asks for the long form.
fn has_long_forms(project: &Project) -> Result<bool, Failure> {
    for file in project.files()? {
        let is_test =
            file.starts_with("crates/") && file.contains("/tests/") && file.ends_with(".rs");
        if is_test && fs::read_to_string(project.root().join(file))?.contains(SOAK) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn wants(list: Option<&str>) -> Result<Vec<Want>, Failure> {
    match list {
        None => Ok(vec![Want::Any]),
        Some("all") => Ok(Want::ALL.to_vec()),
        Some(list) => list.split(',').map(|name| server::parse(name.trim())).collect(),
    }
}

fn topologies(list: Option<&str>) -> Result<Vec<&'static str>, Failure> {
    let list = list.unwrap_or("standalone");
    let known = |name: &str| TOPOLOGIES.into_iter().find(|known| *known == name);
    list.split(',')
        .map(|name| {
            known(name.trim()).ok_or_else(|| {
                Failure::new(format!(
                    "there is no topology `{name}`; known are {}",
                    TOPOLOGIES.join(", ")
                ))
            })
        })
        .collect()
}

/// An external server is one server: it has no versions to choose from, and its topology cannot be changed.
fn external_allows(flags: &flags::Integration) -> Result<(), Failure> {
    eprintln!(
        "REDIS_URL is set: tests that share a server use that one. Tests that kill, pause, flush or reconfigure a \
         server start their own and never touch it."
    );
    if flags.servers.is_some()
        || flags.topology.as_deref().is_some_and(|topology| topology != "standalone")
    {
        return Err(Failure::new(
            "REDIS_URL names one server; unset it to choose versions or topologies",
        ));
    }
    Ok(())
}

fn repeat(flags: &flags::Integration) -> String {
    let mut command = "cargo xtask integration".to_owned();
    for (flag, value) in [("--servers", &flags.servers), ("--topology", &flags.topology)] {
        if let Some(value) = value {
            command.push_str(&format!(" {flag} {value}"));
        }
    }
    if flags.soak {
        command.push_str(" --soak");
    }
    command
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{SOAK, has_long_forms, topologies, wants};
    use crate::project::Project;

    #[test]
    fn sees_whether_a_suite_has_a_long_form() {
        let root = tempfile::tempdir().expect("a folder");
        let project = Project::at(root.path());
        let write = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, format!("fn soak() {{ env::var_os(\"{SOAK}\"); }}\n")).expect("a file");
        };
        write("xtask/src/integration.rs");
        write("crates/x/src/lib.rs");
        assert!(!has_long_forms(&project).expect("the folder is read"), "no test is among them");
        write("crates/x/tests/it/soak.rs");
        assert!(has_long_forms(&project).expect("the folder is read"));
    }

    #[test]
    fn refuses_unknown_names_and_lists_the_known() {
        let text =
            topologies(Some("standalone,ring")).expect_err("ring is no topology").to_string();
        assert!(
            text.contains("`ring`") && text.contains("standalone, cluster, sentinel, tls"),
            "{text}"
        );
        let text = wants(Some("redis-1")).expect_err("too old").to_string();
        assert!(text.contains("`redis-1`") && text.contains("valkey-9"), "{text}");
    }

    #[test]
    fn reads_lists() {
        assert_eq!(topologies(Some("tls, cluster")).expect("known"), ["tls", "cluster"]);
        assert_eq!(wants(Some("redis-6.2,valkey-9")).expect("known").len(), 2);
        assert!(wants(Some("all")).expect("known").len() >= 5);
    }
}
