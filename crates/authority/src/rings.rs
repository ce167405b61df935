//! Keeps the opened signing keys of all instances in memory.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use countersign_protocol::body::Jwks;
use countersign_protocol::ids::{InstanceId, SigningKeyId};
use countersign_protocol::jwt::{SigningKey, VerifyingKey};
use countersign_store::{SigningKeyRow, SigningKeyState, Store};

use crate::error::Error;
use crate::vault::{SealContext, Vault};

/// An opened signing key.
pub(crate) struct RingKey {
    pub(crate) row: SigningKeyRow,
    pub(crate) signing: Arc<SigningKey>,
    pub(crate) verifying: VerifyingKey,
}

/// The signing keys of one instance, oldest first.
pub(crate) struct Ring(Vec<RingKey>);

impl Ring {
    pub(crate) fn active(&self) -> Option<&RingKey> {
        self.0
            .iter()
            .find(|key| key.row.state == SigningKeyState::Active)
    }

    pub(crate) fn by_id(&self, id: SigningKeyId) -> Option<&RingKey> {
        self.0.iter().find(|key| key.row.id == id)
    }

    /// Returns whether the ring holds these keys in these states.
    pub(crate) fn is_made_of(&self, rows: &[SigningKeyRow]) -> bool {
        let state = |row: &SigningKeyRow| (row.id, row.state);
        self.0
            .iter()
            .map(|key| state(&key.row))
            .eq(rows.iter().map(state))
    }

    /// Returns the public keys.
    pub(crate) fn jwks(&self) -> Jwks {
        let keys = self.0.iter();
        Jwks {
            keys: keys.map(|key| key.verifying.to_jwk(key.row.id)).collect(),
        }
    }
}

/// The opened keys of all instances. They change only after the store has changed.
#[derive(Default)]
pub(crate) struct Rings(RwLock<HashMap<InstanceId, Arc<Ring>>>);

impl Rings {
    pub(crate) fn of(&self, instance: InstanceId) -> Option<Arc<Ring>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&instance)
            .cloned()
    }

    /// Opens the signing keys of an instance again. The caller must prevent concurrent calls, so that the keys read
    /// last are the ones that stay.
    pub(crate) async fn reload(
        &self,
        store: &dyn Store,
        vault: &Vault,
        instance: InstanceId,
    ) -> Result<(), Error> {
        let mut keys = Vec::new();
        for row in store.list_signing_keys(instance).await? {
            let pkcs8 = vault.open_sealed(&seal_context(&instance, &row.id), &row.sealed)?;
            let signing = SigningKey::from_pkcs8(row.id, &pkcs8)
                .map_err(|_| Error::damaged("a signing key"))?;
            keys.push(RingKey {
                row,
                verifying: signing.verifying_key(),
                signing: Arc::new(signing),
            });
        }
        let mut rings = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // An instance that does not exist has no keys.
        if keys.is_empty() {
            rings.remove(&instance);
        } else {
            rings.insert(instance, Arc::new(Ring(keys)));
        }
        Ok(())
    }
}

/// Returns the context that a sealed signing key is bound to.
pub(crate) fn seal_context<'a>(instance: &'a InstanceId, id: &'a SigningKeyId) -> SealContext<'a> {
    SealContext {
        purpose: "signing-key",
        instance: instance.as_str(),
        owner: instance.as_str(),
        row: id.as_str(),
    }
}
