//! Signing keys and their life: published, active, verify-only, deleted (contract: JWKS).
//!
//! A key is shown in the JWKS an hour before it signs, so that nobody meets an unknown `kid`, and afterwards until the last
//! JWT that it signed is over. The first key's `kid` is the instance's own id, as at Clerk.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use countersign_protocol::body::Jwks;
use countersign_protocol::ids::{InstanceId, SigningKeyId};
use countersign_protocol::jwt::{SigningKey, VerifyingKey, generate_rsa_key};
use countersign_protocol::time::Timestamp;
use countersign_store::{
    ChangeKind, InsertSigningKey, Instance, SealedBytes, SigningKeyRow, SigningKeyState, Store,
};
use serde::Serialize;
use serde_json::json;

use crate::Authority;
use crate::actor::Actor;
use crate::error::Error;
use crate::maintenance::keep_first;
use crate::vault::{SealContext, Vault};

/// How long a key is published before it signs: longer than any receiver's cache lives.
const PUBLISHED_MILLIS: i64 = 3_600_000;
/// After how long the active key is replaced: 90 days.
const ROTATION_MILLIS: i64 = 90 * 86_400_000;
/// How many signing keys an instance may have: receivers take at most 20.
const MAX_SIGNING_KEYS: usize = 16;
/// How long after its last JWT's end a key is kept.
const KEPT_MILLIS: i64 = 60_000;

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

    /// Whether it holds these keys in these states.
    fn is_made_of(&self, rows: &[SigningKeyRow]) -> bool {
        let state = |row: &SigningKeyRow| (row.id, row.state);
        self.0
            .iter()
            .map(|key| state(&key.row))
            .eq(rows.iter().map(state))
    }

    pub(crate) fn by_id(&self, id: SigningKeyId) -> Option<&RingKey> {
        self.0.iter().find(|key| key.row.id == id)
    }
}

/// The opened keys of all instances. The authority changes them only after the store has.
#[derive(Default)]
pub(crate) struct Rings {
    rings: RwLock<HashMap<InstanceId, Arc<Ring>>>,
    reloading: tokio::sync::Mutex<()>,
}

impl Rings {
    pub(crate) fn of(&self, instance: InstanceId) -> Option<Arc<Ring>> {
        self.rings
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&instance)
            .cloned()
    }

    /// Opens the signing keys of an instance anew.
    async fn reload(
        &self,
        store: &dyn Store,
        vault: &Vault,
        instance: InstanceId,
    ) -> Result<(), Error> {
        // One at a time, so that what was read last is what stays.
        let _turn = self.reloading.lock().await;
        let mut keys = Vec::new();
        for row in store.list_signing_keys(instance).await? {
            let pkcs8 =
                vault.open_sealed(&context(instance.as_str(), row.id.as_str()), &row.sealed)?;
            let signing = SigningKey::from_pkcs8(row.id, &pkcs8)
                .map_err(|_| Error::Damaged("a signing key"))?;
            keys.push(RingKey {
                row,
                verifying: signing.verifying_key(),
                signing: Arc::new(signing),
            });
        }
        self.rings
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(instance, Arc::new(Ring(keys)));
        Ok(())
    }
}

/// What may be told about a signing key.
#[derive(Clone, Debug, Serialize)]
pub struct SigningKeyInfo {
    /// The `kid`.
    pub kid: SigningKeyId,
    /// `published`, `active` or `verify_only`.
    pub state: &'static str,
    /// When it was published, in milliseconds since the Unix epoch.
    pub published_at: Timestamp,
    /// When it became active, or will.
    pub active_at: Option<Timestamp>,
    /// When it became verify-only.
    pub retired_at: Option<Timestamp>,
    /// When the last JWT that it signed is over.
    pub last_expires_at: Option<Timestamp>,
}

impl From<&SigningKeyRow> for SigningKeyInfo {
    fn from(row: &SigningKeyRow) -> Self {
        let planned = row
            .published_at
            .plus_millis(PUBLISHED_MILLIS)
            .filter(|_| row.state == SigningKeyState::Published);
        Self {
            kid: row.id,
            state: row.state.as_str(),
            published_at: row.published_at,
            active_at: row.active_at.or(planned),
            retired_at: row.retired_at,
            last_expires_at: row.last_expires_at,
        }
    }
}

