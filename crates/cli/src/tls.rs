//! TLS for a server that does it itself: 1.2 and 1.3 by rustls, with HTTP/2 and HTTP/1.1.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::exit::{Code, Failure};
use crate::folder::refuse_loose_mode;
use crate::settings::Settings;

/// The configuration, where a certificate is given.
pub(crate) fn config(settings: &Settings) -> Result<Option<Arc<ServerConfig>>, Failure> {
    let (Some(certificate), Some(key)) = (&settings.tls_certificate, &settings.tls_key) else {
        return Ok(None);
    };
    refuse_loose_mode(key)?;
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(certificate, &error))?;
    let private_key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, private_key)
        })
        .map_err(|error| unusable(certificate, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    let hint = "--tls-certificate names a PEM file with the certificate chain, --tls-key one with its private key";
    Failure::new(
        Code::Settings,
        format!("{} cannot be used: {error}", path.display()),
        hint,
    )
}
