//! Signing keys and their life: published, active, verify-only, deleted (contract: JWKS).
//!
//! A key is shown in the JWKS an hour before it signs, so that nobody meets an unknown `kid`, and afterwards until the last
//! JWT that it signed is expired. The first key's `kid` is the instance's own id, as at Clerk.

use std::sync::Arc;

use countersign_protocol::body::Jwks;
use countersign_protocol::change::{Cause, Log};
use countersign_protocol::ids::{InstanceId, SigningKeyId};
use countersign_protocol::instance::SigningKeyInfo;
use countersign_protocol::jwt::generate_rsa_key;
use countersign_protocol::time::Timestamp;
use countersign_store::{InsertSigningKey, Instance, SigningKeyRow, SigningKeyState};

use crate::Authority;
use crate::actor::Actor;
use crate::error::{Error, instance_not_found, keep_first};
use crate::rings::seal_context;

/// How long a key is published before it signs: longer than any receiver's cache lives.
const PUBLISHED_MILLIS: i64 = 3_600_000;
/// After how long the active key is replaced: 90 days.
const ROTATION_MILLIS: i64 = 90 * 86_400_000;
/// Maximum number of signing keys of an instance. Receivers accept at most 20.
const MAX_SIGNING_KEYS: usize = 16;
/// How long a key is kept after the expiry of its last JWT.
const KEPT_MILLIS: i64 = 60_000;

fn key_info(row: &SigningKeyRow) -> SigningKeyInfo {
    let planned = row
        .published_at
        .plus_millis(PUBLISHED_MILLIS)
        .filter(|_| row.state == SigningKeyState::Published);
    SigningKeyInfo {
        kid: row.id,
        state: row.state.as_str().into(),
        published_at: row.published_at,
        active_at: row.active_at.or(planned),
        retired_at: row.retired_at,
        last_expires_at: row.last_expires_at,
    }
}

/// Where third-party verifiers find the public keys of an instance (OpenID Connect Discovery 1.0 section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// The issuer of the instance's JWTs.
    pub issuer: String,
    /// The URL of the public keys.
    pub jwks_uri: String,
}

impl Authority {
    /// Returns the public keys of the actor's instance.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the instance does not exist.
    pub fn jwks(&self, actor: &Actor) -> Result<Jwks, Error> {
        let instance = actor.instance_id();
        let ring = self.follower.ring(instance);
        let ring = ring.ok_or_else(|| instance_not_found(instance))?;
        Ok(ring.jwks())
    }

    /// Returns the public keys of the named instance, or of the default one. Anyone may read them.
    ///
    /// # Errors
    /// [`Error::NotFound`] with the noun `instance`, or the store's error.
    pub async fn public_jwks(&self, instance: Option<&str>) -> Result<Jwks, Error> {
        let instance = self.public_instance(instance).await?;
        Ok(self.follower.ring_of(instance.id).await?.jwks())
    }

    /// Returns where the public keys of the named instance, or of the default one, are found. Anyone may read this.
    ///
    /// # Errors
    /// [`Error::NotFound`] with the noun `instance`, or the store's error.
    pub async fn discovery(&self, instance: Option<&str>) -> Result<Discovery, Error> {
        let instance = self.public_instance(instance).await?;
        let issuer = self.issuer(&instance);
        Ok(Discovery {
            jwks_uri: format!("{issuer}/.well-known/jwks.json"),
            issuer,
        })
    }

    /// The signing keys, oldest first.
    ///
    /// # Errors
    /// A refusal if the actor is a machine, or the store's error.
    pub async fn signing_keys(&self, actor: &Actor) -> Result<Vec<SigningKeyInfo>, Error> {
        actor.require_instance()?;
        let rows = self.store.list_signing_keys(actor.instance_id()).await?;
        Ok(rows.iter().map(key_info).collect())
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
        let key = self
            .publish_next_key(actor, is_immediate, Cause::Request)
            .await?;
        tracing::info!(kid = %key.kid, state = &*key.state, actor = actor.name(), "signing key rotated");
        Ok(key)
    }