impl Authority {
    /// The public keys of an instance; `None` where there is no such instance.
    #[must_use]
    pub fn jwks(&self, instance: InstanceId) -> Option<Jwks> {
        let ring = self.rings.of(instance)?;
        Some(Jwks {
            keys: ring
                .0
                .iter()
                .map(|key| key.verifying.to_jwk(key.row.id))
                .collect(),
        })
    }

    /// The signing keys, oldest first.
    ///
    /// # Errors
    /// Where the actor is a machine, or the store's error.
    pub async fn signing_keys(&self, actor: &Actor) -> Result<Vec<SigningKeyInfo>, Error> {
        actor.require_instance()?;
        let rows = self.store.list_signing_keys(actor.instance_id()).await?;
        Ok(rows.iter().map(SigningKeyInfo::from).collect())
    }

    /// Publishes the next signing key. It signs after an hour, or at once where `is_immediate`; receivers that cache the
    /// JWKS then meet an unknown `kid` and fetch again.
    ///
    /// # Errors
    /// [`Error::Conflict`] where a next key is published already and shall not be used at once.
    pub async fn rotate_signing_key(
        &self,
        actor: &Actor,
        is_immediate: bool,
    ) -> Result<SigningKeyInfo, Error> {
        actor.require_instance()?;
        let instance = actor.instance_id();
        // Whoever comes second sees what the first one published, and makes no key in vain.
        let turn = self.rotations.of(instance).await;
        let rows = self.store.list_signing_keys(instance).await?;
        let next = rows
            .iter()
            .find(|row| row.state == SigningKeyState::Published);
        let (id, published) = match next {
            Some(next) if is_immediate => (next.id, None),
            Some(next) => {
                return Err(Error::Conflict(format!(
                    "the signing key {} is published already and becomes active by itself; to use it now, rotate at once",
                    next.id
                )));
            }
            None if rows.len() >= MAX_SIGNING_KEYS => {
                return Err(too_many());
            }
            None => {
                let row = self
                    .new_signing_key(instance, SigningKeyId::generate(self.now(), &*self.random))
                    .await?;
                let id = row.id;
                let change = self.change(actor, ChangeKind::SigningKeyPublished, id, &json!({}));
                (id, Some((row, change)))
            }
        };
        let activated = is_immediate.then(|| {
            let detail = json!({"immediate": true});
            let change = self.change(actor, ChangeKind::SigningKeyActivated, id, &detail);
            (self.now(), change)
        });
        let store = Arc::clone(&self.store);
        self.change_keys(instance, async move {
            let _turn = turn;
            if let Some((row, change)) = published {
                match store
                    .insert_signing_key(row, MAX_SIGNING_KEYS, change)
                    .await?
                {
                    InsertSigningKey::Inserted => {}
                    InsertSigningKey::NextWaits => {
                        let text = "another process has published a signing key meanwhile";
                        return Err(Error::Conflict(text.to_owned()));
                    }
                    InsertSigningKey::TooMany => return Err(too_many()),
                }
            }
            if let Some((at, change)) = activated {
                store.activate_signing_key(instance, id, at, change).await?;
            }
            Ok(())
        })
        .await?;
        self.signing_key_info(instance, id)
    }

    /// Deletes a signing key at once: JWTs that it signed are refused from then on, here and, after their caches, everywhere.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] for the active key.
    pub async fn delete_signing_key(&self, actor: &Actor, id: SigningKeyId) -> Result<(), Error> {
        actor.require_instance()?;
        let instance = actor.instance_id();
        let rows = self.store.list_signing_keys(instance).await?;
        if rows
            .iter()
            .any(|row| row.id == id && row.state == SigningKeyState::Active)
        {
            return Err(Error::Conflict(format!(
                "{id} is the active signing key; rotate at once first, then delete it"
            )));
        }
        let change = self.change(actor, ChangeKind::SigningKeyDeleted, id, &json!({}));
        let store = Arc::clone(&self.store);
        // Read anew even where there is none: an earlier attempt may have deleted it without anybody knowing.
        let is_deleted = self
            .change_keys(instance, async move {
                Ok(store.delete_signing_key(instance, id, None, change).await?)
            })
            .await?;
        if is_deleted {
            Ok(())
        } else {
            Err(Error::NotFound {
                noun: "signing key",
                id: id.to_string(),
            })
        }
    }

