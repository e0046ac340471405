//! Each fault, by what a client sees of it.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use redbrick_testkit::{Fault, Proxy, Server, wait_until};

use crate::client::{Client, is_timeout};

#[test]
fn passes_everything_when_there_is_no_fault() {
    let (server, proxy) = pair();
    assert_eq!(proxy.url(), format!("redis://127.0.0.1:{}", proxy.port()));
    let mut client = Client::connect(proxy.address()).unwrap();
    let value = "x".repeat(3 << 20);
    client.send(&format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${}\r\n{value}", value.len())).unwrap();
    assert_eq!(client.line().unwrap(), "+OK");
    client.send("GET a").unwrap();
    assert_eq!(client.bulk().unwrap(), value.as_bytes());
    assert_eq!((proxy.connections(), proxy.open_connections()), (1, 1));
    assert!(proxy.request_bytes() > 3 << 20);
    // Counted when they are handed over, which the client may see first.
    assert!(wait_until(LONG, || proxy.reply_bytes() > 3 << 20));
    drop(client);
    assert!(wait_until(LONG, || proxy.open_connections() == 0));
    assert_eq!(server.command(["STRLEN", "a"]).unwrap().as_int(), Some(3 << 20));
}

#[test]
fn an_end_of_either_side_reaches_the_other() {
    let (server, proxy) = pair();
    let mut client = Client::connect(proxy.address()).unwrap();
    client.ask("PING").unwrap();
    server.command(["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    assert_eq!(client.line().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

    let mut client = Client::connect(proxy.address()).unwrap();
    client.ask("CLIENT SETNAME gone").unwrap();
    drop(client);
    let gone = || !text(&server, ["CLIENT", "LIST"]).contains("name=gone");
    assert!(wait_until(LONG, gone), "the server's side was closed");
}

#[test]
fn a_server_that_is_down_is_a_reset() {
    let (server, proxy) = pair();
    server.kill().unwrap();
    let mut client = Client::connect(proxy.address()).unwrap();
    assert!(is_reset(&client.line().unwrap_err()));
    server.restart().unwrap();
    assert_eq!(Client::connect(proxy.address()).unwrap().ask("PING").unwrap(), "+PONG");
}

#[test]
fn latency_delays_each_way() {
    let (_server, proxy) = pair();
    let mut client = Client::connect(proxy.address()).unwrap();
    client.ask("PING").unwrap();
    proxy.set(Fault::Latency { up: ms(120), down: ms(80) });
    let start = Instant::now();
    assert_eq!(client.ask("PING").unwrap(), "+PONG");
    assert!(start.elapsed() >= ms(200), "{:?}", start.elapsed());
    proxy.clear();
    assert_eq!(client.ask("PING").unwrap(), "+PONG");
}

#[test]
fn latency_takes_nothing_from_the_throughput() {
    let (_server, proxy) = pair();
    let mut client = Client::connect(proxy.address()).unwrap();
    proxy.set(Fault::Latency { up: ms(100), down: ms(100) });
    let start = Instant::now();
    for n in 0..200 {
        client.send(&format!("ECHO {n}")).unwrap();
    }
    for n in 0..200 {
        assert_eq!(client.bulk().unwrap(), n.to_string().as_bytes(), "in order");
    }
    // One after the other they would take 40 s.
    assert!((ms(200)..ms(10_000)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[test]
fn a_stall_of_requests_keeps_them_from_the_server() {
    let (server, proxy) = pair();
    let mut client = Client::connect(proxy.address()).unwrap();
    client.ask("SET a 1").unwrap();
    proxy.set(Fault::StallRequests);
    client.send("INCR a").unwrap();
    assert!(client.is_silent(ms(200)));
    assert_eq!(text(&server, ["GET", "a"]), "1", "it did not arrive");
    proxy.clear();
    assert_eq!(client.line().unwrap(), ":2");
}

#[test]
fn a_stall_of_replies_lets_requests_run() {
    let (server, proxy) = pair();
    let mut client = Client::connect(proxy.address()).unwrap();
    client.ask("SET a 1").unwrap();
    proxy.set(Fault::StallReplies);
    client.send("INCR a").unwrap();
    assert!(wait_until(LONG, || text(&server, ["GET", "a"]) == "2"), "it ran");
    assert!(client.is_silent(ms(200)));
    proxy.clear();
    assert_eq!(client.line().unwrap(), ":2");
}

#[test]
fn a_stall_pushes_back_until_sends_block() {
    let (_server, proxy) = pair();
    let mut client = Client::connect(proxy.address()).unwrap();
    client.ask("PING").unwrap();
    proxy.set(Fault::Stall);
    client.stream().set_write_timeout(Some(ms(300))).unwrap();
    let before = proxy.request_bytes();
    let block = vec![b'\n'; 1 << 20];
    let blocked = (0..64).find_map(|_| client.stream().write_all(&block).err());
    assert!(is_timeout(&blocked.expect("64 MiB do not fit into socket buffers")));
    assert_eq!(proxy.request_bytes(), before);
    // New ones are accepted and stand still as well.
    let mut other = Client::connect(proxy.address()).unwrap();
    other.send("PING").unwrap();
    assert!(other.is_silent(ms(200)));
    proxy.clear();
    assert_eq!(other.line().unwrap(), "+PONG");
}

#[test]
fn a_throttle_holds_the_rate_both_ways() {
    let (server, proxy) = pair();
    server.command(["SET", "a", &"x".repeat(50_000)]).unwrap();
    let mut client = Client::connect(proxy.address()).unwrap();
    client.ask("PING").unwrap();
    proxy.set(Fault::Throttle { bytes_per_second: 100_000 });
    let start = Instant::now();
    client.send("GET a").unwrap();
    assert_eq!(client.bulk().unwrap().len(), 50_000);
    // The last bytes may leave before their time is paid for.
    assert!(start.elapsed() >= ms(400), "{:?}", start.elapsed());

    let start = Instant::now();
    client
        .send(&format!("*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$50000\r\n{}", "y".repeat(50_000)))
        .unwrap();
    assert_eq!(client.line().unwrap(), "+OK");
    assert!(start.elapsed() >= ms(400), "{:?}", start.elapsed());
}

#[test]
fn dropped_replies_are_of_executed_requests() {
    let (server, proxy) = pair();
    let mut client = Client::connect(proxy.address()).unwrap();
    client.ask("SET a 1").unwrap();
    proxy.set(Fault::DropReplies);
    client.send("INCR a").unwrap();
    assert!(wait_until(LONG, || text(&server, ["GET", "a"]) == "2"), "it ran");
    assert!(client.is_silent(ms(200)));
    assert!(wait_until(LONG, || proxy.dropped_bytes() == 4));
    proxy.clear();
    assert!(is_reset(&client.line().unwrap_err()), "no connection goes on after a hole");
    assert_eq!(Client::connect(proxy.address()).unwrap().ask("GET a").unwrap(), "$1");
}

#[test]
fn a_connection_that_lost_nothing_survives_the_drop() {
    let (_server, proxy) = pair();
    let mut client = Client::connect(proxy.address()).unwrap();
    client.ask("PING").unwrap();
    proxy.set(Fault::DropReplies);
    proxy.clear();
    assert_eq!(client.ask("PING").unwrap(), "+PONG");
}

#[test]
fn a_cut_ends_within_a_reply() {
    let (server, proxy) = pair();
    server.command(["SET", "a", &"x".repeat(1000)]).unwrap();
    let mut client = Client::connect(proxy.address()).unwrap();
    client.ask("PING").unwrap();
    proxy.set(Fault::CutAfterReplyBytes(100));
    client.send("GET a").unwrap();
    let mut got = Vec::new();
    let err = client.stream().read_to_end(&mut got).unwrap_err();
    assert!(is_reset(&err));
    assert_eq!(got.len(), 100);
    proxy.clear();
    assert_eq!(Client::connect(proxy.address()).unwrap().ask("PING").unwrap(), "+PONG");
}

#[test]
fn a_cut_after_nothing_hides_an_executed_request() {
    let (server, proxy) = pair();
    let mut client = Client::connect(proxy.address()).unwrap();
    client.ask("SET a 1").unwrap();
    proxy.set(Fault::CutAfterReplyBytes(0));
    client.send("INCR a").unwrap();
    assert!(is_reset(&client.line().unwrap_err()));
    assert_eq!(text(&server, ["GET", "a"]), "2");
}

#[test]
fn a_reset_ends_all_and_lets_new_ones_in() {
    let (server, proxy) = pair();
    let mut clients: Vec<_> = (0..5).map(|_| Client::connect(proxy.address()).unwrap()).collect();
    // The last ones may not have been accepted yet: they are reset all the same.
    clients[0].ask("PING").unwrap();
    proxy.reset();
    assert_eq!(proxy.open_connections(), 0);
    for client in &mut clients {
        assert!(is_reset(&client.line().unwrap_err()));
    }
    assert_eq!(Client::connect(proxy.address()).unwrap().ask("PING").unwrap(), "+PONG");
    let left = || text(&server, ["CLIENT", "LIST"]).lines().count() == 1;
    assert!(wait_until(LONG, left), "the server's sides are gone");
}

#[test]
fn a_close_ends_all_in_good_order() {
    let (_server, proxy) = pair();
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(proxy.address()).unwrap()).collect();
    for client in &mut clients {
        client.ask("PING").unwrap();
    }
    proxy.close();
    for client in &mut clients {
        assert_eq!(client.line().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
    assert_eq!(Client::connect(proxy.address()).unwrap().ask("PING").unwrap(), "+PONG");
}

#[test]
fn refuses_and_accepts_again_on_its_port() {
    let (_server, proxy) = pair();
    let mut open = Client::connect(proxy.address()).unwrap();
    open.ask("PING").unwrap();
    proxy.refuse();
    let refused = TcpStream::connect(proxy.address()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(open.ask("PING").unwrap(), "+PONG", "open ones go on");
    proxy.accept().unwrap();
    proxy.accept().unwrap();
    assert_eq!(Client::connect(proxy.address()).unwrap().ask("PING").unwrap(), "+PONG");
}

#[test]
fn faults_follow_one_another() {
    let (_server, proxy) = pair();
    let mut client = Client::connect(proxy.address()).unwrap();
    proxy.set(Fault::Stall);
    client.send("PING").unwrap();
    proxy.set(Fault::Latency { up: ms(50), down: ms(0) });
    assert_eq!(client.line().unwrap(), "+PONG");
    proxy.set(Fault::StallReplies);
    client.send("PING").unwrap();
    assert!(client.is_silent(ms(100)));
    proxy.reset();
    assert!(is_reset(&client.line().unwrap_err()), "a stalled connection can be reset");
}

#[test]
fn a_fault_for_those_that_are_open_spares_those_to_come() {
    let (_server, proxy) = pair();
    let mut open = Client::connect(proxy.address()).unwrap();
    open.ask("PING").unwrap();
    // It may not have been accepted yet, and is among those that are open all the same.
    let mut latest = Client::connect(proxy.address()).unwrap();
    proxy.set_for_open(Fault::Stall);
    let mut next = Client::connect(proxy.address()).unwrap();
    assert_eq!(next.ask("PING").unwrap(), "+PONG");
    for stalled in [&mut open, &mut latest] {
        stalled.send("PING").unwrap();
        assert!(stalled.is_silent(ms(200)));
    }
    assert_eq!(next.ask("PING").unwrap(), "+PONG");
    proxy.set(Fault::Stall);
    next.send("PING").unwrap();
    assert!(next.is_silent(ms(100)), "a fault for all is for all again");
    proxy.clear();
    for client in [&mut open, &mut latest, &mut next] {
        assert_eq!(client.line().unwrap(), "+PONG");
    }
}

#[test]
fn a_fault_for_the_newest_concerns_nobody_else() {
    let (_server, proxy) = pair();
    let mut first = Client::connect(proxy.address()).unwrap();
    first.ask("PING").unwrap();
    let mut newest = Client::connect(proxy.address()).unwrap();
    proxy.set_for_newest(Fault::Stall);
    let mut next = Client::connect(proxy.address()).unwrap();
    newest.send("PING").unwrap();
    assert!(newest.is_silent(ms(200)));
    for other in [&mut first, &mut next] {
        assert_eq!(other.ask("PING").unwrap(), "+PONG");
    }
    proxy.clear();
    assert_eq!(newest.line().unwrap(), "+PONG");
}

#[test]
fn dropped_it_refuses() {
    let (_server, proxy) = pair();
    let mut client = Client::connect(proxy.address()).unwrap();
    client.ask("PING").unwrap();
    let address = proxy.address();
    drop(proxy);
    assert!(is_reset(&client.line().unwrap_err()));
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

fn pair() -> (Server, Proxy) {
    let server = Server::start().expect("a server");
    let proxy = server.proxy().expect("a proxy before it");
    (server, proxy)
}

fn text<const N: usize>(server: &Server, command: [&str; N]) -> String {
    server.command(command).expect("an answer").as_str().unwrap_or_default().to_owned()
}

fn is_reset(err: &io::Error) -> bool {
    err.kind() == io::ErrorKind::ConnectionReset
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// For what must come, however busy the machine is.
const LONG: Duration = Duration::from_secs(20);
