//! The server is asked what it is and what it can do.

use redbrick_core_conn::{Capability, Conn, ErrorKind, ServerKind};
use redbrick_testkit::{Kind, Server};

use crate::{connect, reach, server};

const COMMANDS: [(Capability, &str); 6] = [
    (Capability::CompareAndDelete, "DELIFEQ"),
    (Capability::Functions, "FCALL"),
    (Capability::HashFieldTtl, "HPEXPIRE"),
    (Capability::IncrementWithin, "INCREX"),
    (Capability::MultiSetWithTtl, "MSETEX"),
    (Capability::ShardedPubSub, "SSUBSCRIBE"),
];

#[tokio::test]
async fn the_server_is_known_by_its_own_name_and_version() {
    let server = server();
    let info = Conn::connect(server.url()).await.unwrap().server_info().await.unwrap();
    let truth = server.version();
    let kind = match truth.kind {
        Kind::Redis => ServerKind::Redis,
        Kind::Valkey => ServerKind::Valkey,
        _ => ServerKind::Other("redict".to_owned()),
    };
    assert_eq!(info.kind, kind);
    assert_eq!(
        (u64::from(info.version.major), u64::from(info.version.minor)),
        (u64::from(truth.major), u64::from(truth.minor))
    );
}

#[tokio::test]
async fn the_server_says_what_time_it_is_and_is_asked_each_time() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let time = async || {
        let truth = server.command(["TIME"]).unwrap();
        truth.as_strings().unwrap()[0].parse::<u64>().unwrap()
    };
    let (before, asked, after) = (time().await, conn.server_time().await.unwrap(), time().await);
    assert!((before..=after).contains(&asked.as_secs()), "{before} {asked:?} {after}");
    assert!(conn.server_time().await.unwrap() > asked);
}

#[tokio::test]
async fn a_capability_is_there_when_its_command_is() {
    let server = server();
    let capabilities = Conn::connect(server.url()).await.unwrap().capabilities().await.unwrap();
    for (capability, command) in COMMANDS {
        let err = server.command([command]).unwrap_err().to_string();
        let exists = !err.to_lowercase().contains("unknown command");
        assert_eq!(capabilities.contains(capability), exists, "{capability:?}: {err}");
    }
    assert_eq!(
        capabilities.iter().count(),
        COMMANDS.iter().filter(|(f, _)| capabilities.contains(*f)).count()
    );
}

#[tokio::test]
async fn capabilities_are_asked_for_once_per_connection() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let mut changes = conn.state_changes();
    let asked = || {
        server
            .command_counts()
            .unwrap()
            .of("command|info")
            .max(server.command_counts().unwrap().of("command"))
    };
    let before = asked();
    conn.capabilities().await.unwrap();
    conn.capabilities().await.unwrap();
    assert_eq!(asked() - before, 1);

    server.kill().unwrap();
    server.restart().unwrap();
    reach(&mut changes, redbrick_core_conn::State::Connected).await;
    // A new link asks for the commands that it will send.
    let dialed = asked();
    conn.capabilities().await.unwrap();
    assert_eq!(asked() - dialed, 1, "another server may be answering: asked again");
}

#[tokio::test]
async fn works_on_every_topology() {
    let conn = connect("server").await;
    assert!(conn.server_info().await.unwrap().version.major >= 6);
    assert!(conn.server_time().await.unwrap().as_secs() > 0);
    conn.capabilities().await.unwrap();
}

#[tokio::test]
async fn a_missing_right_is_an_error_not_a_guess() {
    let server =
        Server::builder().user("app", "pw", "~* +@all -info -command -time").start().unwrap();
    let config =
        redbrick_core_conn::Config::builder().url(server.url()).username("app").password("pw");
    let conn = Conn::connect(config).await.unwrap();
    assert_eq!(conn.server_info().await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(conn.server_time().await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(conn.capabilities().await.unwrap_err().kind(), ErrorKind::Denied);
}
