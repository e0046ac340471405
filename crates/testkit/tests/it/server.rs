//! One server: what it is told, what it counts, how it is stopped.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use redbrick_testkit::{Error, Server, provision::Want, wait_until};

#[test]
fn answers_on_its_port_and_by_command() {
    let server = Server::start().unwrap();
    assert_eq!(server.url(), format!("redis://127.0.0.1:{}", server.port()));
    assert_eq!(say(&server, "PING"), "+PONG\r\n");
    assert_eq!(server.command(["PING"]).unwrap().as_str(), Some("PONG"));
    let pid = format!("process_id:{}\r\n", server.pid());
    let info = server.command(["INFO", "server"]).unwrap();
    assert!(info.as_str().unwrap().contains(&pid));
    let refused = server.command(["INCR"]).unwrap_err();
    assert!(refused.reply().unwrap().starts_with("ERR wrong number"), "{refused}");
}

#[test]
fn a_refusal_that_quotes_bytes_is_one_all_the_same() {
    let server = Server::start().unwrap();
    let refused = server.command([b"NO\xff"]).unwrap_err();
    assert!(refused.reply().unwrap().starts_with("ERR unknown command"), "{refused}");
}

#[test]
fn its_version_is_what_it_says_itself() {
    let server = Server::start().unwrap();
    let info = server.command(["INFO", "server"]).unwrap();
    let version = server.version().to_string();
    let numbers = version.split_once(' ').unwrap().1;
    assert!(info.as_str().unwrap().contains(&format!("_version:{numbers}\r\n")), "{version}");
}

#[test]
fn is_reached_through_its_socket() {
    let server = Server::start().unwrap();
    assert!(server.unix_socket().as_os_str().len() < 100);
    std::os::unix::net::UnixStream::connect(server.unix_socket()).unwrap();
}

#[test]
fn keeps_its_port_and_settings_over_a_restart() {
    let server = Server::builder().config("maxmemory", "77mb").start().unwrap();
    let (port, pid) = (server.port(), server.pid());
    server.command(["SET", "a", "b"]).unwrap();
    server.restart().unwrap();
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    assert_eq!(say(&server, "PING"), "+PONG\r\n");
    assert!(server.command(["GET", "a"]).unwrap().is_nil(), "nothing persists by default");
    let limit = server.command(["CONFIG", "GET", "maxmemory"]).unwrap();
    assert_eq!(limit.as_strings().unwrap()[1], (77 << 20).to_string());
}

#[test]
fn keeps_data_over_a_restart_when_told_to() {
    let settings = Server::builder().config("appendonly", "yes").config("appendfsync", "always");
    let server = settings.start().unwrap();
    server.command(["SET", "a", "b"]).unwrap();
    server.restart().unwrap();
    assert_eq!(server.command(["GET", "a"]).unwrap().as_str(), Some("b"));
}

#[test]
fn refuses_connections_while_it_is_killed() {
    let server = Server::start().unwrap();
    server.kill().unwrap();
    assert!(!server.is_running());
    assert_eq!(
        TcpStream::connect(server.address()).unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    assert!(matches!(server.command(["PING"]), Err(Error::Down { .. })));
    assert!(matches!(server.pause(), Err(Error::Down { .. })));
    server.kill().unwrap();
    server.restart().unwrap();
    assert_eq!(say(&server, "PING"), "+PONG\r\n");
}

#[test]
fn notices_an_end_that_it_did_not_cause() {
    let server = Server::start().unwrap();
    let _ = server.command(["SHUTDOWN", "NOSAVE"]);
    assert!(wait_until(Duration::from_secs(10), || !server.is_running()));
    server.restart().unwrap();
    assert_eq!(say(&server, "PING"), "+PONG\r\n");
}

#[test]
fn a_paused_server_accepts_and_answers_later() {
    let server = Server::start().unwrap();
    let paused = server.pause().unwrap();
    let mut link = TcpStream::connect(server.address()).unwrap();
    link.write_all(b"INCR late\r\n").unwrap();
    link.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(link.read(&mut [0; 16]).is_err(), "nothing is answered while it stands still");
    paused.resume();
    link.set_read_timeout(None).unwrap();
    let mut answer = [0; 4];
    link.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b":1\r\n");
}

#[test]
fn can_be_killed_and_restarted_while_paused() {
    let server = Server::start().unwrap();
    let _paused = server.pause().unwrap();
    server.restart().unwrap();
    assert_eq!(say(&server, "PING"), "+PONG\r\n");
}

