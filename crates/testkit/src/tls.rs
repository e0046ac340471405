use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::Error;

/// An authority made for a test, a server certificate from it for `127.0.0.1`, `::1` and `localhost`, and a client
/// certificate.
///
/// A second one is the wrong authority, for the tests that need to be refused. `Debug` shows no key.
#[derive(Clone)]
pub struct Tls(Arc<Pems>);

struct Pems {
    ca: String,
    server: Pair,
    client: Pair,
}

struct Pair {
    cert: String,
    key: String,
}

/// Where [`Tls::write_to`] put what it wrote.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The server's certificate.
    pub server_cert: PathBuf,
    /// The server's key.
    pub server_key: PathBuf,
    /// The client's certificate.
    pub client_cert: PathBuf,
    /// The client's key.
    pub client_key: PathBuf,
}

impl Tls {
    /// Makes keys and certificates, which takes milliseconds.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when they cannot be made, as without randomness from the operating system.
    pub fn generate() -> Result<Self, Error> {
        make().map(|pems| Self(Arc::new(pems))).map_err(|source| Error::Io {
            what: "making certificates".into(),
            source: io::Error::other(source),
        })
    }

    /// The authority's certificate, which a client must trust, as PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.0.ca
    }

    /// The server's certificate as PEM.
    #[must_use]
    pub fn server_cert_pem(&self) -> &str {
        &self.0.server.cert
    }

    /// The server's key as PEM (PKCS 8).
    #[must_use]
    pub fn server_key_pem(&self) -> &str {
        &self.0.server.key
    }

    /// The client's certificate as PEM.
    #[must_use]
    pub fn client_cert_pem(&self) -> &str {
        &self.0.client.cert
    }

    /// The client's key as PEM (PKCS 8).
    #[must_use]
    pub fn client_key_pem(&self) -> &str {
        &self.0.client.key
    }

    /// Writes all of it into a directory, as files that only this user can read, for code that wants paths. Files from
    /// an earlier call are replaced.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a file cannot be written; earlier ones may be there then.
    pub fn write_to(&self, dir: impl AsRef<Path>) -> Result<TlsFiles, Error> {
        let dir = dir.as_ref();
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            let file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&path);
            file.and_then(|mut file| file.write_all(text.as_bytes()))
                .map_err(Error::io(format!("writing {}", path.display())))?;
            Ok(path)
        };
        Ok(TlsFiles {
            ca: write("ca.crt", self.ca_pem())?,
            server_cert: write("server.crt", self.server_cert_pem())?,
            server_key: write("server.key", self.server_key_pem())?,
            client_cert: write("client.crt", self.client_cert_pem())?,
            client_key: write("client.key", self.client_key_pem())?,
        })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

fn make() -> Result<Pems, rcgen::Error> {
    let mut params = named("redbrick test authority", Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let ca = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);

    let names = ["127.0.0.1", "::1", "localhost"].map(String::from).to_vec();
    Ok(Pems {
        ca,
        server: signed(
            named("redbrick test server", names)?,
            ExtendedKeyUsagePurpose::ServerAuth,
            &issuer,
        )?,
        client: signed(
            named("redbrick test client", Vec::new())?,
            ExtendedKeyUsagePurpose::ClientAuth,
            &issuer,
        )?,
    })
}

fn named(name: &str, subjects: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(subjects)?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn signed(
    mut params: CertificateParams,
    purpose: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<Pair, rcgen::Error> {
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    let key = KeyPair::generate()?;
    Ok(Pair { cert: params.signed_by(&key, issuer)?.pem(), key: key.serialize_pem() })
}
