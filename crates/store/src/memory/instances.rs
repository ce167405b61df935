//! Instances, their keys and their signing keys.

use std::sync::Arc;

use countersign_protocol::change::{Cause, Event, Log};
use countersign_protocol::ids::{InstanceId, KeyId, SigningKeyId};
use countersign_protocol::settings::InstanceSettings;
use countersign_protocol::time::Timestamp;

use super::state::{State, conflict};
use crate::keys::signing_key_deleted;
use crate::{
    InsertSigningKey, Instance, InstanceKeyRow, NewChange, NewInstance, Result, SigningKeyRow,
    SigningKeyState, UpdateSettings,
};

impl State {
    pub(super) fn insert_instance(
        &mut self,
        new: NewInstance,
        key: InstanceKeyRow,
        signing_key: SigningKeyRow,
        change: &NewChange,
    ) -> Result<Arc<Instance>> {
        let log = Log::Instance(new.id);
        if self.instance(new.id).is_some() {
            return Err(conflict("instances.id"));
        }
        if new.is_default && self.instances.iter().any(|instance| instance.is_default) {
            return Err(conflict("instances.is_default"));
        }
        self.require_new_instance_key(&key)?;
        self.require_new_signing_key(&signing_key)?;
        self.permit(log, change)?;
        let event = Event::InstanceCreated {
            instance_id: new.id,
            name: new.name.clone(),
            key_id: key.id,
            kid: signing_key.id,
        };
        let instance = Arc::new(Instance::new(new));
        self.instances.push(Arc::clone(&instance));
        self.instance_keys.push(Arc::new(key));
        self.signing_keys.push(signing_key);
        self.record(log, change, &event);
        Ok(instance)
    }

    pub(super) fn update_settings(
        &mut self,
        id: InstanceId,
        revision: i64,
        settings: InstanceSettings,
        change: &NewChange,
    ) -> Result<UpdateSettings> {
        let Some(before) = self.instance(id).cloned() else {
            return Ok(UpdateSettings::NotFound);
        };
        if before.revision != revision {
            return Ok(UpdateSettings::Changed);
        }
        self.permit(Log::Instance(id), change)?;
        if !settings.secret_reveal {
            let keys = self.machine_keys.iter_mut();
            keys.filter(|key| key.row.instance == id)
                .for_each(|key| key.sealed = None);
        }
        if !settings.token_pooling {
            self.erase_sealed_tokens(id, None);
        }
        let after = Arc::new(before.with_settings(settings, change.at));
        self.put_instance(&after);
        self.record(Log::Instance(id), change, &after.updated_event(&before));
        Ok(UpdateSettings::Updated(after))
    }

    pub(super) fn end_instance_tokens(
        &mut self,
        id: InstanceId,
        change: &NewChange,
    ) -> Result<Option<Timestamp>> {
        let Some(before) = self.instance(id) else {
            return Ok(None);
        };
        let machines = self.machines.values();
        let of_instance = machines.filter(|machine| machine.instance == id);
        let of_machines = of_instance.filter_map(|machine| machine.issued_before);
        let after = Arc::new(before.with_tokens_ended(change.at, of_machines.max()));
        let Some(issued_before) = after.issued_before else {
            return Ok(None);
        };
        self.permit(Log::Instance(id), change)?;
        self.erase_sealed_tokens(id, None);
        self.put_instance(&after);
        let event = Event::InstanceTokensEnded {
            instance_id: id,
            issued_before,
        };
        self.record(Log::Instance(id), change, &event);
        Ok(Some(issued_before))
    }

    fn require_new_instance_key(&self, key: &InstanceKeyRow) -> Result<()> {
        let mut keys = self.instance_keys.iter();
        let is_taken =
            keys.any(|other| other.id == key.id || other.digest.bytes == key.digest.bytes);
        if is_taken {
            return Err(conflict("instance_keys"));
        }
        Ok(())
    }

    fn live_instance_keys(&self, instance: InstanceId) -> usize {
        let keys = self.instance_keys.iter();
        keys.filter(|key| key.instance == instance && key.revoked_at.is_none())
            .count()
    }

