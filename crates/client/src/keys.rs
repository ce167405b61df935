//! Key sets: the authority's own, and the public ones of any issuer (RFC 7517; contract: JWKS).

use std::time::Duration;

use bytes::Bytes;
use countersign_protocol::body;
use http::StatusCode;
use reqwest::Url;

use crate::address::is_loopback;
use crate::client::Client;
use crate::error::{Error, SettingsError};
use crate::request::Request;
use crate::transport::{self, read, words};

/// How long a public document may take.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// A public RSA key for signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Jwk {
    /// Its id.
    pub kid: String,
    /// The algorithm, `RS256`.
    pub alg: String,
    /// The modulus, base64url.
    pub n: String,
    /// The exponent, base64url.
    pub e: String,
}

/// Reads the public signing keys.
#[must_use]
pub fn jwks() -> Request<body::Jwks> {
    Request::get("/jwks")
}

impl Client {
    /// The public signing keys of the instance.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn jwks(&self) -> Result<Vec<Jwk>, Error> {
        let keys = self.send(jwks()).await?.keys.into_iter();
        Ok(keys
            .map(|key| Jwk {
                kid: key.kid.to_string(),
                alg: key.alg,
                n: key.n,
                e: key.e,
            })
            .collect())
    }
}

/// Fetches public documents, such as the key set of an OpenID issuer, from one address: without a credential, without
/// following redirects, within 2 s and a bound on the size.
#[derive(Clone, Debug)]
pub struct PublicDocument {
    url: Url,
    max_bytes: usize,
    http: reqwest::Client,
}

impl PublicDocument {
    /// A document at an `https` address, or one on this machine.
    ///
    /// # Errors
    /// [`Error::Settings`] where the address is another one.
    pub fn new(url: &str, max_bytes: usize) -> Result<Self, Error> {
        let wrong = |why: &str| {
            SettingsError::Address(format!(
                "the address of a public document cannot be used: {why}"
            ))
        };
        let url = Url::parse(url.trim()).map_err(|_| wrong("it is no URL"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it holds a name or password").into());
        }
        let is_plain = url.scheme() != "https";
        if is_plain && !(url.scheme() == "http" && is_loopback(&url)) {
            return Err(wrong("it must begin with https://, except on this machine").into());
        }
        Ok(Self {
            http: transport::client(is_plain, DOCUMENT_TIMEOUT, DOCUMENT_TIMEOUT)?,
            url,
            max_bytes,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Fetches it.
    ///
    /// # Errors
    /// [`Error::Unreachable`] or, for any status but 200, [`Error::Malformed`].
    pub async fn fetch(&self) -> Result<Bytes, Error> {
        let address = || self.url.to_string();
        let unreachable = |reason| Error::Unreachable {
            address: address(),
            reason,
            status: None,
        };
        let answer = self.http.get(self.url.clone()).send().await;
        let answer = answer.map_err(|error| unreachable(words(&error)))?;
        if answer.status() != StatusCode::OK {
            return Err(Error::Malformed {
                address: address(),
                reason: format!("it answered with status {}", answer.status().as_u16()),
            });
        }
        read(answer, self.max_bytes).await.map_err(unreachable)
    }
}