    /// Deletes a signing key at once. From then on, JWTs that it signed are refused here, and elsewhere once cached key
    /// sets expire.
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
        let change = self.change(actor);
        let store = Arc::clone(&self.store);
        // Runs even if the list has no such key: an earlier attempt may have deleted it without reporting success.
        let (is_deleted, caught_up) = self
            .change_keys(instance, async move {
                Ok(store.delete_signing_key(instance, id, None, change).await?)
            })
            .await;
        caught_up?;
        if !is_deleted? {
            return Err(key_not_found(id));
        }
        tracing::info!(kid = %id, actor = actor.name(), "signing key deleted");
        Ok(())
    }

    /// Advances every signing key that is due. A failure of one instance does not hold up the other instances.
    ///
    /// # Errors
    /// The first error, after all instances were tried.
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

    /// Changes signing keys in the store and opens the instance's keys again. Both steps complete even if the caller
    /// goes away; otherwise a deleted key could stay in memory. Returns the results of both.
    pub(crate) async fn change_keys<T: Send + 'static>(
        &self,
        instance: InstanceId,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> (Result<T, Error>, Result<(), Error>) {
        let follower = Arc::clone(&self.follower);
        let task = tokio::spawn(async move {
            let changed = change.await;
            // Catches up after an error, too: the store may have changed without confirming it.
            let caught_up = follower.catch_up(Log::Instance(instance)).await;
            (changed, caught_up)
        });
        match task.await {
            Ok(changed) => changed,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => (Err(Error::Overloaded), Ok(())),
            },
        }
    }

    /// Creates a key that is only published. Generating a key takes a hundred times as long as signing, so it runs on a
    /// separate thread and delays neither requests nor signatures. One more caller may wait for that thread.
    pub(crate) async fn new_signing_key(
        &self,
        instance: InstanceId,
        id: SigningKeyId,
    ) -> Result<SigningKeyRow, Error> {
        let pkcs8 = self
            .key_maker
            .run(generate_rsa_key)
            .await?
            .map_err(|_| Error::damaged("a signing key that was being made"))?;
        Ok(SigningKeyRow {
            id,
            instance,
            sealed: self.vault.seal(&seal_context(&instance, &id), &pkcs8),
            state: SigningKeyState::Published,
            published_at: self.now(),
            active_at: None,
            retired_at: None,
            last_expires_at: None,
        })
    }

    /// Publishes a key, activates one, or both, as [`Self::rotate_signing_key`] describes.
    async fn publish_next_key(
        &self,
        actor: &Actor,
        is_immediate: bool,
        cause: Cause,
    ) -> Result<SigningKeyInfo, Error> {
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
                let id = SigningKeyId::generate(self.now(), &*self.random);
                let row = self.new_signing_key(instance, id).await?;
                (id, Some((row, self.change(actor))))
            }
        };
        let activated = is_immediate.then(|| self.change(actor));
        let store = Arc::clone(&self.store);
        let rotate = async move {
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
            if let Some(change) = activated {
                store
                    .activate_signing_key(instance, id, cause, change)
                    .await?;
            }
            Ok(())
        };
        let (rotated, caught_up) = self.change_keys(instance, rotate).await;
        caught_up?;
        rotated?;
        let ring = self.follower.ring(instance).ok_or(Error::NotInitialized)?;
        let key = ring.by_id(id).ok_or_else(|| key_not_found(id))?;
        Ok(key_info(&key.row))
    }

    /// What fails of it keeps nothing else from being done.
    async fn advance_keys_of(&self, instance: Arc<Instance>) -> Result<(), Error> {
        let actor = Actor::operator(instance);
        let id = actor.instance_id();
        let rows = self.store.list_signing_keys(id).await?;
        // First, because unused ones may take the places that a new one needs.
        let mut outcome = self.delete_unused_keys(&actor, &rows).await;
        keep_first(&mut outcome, self.move_keys_on(&actor, &rows).await);
        keep_first(
            &mut outcome,
            self.follower.catch_up(Log::Instance(id)).await,
        );
        keep_first(&mut outcome, self.compare_ring(id).await);
        outcome
    }

    /// A safety net in addition to the change log: opens the keys again if those in memory differ from those in the
    /// store.
    async fn compare_ring(&self, instance: InstanceId) -> Result<(), Error> {
        let rows = self.store.list_signing_keys(instance).await?;
        let ring = self.follower.ring(instance);
        if ring.is_none_or(|ring| !ring.is_made_of(&rows)) {
            self.follower.reload(instance).await?;
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
            let change = self.change(actor);
            self.store
                .activate_signing_key(actor.instance_id(), next.id, Cause::Schedule, change)
                .await?;
        } else if next.is_none()
            && active
                .is_none_or(|active| since(active.active_at) >= ROTATION_MILLIS - PUBLISHED_MILLIS)
        {
            self.publish_next_key(actor, active.is_none(), Cause::Schedule)
                .await?;
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
                let (instance, since) = (actor.instance_id(), Some(unused_since));
                let change = self.change(actor);
                // A JWT that was under way may have arrived since the list was read.
                self.store
                    .delete_signing_key(instance, row.id, since, change)
                    .await?;
            }
        }
        Ok(())
    }

    /// Returns the instance that a public path names, or else the default one.
    async fn public_instance(&self, name: Option<&str>) -> Result<Arc<Instance>, Error> {
        let found = match name {
            // Text that is not an id is treated like an unknown id.
            Some(name) => match name.parse() {
                Ok(id) => self.store.instance(id).await?,
                Err(_) => None,
            },
            None => {
                let instances = self.store.list_instances().await?;
                instances.into_iter().find(|instance| instance.is_default)
            }
        };
        found.ok_or_else(|| Error::NotFound {
            noun: "instance",
            id: name.map_or("by default", |_| "of this id").to_owned(),
        })
    }
}

fn key_not_found(id: SigningKeyId) -> Error {
    Error::NotFound {
        noun: "signing key",
        id: id.to_string(),
    }
}

fn too_many() -> Error {
    Error::Conflict(format!(
        "the instance has {MAX_SIGNING_KEYS} signing keys, which is the maximum; delete one that no JWT needs any more"
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use countersign_store::{StoreChoice, StoreOptions};

    use super::*;
    use crate::{AuthorityOptions, MasterKey, SystemClock, SystemRandom};

    #[tokio::test]
    async fn a_key_is_made_while_all_threads_that_sign_are_busy() {
        let folder = tempfile::tempdir().unwrap();
        let choice = StoreChoice::from(folder.path());
        let store = choice.create(StoreOptions::default()).unwrap();
        let (clock, random) = (Arc::new(SystemClock::default()), Arc::new(SystemRandom));
        let master = MasterKey::generate(&*random);
        Authority::initialize(&store, &master, &*clock, &*random)
            .await
            .unwrap();
        let options = AuthorityOptions {
            signers: 1,
            ..AuthorityOptions::default()
        };
        let (authority, operator) = Authority::open(store, &master, clock, random, options)
            .await
            .unwrap();
        let (go, wait) = std::sync::mpsc::channel();
        let signing = authority.signer.run(move || wait.recv());
        let making = async {
            let instance = authority.create_instance(&operator, "a", false).await;
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