    pub(super) fn insert_instance_key(
        &mut self,
        key: InstanceKeyRow,
        max_live: usize,
        change: &NewChange,
    ) -> Result<bool> {
        let log = Log::Instance(key.instance);
        if self.instance(key.instance).is_none() {
            return Err(conflict("the instance does not exist"));
        }
        if self.live_instance_keys(key.instance) >= max_live {
            return Ok(false);
        }
        self.require_new_instance_key(&key)?;
        self.permit(log, change)?;
        let event = Event::InstanceKeyCreated { key_id: key.id };
        self.instance_keys.push(Arc::new(key));
        self.record(log, change, &event);
        Ok(true)
    }

    pub(super) fn revoke_instance_key(
        &mut self,
        instance: InstanceId,
        id: KeyId,
        change: &NewChange,
    ) -> Result<bool> {
        let place = self
            .instance_keys
            .iter()
            .position(|key| key.instance == instance && key.id == id && key.revoked_at.is_none());
        let Some(place) = place else {
            return Ok(false);
        };
        self.permit(Log::Instance(instance), change)?;
        if self.live_instance_keys(instance) == 1 {
            return Err(conflict("the last live key of the instance"));
        }
        if let Some(key) = self.instance_keys.get_mut(place) {
            Arc::make_mut(key).revoked_at = Some(change.at);
        }
        let event = Event::InstanceKeyRevoked { key_id: id };
        self.record(Log::Instance(instance), change, &event);
        Ok(true)
    }

    fn require_new_signing_key(&self, key: &SigningKeyRow) -> Result<()> {
        if self.signing_keys.iter().any(|other| other.id == key.id) {
            return Err(conflict("signing_keys.kid"));
        }
        Ok(())
    }

    pub(super) fn insert_signing_key(
        &mut self,
        key: SigningKeyRow,
        max_keys: usize,
        change: &NewChange,
    ) -> Result<InsertSigningKey> {
        let log = Log::Instance(key.instance);
        if self.instance(key.instance).is_none() {
            return Err(conflict("the instance does not exist"));
        }
        let kept = self.signing_keys.iter();
        let kept: Vec<_> = kept
            .filter(|kept| kept.instance == key.instance)
            .map(|kept| kept.state)
            .collect();
        if kept.contains(&SigningKeyState::Published) {
            return Ok(InsertSigningKey::NextWaits);
        }
        if kept.len() >= max_keys {
            return Ok(InsertSigningKey::TooMany);
        }
        self.require_new_signing_key(&key)?;
        self.permit(log, change)?;
        let event = Event::SigningKeyPublished { kid: key.id };
        self.signing_keys.push(key);
        self.record(log, change, &event);
        Ok(InsertSigningKey::Inserted)
    }

    pub(super) fn activate_signing_key(
        &mut self,
        instance: InstanceId,
        id: SigningKeyId,
        cause: Cause,
        change: &NewChange,
    ) -> Result<bool> {
        let is_published = self.signing_keys.iter().any(|key| {
            key.instance == instance && key.id == id && key.state == SigningKeyState::Published
        });
        if !is_published {
            return Ok(false);
        }
        self.permit(Log::Instance(instance), change)?;
        let mut verify_only = None;
        let keys = self.signing_keys.iter_mut();
        for key in keys.filter(|key| key.instance == instance) {
            if key.state == SigningKeyState::Active {
                key.state = SigningKeyState::VerifyOnly;
                key.retired_at = Some(change.at);
                verify_only = Some(key.id);
            } else if key.id == id {
                key.state = SigningKeyState::Active;
                key.active_at = Some(change.at);
            }
        }
        let event = Event::SigningKeyActivated {
            kid: id,
            verify_only,
            cause,
        };
        self.record(Log::Instance(instance), change, &event);
        Ok(true)
    }

    pub(super) fn delete_signing_key(
        &mut self,
        instance: InstanceId,
        id: SigningKeyId,
        unused_since: Option<Timestamp>,
        change: &NewChange,
    ) -> Result<bool> {
        let may_go = |key: &SigningKeyRow| match unused_since {
            None => key.state != SigningKeyState::Active,
            Some(since) => {
                key.state == SigningKeyState::VerifyOnly
                    && key.retired_at.is_some_and(|at| at < since)
                    && key.last_expires_at.is_none_or(|end| end < since)
            }
        };
        let mut keys = self.signing_keys.iter();
        let place = keys.position(|key| key.instance == instance && key.id == id && may_go(key));
        let Some(place) = place else {
            return Ok(false);
        };
        self.permit(Log::Instance(instance), change)?;
        self.signing_keys.remove(place);
        let event = signing_key_deleted(id, unused_since);
        self.record(Log::Instance(instance), change, &event);
        Ok(true)
    }
}
