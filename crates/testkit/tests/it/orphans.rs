//! Nothing is left behind, however the process that asked for a server ends.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write, stdin, stdout},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};

use redbrick_testkit::{Cluster, Masters, Server, shared, wait_until};

#[test]
fn fifty_servers_dropped_in_parallel_leave_nothing() {
    let left: Vec<_> = thread::scope(|scope| {
        let start = || {
            let server = Server::start().unwrap();
            server.command(["SET", "a", "1"]).unwrap();
            Trace::of(&server)
        };
        let threads: Vec<_> = (0..50).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // Not waited for: it is all gone when the drop returns.
    assert_eq!(left.len(), 50);
    for trace in left {
        assert!(!trace.is_there(), "{trace:?}");
    }
}

#[test]
fn a_failed_start_leaves_nothing() {
    let dirs = || {
        let all = fs::read_dir(env::temp_dir()).unwrap().flatten();
        all.filter(|dir| {
            fs::read_to_string(dir.path().join("server.conf")).is_ok_and(|text| text.contains(MARK))
        })
        .count()
    };
    const MARK: &str = "no-such-setting-5029";
    Server::builder().config(MARK, "1").start().unwrap_err();
    assert_eq!(dirs(), 0);
}

#[test]
fn a_panic_leaves_nothing() {
    let (server, _) = (Server::start().unwrap(), ());
    let trace = Trace::of(&server);
    let panicked = thread::spawn(move || {
        let _server = server;
        panic!("on purpose");
    });
    panicked.join().unwrap_err();
    assert!(!trace.is_there());
}

#[test]
fn a_killed_process_leaves_nothing() {
    let (mut child, traces) = child("wait");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_gone(&traces);
}

#[test]
fn an_aborted_process_leaves_nothing() {
    let (mut child, traces) = child("abort");
    child.wait().unwrap();
    assert_gone(&traces);
}

#[test]
fn an_ended_process_leaves_nothing_of_its_statics() {
    let (mut child, traces) = child("exit");
    child.wait().unwrap();
    assert_gone(&traces);
}

#[test]
fn an_interrupt_of_the_whole_group_leaves_nothing() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::KILL] {
        let (mut child, traces) = child("wait");
        // To the group, as Ctrl-C in a terminal and the end of a session do.
        kill_process_group(pid(child.id()), signal).unwrap();
        child.wait().unwrap();
        assert_gone(&traces);
    }
}

#[test]
fn a_stopped_server_ends_too() {
    let (mut child, traces) = child("pause");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_gone(&traces);
}

#[test]
fn a_server_whose_directory_was_removed_ends_too() {
    let server = Server::start().unwrap();
    let trace = Trace::of(&server);
    fs::remove_dir_all(&trace.dir).unwrap();
    assert!(trace.runs());
    drop(server);
    assert!(wait_until(Duration::from_secs(20), || !trace.is_there()), "{trace:?} is left");
}

/// Drops what it started; it is also what the tests above run in processes of their own, which end otherwise.
#[test]
fn what_is_dropped_takes_nothing_else_along() {
    let masters = Masters::start(2).unwrap();
    if let Ok(end) = env::var(END) {
        return tell_and_end(&masters, &end);
    }
    let traces: Vec<_> = masters.servers().iter().map(Trace::of).collect();
    drop(masters);
    assert!(traces.iter().all(|trace| !trace.is_there()), "{traces:?}");
    shared().command(["PING"]).unwrap();
}

fn tell_and_end(masters: &Masters, end: &str) {
    let cluster =
        (end == "exit").then(|| Cluster::builder().replicas(0).start().expect("a cluster"));
    let nodes = cluster.iter().flat_map(|cluster| cluster.nodes());
    // Not by println!, which belongs to the test's captured output.
    let report = |line: &str| {
        stdout().write_all(format!("\n{REPORT}{line}\n").as_bytes()).expect("somebody reads");
    };
    let tell = |server: &Server| {
        let Trace { pid, dir } = Trace::of(server);
        report(&format!("{pid} {}", dir.display()));
    };
    masters.servers().iter().chain(nodes).for_each(tell);
    let _paused = (end == "pause").then(|| masters.servers()[0].pause().expect("a running server"));
    shared().server().into_iter().for_each(tell);
    report("");
    match end {
        "abort" => std::process::abort(),
        // The shared server is a static, and others are in use.
        "exit" => std::process::exit(0),
        _ => drop(stdin().read_to_end(&mut Vec::new())),
    }
}

/// Starts this test binary once more, with servers, and tells what runs for it.
fn child(end: &str) -> (Child, Vec<Trace>) {
    let mut command = Command::new(env::current_exe().expect("the path of this binary"));
    command.args(["--exact", "orphans::what_is_dropped_takes_nothing_else_along", "--nocapture"]);
    command.env(END, end).env_remove("REDIS_URL").env_remove("REDBRICK_TEST_TOPOLOGY");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().expect("this binary starts");
    let stdout = child.stdout.take().expect("a pipe");
    let lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let reports = lines.filter_map(|line| line.strip_prefix(REPORT).map(str::to_owned));
    let traces: Vec<_> = reports
        .take_while(|report| !report.is_empty())
        .map(|report| Trace::read(&report))
        .collect();
    assert!(traces.len() >= 3, "{traces:?}");
    (child, traces)
}

fn assert_gone(traces: &[Trace]) {
    for trace in traces {
        assert!(wait_until(Duration::from_secs(20), || !trace.is_there()), "{trace:?} is left");
    }
}

/// What shows that a server is there.
#[derive(Debug)]
struct Trace {
    pid: u32,
    dir: PathBuf,
}

impl Trace {
    fn of(server: &Server) -> Self {
        let dir = server.unix_socket().parent().expect("a directory of its own").to_owned();
        let trace = Self { pid: server.pid(), dir };
        assert!(trace.is_there(), "{trace:?} shows nothing of a running server");
        trace
    }

    fn is_there(&self) -> bool {
        self.dir.exists() || self.runs()
    }

    fn read(report: &str) -> Self {
        let (pid, dir) = report.split_once(' ').expect("a number and a path");
        Self { pid: pid.parse().expect("a number"), dir: dir.into() }
    }

    fn runs(&self) -> bool {
        test_kill_process(pid(self.pid)).is_ok()
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed()).expect("a number above zero")
}

const END: &str = "REDBRICK_TESTKIT_END";
const REPORT: &str = "server runs: ";
