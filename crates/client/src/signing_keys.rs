//! The signing keys of JWTs, with an instance key. An extension of Countersign.

use std::time::SystemTime;

use countersign_protocol::body::List;
use countersign_protocol::ids::SigningKeyId;
use countersign_protocol::instance::{DeletedSigningKey, SigningKeyInfo};
use countersign_protocol::request::SigningKeyRotation;

use crate::client::Client;
use crate::error::Error;
use crate::request::Request;

/// The state of a signing key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SigningKeyState {
    /// In the public key set, but not signing yet.
    Published,
    /// Signing.
    Active,
    /// No longer signing; the JWTs that it signed are still valid.
    VerifyOnly,
    /// A state that this version does not know.
    Other(String),
}

/// The public facts about a signing key.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SigningKey {
    /// The `kid`.
    pub kid: SigningKeyId,
    /// The state.
    pub state: SigningKeyState,
    /// When the key was published.
    pub published_at: SystemTime,
    /// When the key became active, or will.
    pub active_at: Option<SystemTime>,
    /// When the key became verify-only.
    pub retired_at: Option<SystemTime>,
    /// When the last JWT that the key signed expires.
    pub last_expires_at: Option<SystemTime>,
}

/// Lists the signing keys of the caller's instance.
#[must_use]
pub fn list_signing_keys() -> Request<List<SigningKeyInfo>> {
    Request::get("/countersign/signing_keys")
}

/// Rotates the signing keys of the caller's instance.
#[must_use]
pub fn rotate_signing_key(is_immediate: bool) -> Request<SigningKeyInfo> {
    let body = SigningKeyRotation {
        immediate: Some(is_immediate),
    };
    Request::post("/countersign/signing_keys/rotate", &body)
}

/// Deletes a signing key of the caller's instance.
#[must_use]
pub fn delete_signing_key(kid: SigningKeyId) -> Request<DeletedSigningKey> {
    Request::delete(format!("/countersign/signing_keys/{kid}"))
}

impl Client {
    /// Lists the signing keys of the instance, oldest first.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn list_signing_keys(&self) -> Result<Vec<SigningKey>, Error> {
        let list = self.send(list_signing_keys()).await?;
        Ok(list.data.into_iter().map(SigningKey::from).collect())
    }

    /// Publishes the next signing key, which becomes active after one hour.
    ///
    /// # Errors
    /// [`Error`], each kind of it; `conflict` if the next key is already published.
    pub async fn rotate_signing_key(&self) -> Result<SigningKey, Error> {
        Ok(self.send(rotate_signing_key(false)).await?.into())
    }

    /// Makes the next signing key active at once, as after a leak. Receivers that keep the key set meet an unknown key.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn rotate_signing_key_now(&self) -> Result<SigningKey, Error> {
        Ok(self.send(rotate_signing_key(true)).await?.into())
    }

    /// Deletes a signing key. All JWTs that it signed are refused from then on.
    ///
    /// # Errors
    /// [`Error`], each kind of it; `conflict` for the active key.
    pub async fn delete_signing_key(&self, kid: SigningKeyId) -> Result<(), Error> {
        self.send(delete_signing_key(kid)).await.map(drop)
    }
}

impl From<SigningKeyInfo> for SigningKey {
    fn from(key: SigningKeyInfo) -> Self {
        Self {
            kid: key.kid,
            state: match key.state.as_ref() {
                "published" => SigningKeyState::Published,
                "active" => SigningKeyState::Active,
                "verify_only" => SigningKeyState::VerifyOnly,
                _ => SigningKeyState::Other(key.state.into_owned()),
            },
            published_at: key.published_at.into(),
            active_at: key.active_at.map(SystemTime::from),
            retired_at: key.retired_at.map(SystemTime::from),
            last_expires_at: key.last_expires_at.map(SystemTime::from),
        }
    }
}
