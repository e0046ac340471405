use std::{
    ffi::OsString,
    fs::{self, DirBuilder},
    io::{self, BufRead, BufReader, Write},
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Error, unique::random, wait::PATIENCE};

/// A directory that only this user can enter, for one server.
///
/// Its name is short: a Unix socket's path must fit into 100 bytes. What removes it is the watchdog of the
/// process that runs in it.
pub(crate) fn private_dir() -> Result<PathBuf, Error> {
    let base = std::env::temp_dir();
    // A socket's path ends up as base + "/redbrick-" + 16 digits + "/s".
    let base = if base.as_os_str().len() <= 60 { base } else { PathBuf::from("/tmp") };
    loop {
        let dir = base.join(format!("redbrick-{:016x}", random()));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => {
                return Err(Error::Io { what: format!("creating {}", dir.display()), source });
            }
        }
    }
}

/// A server's process under a watchdog: when this is dropped, or the process that holds it ends in whatever way, the
/// server is killed and its directory removed.
#[derive(Debug)]
pub(crate) struct Process {
    dir: PathBuf,
    watchdog: Child,
    orders: Mutex<ChildStdin>,
    life: Arc<Life>,
    /// Follows the watchdog's reports until it is gone.
    follower: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `command` with its output in `dir/output`. Takes over `dir` in any case.
    pub(crate) fn start(dir: PathBuf, command: &[OsString]) -> Result<Self, Error> {
        // `sh` and not a thread or PR_SET_PDEATHSIG: a thread does not survive `kill -9`, and the signal comes already
        // when the thread ends that started the server, as the threads of tests do.
        let spawned = Command::new("/bin/sh")
            .args(["-c", include_str!("watchdog.sh"), "redbrick-watchdog"])
            .arg(&dir)
            .args(command)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let mut watchdog = spawned.map_err(|source| {
            // No watchdog will do it, and a directory left behind is all that could happen.
            let _ = fs::remove_dir_all(&dir);
            Error::Io { what: "starting /bin/sh".into(), source }
        })?;
        let (Some(orders), Some(reports)) = (watchdog.stdin.take(), watchdog.stdout.take()) else {
            unreachable!("both were asked for")
        };
        let life = Arc::default();
        let mut process = Self { dir, watchdog, orders: Mutex::new(orders), life, follower: None };
        let life = Arc::clone(&process.life);
        let follower = thread::Builder::new()
            .name(format!("redbrick-server-{}", process.watchdog.id()))
            .spawn(move || life.follow(reports));
        process.follower = Some(follower.map_err(Error::io("starting a thread"))?);
        process.life.await_pid()?;
        Ok(process)
    }

    /// Starts the ended process again with the same arguments.
    pub(crate) fn start_again(&self) -> Result<(), Error> {
        self.life.lock().pid = None;
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.write_all(b"start\n").map_err(Error::io("asking the watchdog for a restart"))?;
        drop(orders);
        self.life.await_pid()
    }

    /// The process's number; the last one when it has ended.
    pub(crate) fn pid(&self) -> u32 {
        self.life.lock().pid.unwrap_or_default().unsigned_abs()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.life.lock().running
    }

    /// Sends a signal; false when the process has ended.
    pub(crate) fn signal(&self, signal: Signal) -> Result<bool, Error> {
        // Held while the signal is sent, so that the end is not noted meanwhile.
        let state = self.life.lock();
        match state.pid.filter(|_| state.running).and_then(Pid::from_raw) {
            Some(pid) => match kill_process(pid, signal) {
                Ok(()) => Ok(true),
                Err(rustix::io::Errno::SRCH) => Ok(false),
                Err(errno) => Err(Error::Io {
                    what: format!("signalling process {pid:?}"),
                    source: errno.into(),
                }),
            },
            None => Ok(false),
        }
    }

    /// Waits until the process has ended.
    pub(crate) fn await_end(&self) -> Result<(), Error> {
        self.life.await_that("the end of a killed server", |state| !state.running)
    }

    /// What the process wrote.
    pub(crate) fn output(&self) -> String {
        fs::read(self.dir.join("output"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Said and not only shown by the end of input: another child of this process may hold a copy of the pipe.
        let orders = self.orders.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = orders.write_all(b"end\n");
        let _ = self.watchdog.wait();
        // Somebody killed the watchdog itself: what it would have done is left to do.
        let orphaned = !self.life.ends_within(SILENCE);
        if orphaned {
            let _ = self.signal(Signal::KILL);
        }
        if let Some(follower) = self.follower.take() {
            let _ = follower.join();
        }
        if orphaned {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// What the watchdog reported last.
#[derive(Debug, Default)]
struct Life {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pid: Option<i32>,
    running: bool,
    /// The watchdog itself is gone.
    silent: bool,
}

impl Life {
    fn follow(&self, reports: ChildStdout) {
        for line in BufReader::new(reports).lines().map_while(Result::ok) {
            let mut state = self.lock();
            match line.split_once(' ') {
                Some(("pid", pid)) => {
                    state.pid = pid.parse().ok();
                    state.running = true;
                }
                Some(("exit", _)) => state.running = false,
                _ => {}
            }
            drop(state);
            self.changed.notify_all();
        }
        let mut state = self.lock();
        state.silent = true;
        state.running = false;
        drop(state);
        self.changed.notify_all();
    }

    fn await_pid(&self) -> Result<(), Error> {
        self.await_that("the start of a server's process", |state| state.pid.is_some())
    }

    fn await_that(&self, what: &str, reached: impl Fn(&State) -> bool) -> Result<(), Error> {
        let waiting = |state: &mut State| !reached(state) && !state.silent;
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), PATIENCE, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        if reached(&state) { Ok(()) } else { Err(Error::timeout(what, PATIENCE)) }
    }

    /// Whether the last who could report anything is gone in time.
    fn ends_within(&self, time: Duration) -> bool {
        let waiting = |state: &mut State| !state.silent;
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), time, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        state.silent
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a watchdog's output stays open after it, when all is well: for no time at all.
const SILENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use rustix::process::test_kill_process;

    use super::*;
    use crate::wait_until;

    #[test]
    fn leaves_no_thread() {
        for _ in 0..20 {
            let command = ["sleep", "100"].map(OsString::from);
            let process = Process::start(private_dir().unwrap(), &command).unwrap();
            let life = Arc::clone(&process.life);
            drop(process);
            assert_eq!(Arc::strong_count(&life), 1, "its thread holds the other");
        }
    }

    #[test]
    fn ends_the_server_of_a_watchdog_that_was_killed() {
        let command = ["sleep", "100"].map(OsString::from);
        let process = Process::start(private_dir().unwrap(), &command).unwrap();
        let (dir, server) = (process.dir.clone(), Pid::from_raw(process.pid().cast_signed()));
        kill_process(Pid::from_child(&process.watchdog), Signal::KILL).unwrap();
        drop(process);
        assert!(!dir.exists());
        // Its parent is dead, so the system buries it, in its own time.
        let is_gone = || test_kill_process(server.unwrap()).is_err();
        assert!(wait_until(PATIENCE, is_gone));
    }
}
