//! The ladder, on a machine that has what the test puts there and nothing else: no network is asked.

use std::{
    env, fs,
    io::{Write, stdout},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use redbrick_testkit::{
    provision::{Want, server_binary},
    unique,
};

#[test]
fn the_variable_comes_first() {
    let machine = Machine::new();
    machine.server("path/redis-server", "Redis", "7.0.1");
    machine.server("target/redbrick-servers/any/redis-server", "Redis", "7.0.2");
    let named = machine.server("named/my-server", "Valkey", "8.1.3");
    let found = machine.ask(Want::Any, Some(&named));
    assert!(
        found.ends_with(&format!("{} valkey 8.1.3 the variable REDIS_SERVER", named.display())),
        "{found}"
    );
}

#[test]
fn a_variable_that_names_no_server_is_an_error() {
    let machine = Machine::new();
    machine.server("path/redis-server", "Redis", "7.0.1");
    let said = machine.ask(Want::Any, Some(&machine.0.join("nowhere")));
    assert!(said.contains("nowhere: there is no ") && said.contains("or unset it"), "{said}");
    let other = machine.server("named/cat", "cat", "9");
    let said = machine.ask(Want::Any, Some(&other));
    assert!(said.contains("gives no version of a server"), "{said}");
}

#[test]
fn a_variable_of_another_version_is_passed_over_and_told() {
    let machine = Machine::new();
    let named = machine.server("named/redis-server", "Redis", "7.0.1");
    machine.server("path/valkey-server", "Valkey", "9.1.0");
    let said = machine.ask(Want::Valkey9, Some(&named));
    assert!(said.contains("is redis 7.0.1, not valkey-9"), "{said}");
    assert!(said.contains("path/valkey-server valkey 9.1.0 the programs on PATH"), "{said}");
}

#[test]
fn what_was_fetched_comes_before_what_is_installed() {
    let machine = Machine::new();
    machine.server("path/redis-server", "Redis", "7.0.1");
    machine.server("target/redbrick-servers/redis-8/redis-server", "Redis", "8.0.2");
    for want in [Want::Any, Want::Redis8] {
        let found = machine.ask(want, None);
        assert!(found.ends_with("redis-8/redis-server redis 8.0.2 an earlier run"), "{found}");
    }
}

#[test]
fn what_was_half_fetched_or_is_broken_is_no_server() {
    let machine = Machine::new();
    machine.server("target/redbrick-servers/.draft-any-1-0/redis-server", "Redis", "8.0.2");
    let broken = machine.server("target/redbrick-servers/any/redis-server", "Redis", "8.0.2");
    fs::write(broken, "#!/bin/sh\nexit 127\n").unwrap();
    machine.server("path/redis-server", "Redis", "7.0.1");
    let found = machine.ask(Want::Any, None);
    assert!(found.ends_with("redis 7.0.1 the programs on PATH"), "{found}");
}

#[test]
fn what_is_too_old_is_passed_over() {
    let machine = Machine::new();
    machine.server("path/redis-server", "Redis", "6.0.16");
    let said = machine.ask(Want::Redis6_2, None);
    assert!(said.contains("redis 6.0.16"), "{said}");
}

#[test]
fn without_any_each_rung_says_why() {
    let said = Machine::new().ask(Want::Redis6_2, None);
    let reasons = [
        "no redis-6.2 could be had:",
        "the variable REDIS_SERVER: not set",
        "an earlier run: nothing in ",
        "the programs on PATH: ",
        "the distribution's packages: ",
        "a Python wheel: ",
        "set REDIS_SERVER to its path",
    ];
    for reason in reasons {
        assert!(said.contains(reason), "{reason}: {said}");
    }
}

/// Finds one on this machine, and is what the tests above run on theirs, where it tells what came of it.
#[test]
fn what_is_found_is_what_it_is_said_to_be() {
    let asked = env::var(ASKED).ok();
    let want = asked.as_deref().map_or(Want::Any, |want| want.parse().unwrap());
    let mut said = Vec::new();
    let outcome = server_binary(want, &mut |step| said.push(step.to_owned()));
    if let Ok(found) = &outcome {
        assert!(want.accepts(&found.version), "{found:?}");
        let version = Command::new(&found.path).arg("--version").output().unwrap().stdout;
        let numbers = found.version.to_string();
        let numbers = numbers.split(' ').next_back().unwrap();
        assert!(String::from_utf8_lossy(&version).contains(&format!("v={numbers}")), "{found:?}");
    }
    if asked.is_none() {
        outcome.unwrap();
        return;
    }
    said.push(match outcome {
        Ok(found) => format!("{} {} {}", found.path.display(), found.version, found.rung),
        Err(err) => err.to_string(),
    });
    stdout().write_all(format!("{START}{}{END}", said.join("\n")).as_bytes()).unwrap();
}

/// A directory with a `PATH`, a target directory and a home.
struct Machine(PathBuf);

impl Machine {
    fn new() -> Self {
        let dir = env::temp_dir().join(unique("testkit-machine"));
        fs::create_dir_all(dir.join("path")).expect("a directory");
        Self(dir)
    }

    /// Puts a program there that says it is a server.
    fn server(&self, path: &str, name: &str, version: &str) -> PathBuf {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("a directory");
        let script = format!("#!/bin/sh\necho '{name} server v={version} sha=0'\n");
        let script = if name == "cat" { script.replace("v=", "") } else { script };
        fs::write(&path, script).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its rights");
        path
    }

    /// Asks there, in a process of its own; everything that was said.
    fn ask(&self, want: Want, variable: Option<&Path>) -> String {
        let mut command = Command::new(env::current_exe().expect("the path of this binary"));
        command.args([
            "--exact",
            "provision::what_is_found_is_what_it_is_said_to_be",
            "--nocapture",
        ]);
        command.env_clear().env(ASKED, want.to_string());
        command.env("PATH", self.0.join("path")).env("HOME", &self.0);
        command.env("CARGO_TARGET_DIR", self.0.join("target"));
        command.envs(variable.map(|path| ("REDIS_SERVER", path)));
        let output = command.output().expect("this binary starts");
        let said = String::from_utf8_lossy(&output.stdout);
        let said = said.split_once(START).and_then(|(_, said)| said.split_once(END));
        said.expect("an outcome").0.to_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const ASKED: &str = "REDBRICK_TESTKIT_ASKED_FOR";
const START: &str = "<outcome>";
const END: &str = "</outcome>";
