//! TLS for a server that does it itself: 1.2 and 1.3 by rustls, with HTTP/2 and HTTP/1.1.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::{self, PemObject as _};
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
        .map_err(|error| unusable(certificate, what_is_wrong(&error)))?;
    if chain.is_empty() {
        return Err(unusable(certificate, "it holds no certificate"));
    }
    let private_key = PrivateKeyDer::from_pem_file(key).map_err(|error| match error {
        pem::Error::NoItemsFound => unusable(key, "it holds no private key"),
        error => unusable(key, what_is_wrong(&error)),
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, private_key)
        })
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => unusable(
                certificate,
                format!("{} is the key of another certificate", key.display()),
            ),
            error => unusable(certificate, error),
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

fn what_is_wrong(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        _ => "it is not well-formed PEM".to_owned(),
    }
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> Failure {
    let hint = "--tls-certificate names a PEM file with the certificate chain, --tls-key one with its private key";
    Failure::new(
        Code::Settings,
        format!("{} cannot be used: {why}", path.display()),
        hint,
    )
}
