//! TLS: the right authority, the right name, client certificates, and what each mistake says.

use std::{
    io::{self, Write},
    time::Duration,
};

use redbrick_core_conn::{Config, ConfigBuilder, Conn, Error, ErrorKind, Tls};
use redbrick_testkit::Server;

/// A TLS server, or nothing where this server was built without TLS, which is then said aloud.
fn tls_server(config: &[(&str, &str)]) -> Option<Server> {
    let builder = config
        .iter()
        .fold(Server::builder().tls(), |builder, (name, value)| builder.config(*name, *value));
    match builder.start() {
        Ok(server) => Some(server),
        Err(err) if err.to_string().contains("TLS") => {
            // Not captured by the test harness: whoever reads the run sees what it did not cover.
            writeln!(io::stderr(), "TLS is not tested on this server: {err}").expect("stderr");
            None
        }
        Err(err) => panic!("{err}"),
    }
}

fn trusting(server: &Server) -> Tls {
    Tls::new().ca_pem(server.tls().expect("a TLS server").ca_pem()).expect("its authority")
}

fn to(server: &Server) -> ConfigBuilder {
    Config::builder().url(server.url())
}

async fn refused(config: ConfigBuilder) -> Error {
    let err = Conn::connect(config).await.expect_err("this cannot connect");
    assert_eq!(err.kind(), ErrorKind::Tls, "{err:?}");
    err
}

#[tokio::test]
async fn connects_with_the_servers_authority() {
    let Some(server) = tls_server(&[]) else { return };
    assert!(server.url().starts_with("rediss://"));
    let conn = Conn::connect(to(&server).tls_with(trusting(&server))).await.unwrap();
    conn.set("k", &1).await.unwrap();
    assert_eq!(conn.get::<i32>("k").await.unwrap(), Some(1));
    let by_name =
        Config::builder().host("localhost").port(server.port()).tls_with(trusting(&server));
    Conn::connect(by_name).await.unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn another_authority_is_refused_by_name() {
    let Some(server) = tls_server(&[]) else { return };
    let other = redbrick_testkit::Tls::generate().unwrap();
    let err = refused(to(&server).tls_with(Tls::new().ca_pem(other.ca_pem()).unwrap())).await;
    assert!(err.to_string().contains("not signed by an authority"), "{err}");
    assert!(err.to_string().contains("Tls::ca_pem"), "says what to do: {err}");
}

#[tokio::test]
async fn the_servers_name_is_checked_and_can_be_set() {
    let Some(server) = tls_server(&[]) else { return };
    let wrong = trusting(&server).server_name("elsewhere.internal").unwrap();
    let err = refused(to(&server).tls_with(wrong)).await;
    assert!(err.to_string().contains("another name"), "{err}");
    let right = trusting(&server).server_name("localhost").unwrap();
    Conn::connect(to(&server).tls_with(right)).await.unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_the_server_wants_one() {
    let Some(server) = tls_server(&[("tls-auth-clients", "yes")]) else { return };
    let err = refused(to(&server).tls_with(trusting(&server))).await;
    assert!(err.to_string().contains("client certificate"), "{err}");
    let files = server.tls().unwrap();
    let tls =
        trusting(&server).client_pem(files.client_cert_pem(), files.client_key_pem()).unwrap();
    Conn::connect(to(&server).tls_with(tls)).await.unwrap().ping().await.unwrap();
}

#[test]
fn a_client_key_of_another_certificate_is_refused_before_any_connection() {
    let [one, other] = [(); 2].map(|()| redbrick_testkit::Tls::generate().unwrap());
    let tls = Tls::new().ca_pem(one.ca_pem()).unwrap();
    let tls = tls.client_pem(one.client_cert_pem(), other.client_key_pem()).unwrap();
    let err = Config::builder().tls_with(tls).build().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Config, "{err:?}");
    assert!(err.to_string().contains("do not fit"), "{err}");
}

#[tokio::test]
async fn tls_on_a_plain_port_ends_in_time_and_asks_whether_the_port_is_right() {
    let server = crate::server();
    let authority = redbrick_testkit::Tls::generate().unwrap();
    let config = Config::builder()
        .host("127.0.0.1")
        .port(server.port())
        .connect_timeout(Duration::from_millis(500))
        .tls_with(Tls::new().ca_pem(authority.ca_pem()).unwrap());
    // A plain server waits for the rest of what it takes for a command, so only time tells.
    let err = Conn::connect(config).await.unwrap_err();
    assert!(matches!(err.kind(), ErrorKind::Tls | ErrorKind::Timeout), "{err:?}");
    assert!(err.to_string().contains("TLS"), "{err}");
}

#[tokio::test]
async fn a_plain_connection_to_a_tls_port_says_what_to_do() {
    let Some(server) = tls_server(&[]) else { return };
    let config = Config::builder().host("127.0.0.1").port(server.port());
    let err = Conn::connect(config).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Connect, "{err:?}");
    assert!(err.to_string().contains("rediss://"), "{err}");
}

#[tokio::test]
async fn comes_back_over_tls_after_a_restart() {
    let Some(server) = tls_server(&[]) else { return };
    let conn = Conn::connect(to(&server).tls_with(trusting(&server))).await.unwrap();
    let mut changes = conn.state_changes();
    server.kill().unwrap();
    server.restart().unwrap();
    crate::reach(&mut changes, redbrick_core_conn::State::Connected).await;
    conn.ping().await.unwrap();
}
