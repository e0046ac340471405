//! Connecting works, or fails in time with an error that says why.

use std::{num::NonZeroUsize, time::Duration};

use redbrick_core_conn::{Config, ConfigBuilder, Conn, Error, ErrorKind, State};
use redbrick_testkit::Server;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use crate::{PATIENCE, client_list, server};

async fn refused(config: ConfigBuilder) -> Error {
    Conn::connect(config).await.expect_err("this cannot connect")
}

#[tokio::test]
async fn connects_by_url_by_parts_and_through_a_socket() {
    let server = server();
    let by_url = Conn::connect(server.url()).await.unwrap();
    assert_eq!(by_url.state(), State::Connected);
    let by_parts = Config::builder().host("127.0.0.1").port(server.port());
    Conn::connect(by_parts).await.unwrap().ping().await.unwrap();
    let by_vars = Config::from_vars([
        ("REDIS_HOST", "localhost"),
        ("REDIS_PORT", server.port().to_string().as_str()),
    ]);
    Conn::connect(by_vars.unwrap()).await.unwrap().ping().await.unwrap();
    let by_socket = Config::builder().unix_socket(server.unix_socket());
    Conn::connect(by_socket).await.unwrap().ping().await.unwrap();
    let by_socket = format!("unix://{}?db=3", server.unix_socket().display());
    let by_socket = Conn::connect(by_socket).await.unwrap();
    by_socket.set("k", &1).await.unwrap();
    assert_eq!(by_url.get::<i32>("k").await.unwrap(), None, "another database");
}

#[tokio::test]
async fn every_link_is_made_and_named() {
    let server = server();
    let config = Config::builder()
        .url(server.url())
        .client_name("orders")
        .command_links(NonZeroUsize::new(3).unwrap());
    let conn = Conn::connect(config).await.unwrap();
    let named = client_list(&server).iter().filter(|line| line.contains(" name=orders ")).count();
    assert_eq!(named, 3);
    for _ in 0..3 {
        conn.ping().await.unwrap();
    }
    let list = client_list(&server);
    let pinged = list.iter().filter(|line| line.contains(" cmd=ping ")).count();
    assert_eq!(pinged, 3, "calls go round the links: {list:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_reported_at_once() {
    let server = server();
    server.kill().unwrap();
    let started = Instant::now();
    let err = refused(Config::builder().url(server.url())).await;
    assert_eq!(err.kind(), ErrorKind::Connect, "{err:?}");
    assert!(err.to_string().contains(&format!("127.0.0.1:{}", server.port())), "{err}");
    assert!(err.to_string().contains("refused"), "{err}");
    assert!(started.elapsed() < Duration::from_secs(5), "one attempt, not ten seconds");

    let err = refused(Config::builder().unix_socket("/does/not/exist.sock")).await;
    assert_eq!(err.kind(), ErrorKind::Connect, "{err:?}");
    assert!(err.to_string().contains("no socket"), "{err}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_reported() {
    let config = Config::builder().host("no-such-host.invalid").connect_timeout(PATIENCE);
    let err = refused(config).await;
    assert_eq!(err.kind(), ErrorKind::Connect, "{err:?}");
    assert!(err.to_string().contains("does not resolve"), "{err}");
}

#[tokio::test]
async fn wrong_and_missing_passwords_are_authentication_errors() {
    let server = Server::builder().password("right").start().unwrap();
    for (config, says) in [
        (Config::builder().url(server.url()), "wants a password"),
        (Config::builder().url(server.url()).password("wrong-secret"), "refused the user name"),
        (
            Config::builder().url(server.url()).username("nobody").password("wrong-secret"),
            "refused the user name",
        ),
    ] {
        let err = refused(config).await;
        assert_eq!(err.kind(), ErrorKind::Auth, "{err:?}");
        assert!(err.to_string().contains(says), "{err}");
        assert!(!format!("{err:?}").contains("wrong-secret"), "{err:?}");
        assert!(!err.is_retryable());
    }
    let config = Config::builder().url(server.url()).password("right");
    Conn::connect(config).await.unwrap().ping().await.unwrap();

    // A password that nobody asked for does no harm.
    let open = self::server();
    let config = Config::builder().url(open.url()).password("needless");
    Conn::connect(config).await.unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let server = Server::builder()
        .user("mute", "pw", "~* +@all -ping")
        .user("reader", "pw", "~app:* +@read +@connection")
        .start()
        .unwrap();
    let user = |name: &str| Config::builder().url(server.url()).username(name).password("pw");

    let err = refused(user("mute")).await;
    assert_eq!(err.kind(), ErrorKind::Denied, "{err:?}");
    assert!(err.to_string().contains("ping") && err.to_string().contains("ready_check"), "{err}");
    let conn = Conn::connect(user("mute").ready_check(false)).await.unwrap();
    conn.set("k", &1).await.unwrap();

    let conn = Conn::connect(user("reader").client_name("x")).await.unwrap();
    assert_eq!(conn.get::<i32>("app:k").await.unwrap(), None);
    for err in
        [conn.set("app:k", &1).await.unwrap_err(), conn.get::<i32>("other").await.unwrap_err()]
    {
        assert_eq!(err.kind(), ErrorKind::Denied, "{err:?}");
        assert!(!err.is_retryable() && !err.is_outcome_unknown());
    }
}

#[tokio::test]
async fn something_else_on_the_port_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let web_server = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 64];
            let _ = socket.read(&mut request).await;
            let _ =
                socket.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
        }
    });
    let err = refused(Config::builder().host("127.0.0.1").port(port)).await;
    assert_eq!(err.kind(), ErrorKind::Protocol, "{err:?}");
    assert!(err.to_string().contains("does not speak the Redis protocol"), "{err}");
    web_server.abort();
}

