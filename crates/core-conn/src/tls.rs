use std::{fmt, net::IpAddr, path::Path, sync::Arc};

use fred::types::config::{HostMapping, TlsConfig, TlsHostMapping};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use crate::{Error, Result};

/// How to speak TLS: rustls with ring, TLS 1.2 and 1.3.
///
/// Certificates and keys are read and checked when they are set, and whether they fit together when the
/// [`Config`](crate::Config) is built; so are the system's authorities, once.
///
/// ```no_run
/// use redbrick_core_conn::{Config, Tls};
///
/// # fn config() -> Result<Config, redbrick_core_conn::Error> {
/// let tls = Tls::new().ca_file("/etc/redis/ca.pem")?.server_name("redis.internal")?;
/// let config = Config::builder().url("rediss://10.0.0.7:6380").tls_with(tls).build()?;
/// # Ok(config) }
/// ```
#[derive(Clone, Default)]
pub struct Tls {
    authorities: Vec<CertificateDer<'static>>,
    client: Option<Arc<ClientCertificate>>,
    server_name: Option<String>,
}

/// What a [`Tls`] comes to, as the client library takes it.
#[derive(Clone)]
pub(crate) struct ReadyTls {
    pub(crate) config: TlsConfig,
    pub(crate) server_name: Option<String>,
}

struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Tls {
    /// TLS with the operating system's certificate authorities and without a client certificate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificate authorities in `pem`, and from then on no others.
    ///
    /// Can be called several times.
    /// Default: the operating system's authorities.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when `pem` holds no certificate.
    pub fn ca_pem(mut self, pem: impl AsRef<[u8]>) -> Result<Self> {
        self.authorities.extend(certificates(pem.as_ref(), "the certificate authority")?);
        Ok(self)
    }

    /// Trusts the certificate authorities in the PEM file at `path`; see [`ca_pem`](Self::ca_pem).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the file cannot be read or holds no certificate.
    pub fn ca_file(self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let pem = std::fs::read(path).map_err(|err| {
            Error::config(format!(
                "the certificate authority file {} cannot be read",
                path.display()
            ))
            .with_source(err)
        })?;
        self.ca_pem(pem)
    }

    /// Shows the certificate chain in `certificate` to servers that ask for one (mutual TLS).
    ///
    /// Default: none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when either PEM text holds nothing usable.
    pub fn client_pem(
        mut self,
        certificate: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<Self> {
        let chain = certificates(certificate.as_ref(), "the client certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key.as_ref()).map_err(|err| {
            Error::config("the client key holds no private key in PEM form").with_source(err)
        })?;
        self.client = Some(Arc::new(ClientCertificate { chain, key }));
        Ok(self)
    }

    /// Expects the server's certificate to be for `name`, whatever address is dialed.
    ///
    /// On Cluster and Sentinel this holds for every node.
    /// Default: the host that is dialed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when `name` is neither a DNS name nor an IP address.
    pub fn server_name(mut self, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        ServerName::try_from(name.as_str()).map_err(|err| {
            Error::config("the TLS server name is neither a DNS name nor an IP address")
                .with_source(err)
        })?;
        self.server_name = Some(name);
        Ok(self)
    }

    /// Puts everything together, and reads the system's authorities when none were given.
    pub(crate) fn ready(&self) -> Result<ReadyTls> {
        let mut roots = RootCertStore::empty();
        if self.authorities.is_empty() {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
            if roots.is_empty() {
                let what =
                    "the system trusts no certificate authority; name one with `Tls::ca_pem`";
                let err = Error::config(what);
                return Err(match system.errors.into_iter().next() {
                    Some(reason) => err.with_source(reason),
                    None => err,
                });
            }
        }
        for authority in &self.authorities {
            roots.add(authority.clone()).map_err(|err| {
                Error::config("a certificate authority cannot be used").with_source(err)
            })?;
        }

        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|err| Error::config("TLS cannot be set up").with_source(err))?
            .with_root_certificates(roots);
        let config = match &self.client {
            None => config.with_no_client_auth(),
            Some(client) => config
                .with_client_auth_cert(client.chain.clone(), client.key.clone_key())
                .map_err(|err| {
                    Error::config("the client certificate and its key do not fit together")
                        .with_source(err)
                })?,
        };
        let mut config = TlsConfig::from(config);
        if let Some(name) = &self.server_name {
            config.hostnames = TlsHostMapping::Custom(Arc::new(OneName(name.clone())));
        }
        Ok(ReadyTls { config, server_name: self.server_name.clone() })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authorities", &self.authorities.len())
            .field("client_certificate", &self.client.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}

impl fmt::Debug for ReadyTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// Expects one name of every node that Cluster names by address.
#[derive(Debug)]
struct OneName(String);

impl HostMapping for OneName {
    fn map(&self, _: &IpAddr, _: &str) -> Option<String> {
        Some(self.0.clone())
    }
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|err| Error::config(format!("{what} is not valid PEM")).with_source(err))?;
    if found.is_empty() {
        return Err(Error::config(format!("{what} holds no certificate in PEM form")));
    }
    Ok(found)
}