    /// Moves every signing key on whose time has come. An instance that fails keeps no other from its turn.
    ///
    /// # Errors
    /// The first one, when all had their turns.
    pub(crate) async fn advance_signing_keys(&self) -> Result<(), Error> {
        let mut outcome = Ok(());
        for instance in self.store.list_instances().await? {
            let id = instance.id;
            if let Err(error) = self.advance_keys_of(instance).await {
                tracing::warn!(instance.id = %id, %error, "signing keys were not moved on");
                outcome = outcome.and(Err(error));
            }
        }
        outcome
    }

    /// What fails of it keeps nothing else from being done.
    async fn advance_keys_of(&self, instance: Arc<Instance>) -> Result<(), Error> {
        let actor = Self::operator(instance);
        let rows = self.store.list_signing_keys(actor.instance_id()).await?;
        // First, because unused ones may take the places that a new one needs.
        let mut outcome = self.delete_unused_keys(&actor, &rows).await;
        keep_first(&mut outcome, self.move_keys_on(&actor, &rows).await);
        // The store may also have changed without an answer that said so.
        keep_first(&mut outcome, self.renew_ring(&actor).await);
        outcome
    }

    async fn renew_ring(&self, actor: &Actor) -> Result<(), Error> {
        let rows = self.store.list_signing_keys(actor.instance_id()).await?;
        let ring = self.rings.of(actor.instance_id());
        if ring.is_none_or(|ring| !ring.is_made_of(&rows)) {
            self.reload_ring(actor.instance_id()).await?;
        }
        Ok(())
    }

    async fn move_keys_on(&self, actor: &Actor, rows: &[SigningKeyRow]) -> Result<(), Error> {
        let now = self.now();
        let since = |at: Option<Timestamp>| at.map_or(i64::MIN, |at| now.millis_since(at));
        let of_state = |state| rows.iter().find(|row| row.state == state);
        let next = of_state(SigningKeyState::Published);
        let active = of_state(SigningKeyState::Active);
        if let Some(next) = next.filter(|next| since(Some(next.published_at)) >= PUBLISHED_MILLIS) {
            let change = self.change(
                actor,
                ChangeKind::SigningKeyActivated,
                next.id,
                &json!({"immediate": false}),
            );
            self.store
                .activate_signing_key(actor.instance_id(), next.id, now, change)
                .await?;
        } else if next.is_none()
            && active
                .is_none_or(|active| since(active.active_at) >= ROTATION_MILLIS - PUBLISHED_MILLIS)
        {
            self.rotate_signing_key(actor, active.is_none()).await?;
        }
        Ok(())
    }

    async fn delete_unused_keys(&self, actor: &Actor, rows: &[SigningKeyRow]) -> Result<(), Error> {
        let unused_since = self
            .now()
            .plus_millis(-KEPT_MILLIS)
            .unwrap_or(Timestamp::EPOCH);
        let retired = rows
            .iter()
            .filter(|row| row.state == SigningKeyState::VerifyOnly);
        for row in retired {
            let last_use = row.last_expires_at.max(row.retired_at);
            if last_use.is_some_and(|last_use| last_use < unused_since) {
                let change = self.change(
                    actor,
                    ChangeKind::SigningKeyDeleted,
                    row.id,
                    &json!({"unused": true}),
                );
                // A JWT that was under way may have arrived since the list was read.
                self.store
                    .delete_signing_key(actor.instance_id(), row.id, Some(unused_since), change)
                    .await?;
            }
        }
        Ok(())
    }

