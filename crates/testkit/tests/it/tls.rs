//! TLS: who is let in, and who is not.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use redbrick_testkit::{Error, Kind, Server, Tls};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

#[test]
fn speaks_tls_and_nothing_else_on_its_port() {
    let Some(server) = start(|builder| builder.tls()) else { return };
    assert_eq!(server.url(), format!("rediss://127.0.0.1:{}", server.port()));
    let tls = server.tls().unwrap();
    for name in ["localhost", "127.0.0.1"] {
        assert_eq!(ping(&server, tls, name, None).unwrap(), "+PONG\r\n");
    }
    assert_eq!(ping(&server, tls, "localhost", Some(tls)).unwrap(), "+PONG\r\n");
    assert_eq!(server.command(["PING"]).unwrap().as_str(), Some("PONG"));

    let mut plain = TcpStream::connect(server.address()).unwrap();
    plain.write_all(b"PING\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"+PONG"));
    server.restart().unwrap();
    assert_eq!(ping(&server, tls, "localhost", None).unwrap(), "+PONG\r\n");
}

#[test]
fn another_authority_is_not_trusted() {
    let Some(server) = start(|builder| builder.tls()) else { return };
    let other = Tls::generate().unwrap();
    assert!(
        ping(&server, &other, "localhost", None).unwrap_err().to_string().contains("certificate")
    );
    let tls = server.tls().unwrap();
    assert!(ping(&server, tls, "elsewhere", None).unwrap_err().to_string().contains("certificate"));
}

#[test]
fn demands_a_certificate_when_told_to() {
    let Some(server) = start(|builder| builder.tls().config("tls-auth-clients", "yes")) else {
        return;
    };
    let tls = server.tls().unwrap();
    assert_eq!(ping(&server, tls, "localhost", Some(tls)).unwrap(), "+PONG\r\n");
    assert!(ping(&server, tls, "localhost", None).is_err());
    let other = Tls::generate().unwrap();
    assert!(ping(&server, tls, "localhost", Some(&other)).is_err());
}

#[test]
fn servers_can_share_an_authority() {
    let tls = Tls::generate().unwrap();
    for _ in 0..2 {
        let Some(server) = start(|builder| builder.tls_with(tls.clone())) else { return };
        assert_eq!(ping(&server, &tls, "localhost", None).unwrap(), "+PONG\r\n");
    }
}

#[test]
fn a_proxy_carries_it() {
    let Some(server) = start(|builder| builder.tls()) else { return };
    let proxy = server.proxy().unwrap();
    assert_eq!(proxy.url(), format!("rediss://127.0.0.1:{}", proxy.port()));
}

#[test]
fn shows_no_key() {
    assert!(!format!("{:?}", Tls::generate().unwrap()).contains("KEY"));
}

/// A server with TLS; on one without, the error says so and there is nothing more to see.
fn start(
    settings: impl FnOnce(redbrick_testkit::ServerBuilder) -> redbrick_testkit::ServerBuilder,
) -> Option<Server> {
    match settings(Server::builder()).start() {
        Ok(server) => Some(server),
        Err(err) => {
            assert!(
                matches!(&err, Error::NoTls { version } if version.kind == Kind::Redis),
                "{err}"
            );
            assert!(err.to_string().contains("built without TLS"), "{err}");
            None
        }
    }
}

fn ping(
    server: &Server,
    trusted: &Tls,
    name: &'static str,
    own: Option<&Tls>,
) -> io::Result<String> {
    let cert = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(cert(trusted.ca_pem())).expect("an authority");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_root_certificates(roots);
    let config = match own {
        None => config.with_no_client_auth(),
        Some(own) => {
            let key =
                PrivateKeyDer::from_pem_slice(own.client_key_pem().as_bytes()).expect("a key");
            config.with_client_auth_cert(vec![cert(own.client_cert_pem())], key).expect("a pair")
        }
    };
    let name = name.try_into().expect("a name");
    let client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let socket = TcpStream::connect(server.address())?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut stream = StreamOwned::new(client, socket);
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