#[test]
fn counts_what_others_ask_and_not_what_it_asks() {
    let server = Server::start().unwrap();
    assert_eq!(server.command_counts().unwrap().total(), 0);
    say(&server, "SET a 1");
    let before = server.command_counts().unwrap();
    server.command(["GET", "a"]).unwrap();
    server.command(["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    server.command(["CLIENT", "LIST"]).unwrap();
    for _ in 0..3 {
        say(&server, "GET a");
    }
    say(&server, "CONFIG GET maxmemory");
    let since = server.command_counts().unwrap().since(&before);
    assert_eq!((since.of("GET"), since.of("config"), since.total()), (3, 1, 4), "{since:?}");
    assert_eq!(server.command_counts().unwrap().of("set"), 1);
    server.restart().unwrap();
    assert_eq!(server.command_counts().unwrap().total(), 0);
}

#[test]
fn tells_what_a_key_takes() {
    let server = Server::start().unwrap();
    assert_eq!(server.memory_usage("absent").unwrap(), None);
    server.command(["SET", "a", &"x".repeat(10_000)]).unwrap();
    assert!(server.memory_usage("a").unwrap().unwrap() > 10_000);
}

#[test]
fn lets_in_whom_the_builder_names() {
    let settings = Server::builder()
        .user("app", "p w\"\\", "~app:* &app:* +@all -@dangerous")
        .default_user_off();
    let server = settings.start().unwrap();
    assert!(say(&server, "PING").starts_with("-NOAUTH"));
    let greeting = "*3\r\n$4\r\nAUTH\r\n$3\r\napp\r\n$5\r\np w\"\\\r\n";
    assert_eq!(say(&server, greeting), "+OK\r\n");
    assert!(say(&server, &format!("{greeting}SET other 1")).starts_with("-NOPERM"));
    assert_eq!(say(&server, &format!("{greeting}SET app:1 1")), "+OK\r\n");
    assert_eq!(server.command(["GET", "app:1"]).unwrap().as_str(), Some("1"));
    let counts = server.command_counts().unwrap();
    assert_eq!((counts.of("auth"), counts.of("get")), (3, 0), "{counts:?}");
    server.restart().unwrap();
    assert!(say(&server, "PING").starts_with("-NOAUTH"));
}

#[test]
fn asks_for_the_password_of_the_default_user() {
    let server = Server::builder().password("let me in").start().unwrap();
    assert!(say(&server, "PING").starts_with("-NOAUTH"));
    assert_eq!(say(&server, "*2\r\n$4\r\nAUTH\r\n$9\r\nlet me in\r\n"), "+OK\r\n");
}

#[test]
fn a_setting_that_it_refuses_is_named_at_once() {
    let started = std::time::Instant::now();
    let err = Server::builder().config("no-such-setting", "1").start().unwrap_err();
    assert!(
        matches!(&err, Error::Start { output, .. } if output.contains("no-such-setting")),
        "{err}"
    );
    assert!(started.elapsed() < Duration::from_secs(15), "not found by a timeout");
}

#[test]
fn a_refused_user_shows_no_password() {
    let err = Server::builder().user("app", "s3cr3t", "+@no-such-category").start().unwrap_err();
    assert!(
        matches!(&err, Error::Start { output, .. } if output.contains("no-such-category")),
        "{err}"
    );
    assert!(!err.to_string().contains("s3cr3t"), "{err}");
}

#[test]
fn can_be_restarted_from_several_threads() {
    let server = Server::start().unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| server.restart().unwrap());
        }
    });
    assert_eq!(say(&server, "PING"), "+PONG\r\n");
}

#[test]
fn outlives_the_thread_that_started_it() {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || send.send(Server::start().unwrap()).unwrap()).join().unwrap();
    let server = receive.recv().unwrap();
    assert_eq!(say(&server, "PING"), "+PONG\r\n");
}

#[test]
fn debug_commands_are_allowed() {
    let server = Server::start().unwrap();
    server.command(["DEBUG", "SLEEP", "0"]).unwrap();
}

#[test]
fn what_is_wanted_is_what_is_had() {
    // The version is only asked for where the machine's own server has it, so that this fetches nothing.
    let any = Server::start().unwrap();
    for want in Want::ALL.into_iter().filter(|want| want.accepts(any.version())) {
        let server = Server::builder().want(want).start().unwrap();
        assert!(want.accepts(server.version()));
    }
}

/// Sends text on a connection of its own and gives the last line of the answer.
fn say(server: &Server, text: &str) -> String {
    let exchange = || {
        let mut link = TcpStream::connect(server.address())?;
        link.write_all(format!("{text}\r\n").as_bytes())?;
        link.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        link.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = exchange().expect("a server that answers");
    let last = answer.trim_end().rfind('\n').map_or(0, |at| at + 1);
    answer[last..].to_owned()
}