    /// Changes signing keys in the store and opens those of the instance anew, whether or not anybody waits for it: a caller
    /// who goes away between the two would leave a deleted key in memory.
    async fn change_keys<T: Send + 'static>(
        &self,
        instance: InstanceId,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (store, vault) = (Arc::clone(&self.store), Arc::clone(&self.vault));
        let rings = Arc::clone(&self.rings);
        let task = tokio::spawn(async move {
            let changed = change.await;
            // After an error, too: the store may have changed without an answer that said so.
            rings.reload(&*store, &vault, instance).await?;
            changed
        });
        match task.await {
            Ok(changed) => changed,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::Overloaded),
            },
        }
    }

    /// Opens the signing keys of an instance anew.
    pub(crate) async fn reload_ring(&self, instance: InstanceId) -> Result<(), Error> {
        self.rings.reload(&*self.store, &self.vault, instance).await
    }

    /// Makes a key that is only published. Generation takes a hundred times as long as a signature, so it has a thread of its
    /// own, for which one more may wait: neither requests nor signatures stand behind it.
    pub(crate) async fn new_signing_key(
        &self,
        instance: InstanceId,
        id: SigningKeyId,
    ) -> Result<SigningKeyRow, Error> {
        let pkcs8 = self
            .key_maker
            .run(generate_rsa_key)
            .await?
            .map_err(|_| Error::Damaged("a signing key that was being made"))?;
        Ok(SigningKeyRow {
            id,
            instance,
            sealed: self.seal_signing_key(instance, id, &pkcs8),
            state: SigningKeyState::Published,
            published_at: self.now(),
            active_at: None,
            retired_at: None,
            last_expires_at: None,
        })
    }

    fn seal_signing_key(
        &self,
        instance: InstanceId,
        id: SigningKeyId,
        pkcs8: &[u8],
    ) -> SealedBytes {
        self.vault
            .seal(&context(instance.as_str(), id.as_str()), pkcs8)
    }

    fn signing_key_info(
        &self,
        instance: InstanceId,
        id: SigningKeyId,
    ) -> Result<SigningKeyInfo, Error> {
        let ring = self.rings.of(instance).ok_or(Error::NotInitialised)?;
        let key = ring.by_id(id).ok_or_else(|| Error::NotFound {
            noun: "signing key",
            id: id.to_string(),
        })?;
        Ok(SigningKeyInfo::from(&key.row))
    }
}

fn too_many() -> Error {
    Error::Conflict(format!(
        "the instance has {MAX_SIGNING_KEYS} signing keys, which is the maximum; delete one that no JWT needs any more"
    ))
}

fn context<'a>(instance: &'a str, id: &'a str) -> SealContext<'a> {
    SealContext {
        purpose: "signing-key",
        instance,
        owner: instance,
        row: id,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use countersign_store::sqlite::{SqliteOptions, SqliteStore};

    use super::*;
    use crate::{AuthorityOptions, MasterKey, SystemClock, SystemRandom};

    #[tokio::test]
    async fn a_key_is_made_while_all_threads_that_sign_are_busy() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::create(folder.path(), SqliteOptions::default()).unwrap();
        let (clock, random) = (Arc::new(SystemClock::default()), Arc::new(SystemRandom));
        let master = MasterKey::generate(&*random);
        Authority::initialise(&store, &master, &*clock, &*random)
            .await
            .unwrap();
        let options = AuthorityOptions {
            signers: 1,
            ..AuthorityOptions::default()
        };
        let authority = Authority::open(Arc::new(store), &master, clock, random, options)
            .await
            .unwrap();
        let (go, wait) = std::sync::mpsc::channel();
        let signing = authority.signer.run(move || wait.recv());
        let making = async {
            let instance = authority.create_instance("a", false).await;
            go.send(()).unwrap();
            instance
        };
        let both = async { tokio::join!(signing, making) };
        let (signed, made) = tokio::time::timeout(Duration::from_secs(30), both)
            .await
            .expect("neither waits for the other");
        assert!(signed.unwrap().is_ok() && made.is_ok());
    }
}