/// Answers as a proxy does that knows `PING` and `GET` only, and does not send a word back.
async fn proxy_without_echo(mut socket: TcpStream) -> std::io::Result<()> {
    let (reading, mut writing) = socket.split();
    let mut lines = BufReader::new(reading).lines();
    while let Some(head) = lines.next_line().await? {
        let count: usize = head.trim_start_matches('*').parse().expect("how many arguments");
        let mut args = Vec::new();
        for _ in 0..count {
            lines.next_line().await?;
            args.extend(lines.next_line().await?);
        }
        let answer: &[u8] = match (&*args[0], args.len()) {
            ("PING", _) => b"+PONG\r\n",
            ("GET", 2) => b"$-1\r\n",
            _ => b"-ERR not here\r\n",
        };
        writing.write_all(answer).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_answers_ping_without_its_word_is_no_reason_to_give_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (opened, mut links) = tokio::sync::mpsc::channel(8);
    let proxy = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            opened.send(()).await.unwrap();
            tokio::spawn(proxy_without_echo(socket));
        }
    });
    let conn = Conn::connect(Config::builder().host("127.0.0.1").port(port)).await.unwrap();
    let heartbeats = Instant::now() + Duration::from_secs(1);
    while Instant::now() < heartbeats {
        assert_eq!(conn.get::<i32>("k").await.unwrap(), None);
    }
    links.recv().await.unwrap();
    assert!(links.try_recv().is_err(), "the link stayed");
    proxy.abort();
}

#[tokio::test]
async fn silence_on_the_port_ends_with_the_connect_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let timeout = Duration::from_millis(300);
    let started = Instant::now();
    let config = Config::builder().host("127.0.0.1").port(port).connect_timeout(timeout);
    let err = refused(config).await;
    assert_eq!(err.kind(), ErrorKind::Timeout, "{err:?}");
    let took = started.elapsed();
    assert!(took >= timeout && took < timeout + Duration::from_secs(2), "{took:?}");
    assert!(err.to_string().contains("300ms"), "{err}");
}

#[tokio::test]
async fn a_loading_server_is_waited_for() {
    // Each key takes 5 ms to load, and after every 2 MB the server answers LOADING.
    let server = Server::builder()
        .config("key-load-delay", "5000")
        .config("rdbcompression", "no")
        .start()
        .unwrap();
    for n in 0..200 {
        server.command(["SET", &format!("k{n}"), &"x".repeat(100_000)]).unwrap();
    }
    server.command(["SAVE"]).unwrap();
    server.kill().unwrap();

    let url = server.url();
    let (server, result) = tokio::join!(
        tokio::task::spawn_blocking(move || {
            server.restart().unwrap();
            server
        }),
        async {
            // The port is refused until the new process listens; from then on it is loading.
            let impatient = || Config::builder().url(url.as_str()).ready_check(false);
            let deadline = Instant::now() + PATIENCE;
            loop {
                let err = Conn::connect(impatient()).await.expect_err("it is not ready");
                if err.kind() == ErrorKind::Loading {
                    break;
                }
                assert!(err.kind() == ErrorKind::Connect && Instant::now() < deadline, "{err:?}");
            }
            Conn::connect(url.as_str()).await
        }
    );
    let conn = result.unwrap();
    assert!(conn.exists("k199").await.unwrap());
    drop(server);
}

#[tokio::test]
async fn a_lazy_connection_starts_without_its_server() {
    let server = server();
    server.kill().unwrap();
    let config = Config::builder().url(server.url()).lazy(true).command_timeout(PATIENCE);
    let conn = Conn::connect(config).await.unwrap();
    assert_eq!(conn.state(), State::Disconnected, "no I/O yet");

    let hasty = conn.with_command_timeout(Duration::from_millis(100));
    let err = hasty.ping().await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Connect, "{err:?}");
    assert!(err.to_string().contains("refused") && err.is_retryable(), "{err}");
    assert!(!err.is_outcome_unknown());

    let waiting = tokio::spawn({
        let conn = conn.clone();
        async move { conn.increment("n", 1).await }
    });
    server.restart().unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
    conn.ready().await.unwrap();
    assert_eq!(conn.state(), State::Connected);
}

#[tokio::test]
async fn a_lazy_connection_gives_up_on_refused_credentials() {
    let server = Server::builder().password("right").start().unwrap();
    let conn = Conn::connect_lazy(Config::builder().url(server.url()).password("wrong")).unwrap();
    let started = Instant::now();
    let err = conn.ping().await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Auth, "{err:?}");
    assert!(started.elapsed() < Duration::from_secs(4), "not by timeout");
    assert_eq!(conn.state(), State::Error);
    assert_eq!(conn.ping().await.unwrap_err().kind(), ErrorKind::Auth, "and stays so");
}

#[tokio::test]
async fn a_lazy_connection_needs_no_runtime_to_be_made() {
    let url = server().url();
    let made = std::thread::spawn(move || Conn::connect_lazy(url)).join().unwrap();
    assert_eq!(made.unwrap().state(), State::Disconnected);
}
