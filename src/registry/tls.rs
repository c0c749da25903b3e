// SPDX-License-Identifier: Apache-2.0
//! Whom to trust: the system's roots, a registry's own CA, and a certificate of ours.
//!
//! A registry's files are those of `certs.d/HOST[:PORT]/` as containers-certs.d(5) and Docker have
//! them (`*.crt` is a CA, `*.cert` with `*.key` a client certificate), or those that wharf.toml(5)
//! names. The crypto provider is ring.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig};

use crate::paths::Paths;
use crate::sys;

/// Largest file of certificates. A distribution's bundle has a quarter of a MiB.
const PEM_BYTES_MAX: u64 = 8 << 20;

/// Where distributions keep their bundle of trusted roots; the first that exists is read.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Trusted roots, parsed once.
pub(super) type Roots = Arc<Vec<Certificate<'static>>>;

/// A registry's own files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) authorities: Vec<PathBuf>,
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

/// Whether a server has to prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Verify {
    Yes,
    /// Configured so (`insecure = true`).
    No,
}

impl Files {
    /// Those of the first `certs.d` directory that has one for this host.
    pub(super) fn find(paths: &Paths, host: &str) -> anyhow::Result<Self> {
        for dir in paths.certificate_dirs() {
            let dir = dir.join(host);
            if dir.is_dir() {
                return Self::in_dir(&dir);
            }
        }
        Ok(Self::default())
    }

    fn in_dir(dir: &Path) -> anyhow::Result<Self> {
        let mut found = Self::default();
        for name in sys::fs::list_dir(dir)? {
            let path = dir.join(&name);
            match path.extension().and_then(OsStr::to_str) {
                Some("crt") => found.authorities.push(path),
                Some("cert") => {
                    let key = path.with_extension("key");
                    ensure!(
                        key.is_file(),
                        "the certificate '{}' has no key; put it into '{}'",
                        path.display(),
                        key.display()
                    );
                    found.client = Some((path, key));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// The configuration of connections to the registry.
    pub(super) fn config(&self, system: &Roots, verify: Verify) -> anyhow::Result<TlsConfig> {
        let mut roots = Arc::clone(system);
        for path in &self.authorities {
            let more = certificates(path)?;
            Arc::make_mut(&mut roots).extend(more);
        }
        let client = self.client.as_ref();
        let client = client.map(|(certificate, key)| client_certificate(certificate, key));
        Ok(TlsConfig::builder()
            .root_certs(RootCerts::Specific(roots))
            .client_cert(client.transpose()?)
            .disable_verification(verify == Verify::No)
            .build())
    }
}

/// The roots of the system: `$SSL_CERT_FILE`, or the distribution's bundle.
pub(super) fn system_roots() -> anyhow::Result<Roots> {
    let configured = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let path = configured.or_else(|| {
        let mut bundles = SYSTEM_BUNDLES.iter().map(Path::new);
        bundles.find(|path| path.is_file()).map(Path::to_owned)
    });
    // Without any, registries with a CA of their own still work, and the others say whom they
    // wanted to be trusted by.
    path.map_or(Ok(Roots::default()), |path| {
        Ok(Arc::new(certificates(&path)?))
    })
}

fn certificates(path: &Path) -> anyhow::Result<Vec<Certificate<'static>>> {
    let bytes = sys::fs::read_limited(path, PEM_BYTES_MAX).context("reading certificates")?;
    let items = ureq::tls::parse_pem(&bytes);
    let found: Vec<_> = items
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(err) => Some(Err(anyhow!("'{}': {err}", path.display()))),
        })
        .collect::<anyhow::Result<_>>()?;
    ensure!(
        !found.is_empty(),
        "'{}' holds no certificate",
        path.display()
    );
    Ok(found)
}

/// A certificate that is sure to be accepted by rustls: ureq would panic at one that is not.
fn client_certificate(certificate: &Path, key: &Path) -> anyhow::Result<ClientCert> {
    let chain = certificates(certificate)?;
    let bytes = sys::fs::read_limited(key, PEM_BYTES_MAX).context("reading a key")?;
    let (Ok(private), Ok(der)) = (
        PrivateKey::from_pem(&bytes),
        PrivateKeyDer::from_pem_slice(&bytes),
    ) else {
        bail!("'{}' holds no private key in PEM", key.display());
    };
    let certificates = chain
        .iter()
        .map(|certificate| CertificateDer::from(certificate.der().to_vec()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(rustls::RootCertStore::empty()))
        .and_then(|builder| builder.with_client_auth_cert(certificates.collect(), der))
        .with_context(|| {
            format!(
                "using the certificate '{}' with the key '{}'",
                certificate.display(),
                key.display()
            )
        })?;
    Ok(ClientCert::new_with_certs(&chain, private))
}
