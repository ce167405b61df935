//! Machines, their keys and scopes.

use std::sync::Arc;

use countersign_protocol::change::{Event, Log};
use countersign_protocol::ids::{InstanceId, MachineId};
use countersign_protocol::page::SortBy;
use countersign_protocol::scopes::Scopes;
use countersign_protocol::time::Timestamp;

use super::state::{MachineKey, State, conflict};
use crate::{
    InsertMachine, InsertScope, MachineKeyRow, MachineQuery, MachineRow, MachineUpdate,
    MachineWithScopes, NewChange, NewMachine, NewMachineKey, Result, SealedKey,
};

/// The ids of a list of scopes.
fn ids(scopes: &Scopes) -> impl Iterator<Item = MachineId> {
    scopes.iter().filter_map(|id| id.parse().ok())
}

/// The machine with these scopes from `at` on.
fn with_scopes_from(machine: &MachineRow, scopes: Scopes, at: Timestamp) -> MachineRow {
    MachineRow {
        scopes,
        revision: machine.revision + 1,
        updated_at: at,
        ..machine.clone()
    }
}

impl State {
    pub(super) fn with_scopes(&self, machine: &Arc<MachineRow>) -> MachineWithScopes {
        let scoped = ids(&machine.scopes).filter_map(|id| self.machines.get(&id).cloned());
        MachineWithScopes {
            scoped: scoped.collect(),
            machine: Arc::clone(machine),
        }
    }

    pub(super) fn list_machines(
        &self,
        instance: InstanceId,
        query: &MachineQuery,
    ) -> (Vec<MachineWithScopes>, u64) {
        let mut found: Vec<_> = self.machines.values().collect();
        found.retain(|machine| {
            machine.instance == instance
                && query.text.as_ref().is_none_or(|text| {
                    let name = machine.name.to_lowercase();
                    machine.id.as_str() == text || name.contains(&text.to_lowercase())
                })
        });
        match query.order.by {
            SortBy::CreatedAt => found.sort_by_key(|machine| (machine.created_at, machine.id)),
            SortBy::Name => found.sort_by_key(|machine| (&machine.name, machine.id)),
        }
        if query.order.is_descending {
            found.reverse();
        }
        let total = found.len() as u64;
        let offset = usize::try_from(query.page.offset).unwrap_or(usize::MAX);
        let page = found.into_iter().skip(offset);
        let page = page.take(query.page.limit as usize);
        (
            page.map(|machine| self.with_scopes(machine)).collect(),
            total,
        )
    }

    pub(super) fn insert_machine(
        &mut self,
        new: NewMachine,
        change: &NewChange,
    ) -> Result<InsertMachine> {
        let log = Log::Instance(new.instance);
        if self.instance(new.instance).is_none() {
            return Err(conflict("the instance does not exist"));
        }
        let mut scopes = new.scopes.iter();
        if let Some(missing) = scopes.find(|id| self.machine(new.instance, **id).is_none()) {
            return Ok(InsertMachine::ScopeNotFound(*missing));
        }
        if self.used_machine_ids.contains(&new.id) {
            return Err(conflict("machines.id"));
        }
        self.require_new_machine_key(new.id, &new.key)?;
        self.permit(log, change)?;
        self.used_machine_ids.insert(new.id);
        let scopes = new.scopes.iter().copied().collect();
        let machine = self.put_machine(MachineRow::new(&new, scopes));
        self.record(log, change, &new.created_event());
        self.put_machine_key(&machine, new.key);
        Ok(InsertMachine::Inserted(self.with_scopes(&machine)))
    }

    pub(super) fn update_machine(
        &mut self,
        instance: InstanceId,
        id: MachineId,
        update: MachineUpdate,
        change: &NewChange,
    ) -> Result<Option<MachineWithScopes>> {
        let Some(before) = self.machine(instance, id).cloned() else {
            return Ok(None);
        };
        if update.is_empty() {
            return Ok(Some(self.with_scopes(&before)));
        }
        self.permit(Log::Instance(instance), change)?;
        let after = self.put_machine(before.updated(update, change.at));
        self.record(
            Log::Instance(instance),
            change,
            &after.updated_event(&before),
        );
        Ok(Some(self.with_scopes(&after)))
    }

    pub(super) fn delete_machine(
        &mut self,
        instance: InstanceId,
        id: MachineId,
        change: &NewChange,
    ) -> Result<bool> {
        let Some(machine) = self.machine(instance, id).cloned() else {
            return Ok(false);
        };
        self.permit(Log::Instance(instance), change)?;
        self.machines.remove(&id);
        self.machine_keys.retain(|key| key.row.machine != id);
        for caller in self.machines.values_mut() {
            if caller.scopes.contains(&id) {
                let left = ids(&caller.scopes).filter(|scope| *scope != id).collect();
                *caller = Arc::new(with_scopes_from(caller, left, change.at));
            }
        }
        let event = Event::MachineDeleted {
            machine_id: id,
            name: machine.name.clone(),
        };
        self.record(Log::Instance(instance), change, &event);
        Ok(true)
    }

    pub(super) fn end_machine_tokens(
        &mut self,
        instance: InstanceId,
        id: MachineId,
        change: &NewChange,
    ) -> Result<Option<Timestamp>> {
        let Some(before) = self.machine(instance, id) else {
            return Ok(None);
        };
        let of_instance = self.instance(instance);
        let of_instance = of_instance.and_then(|instance| instance.issued_before);
        let after = before.with_tokens_ended(change.at, of_instance);
        let Some(issued_before) = after.issued_before else {
            return Ok(None);
        };
        self.permit(Log::Instance(instance), change)?;
        self.erase_sealed_tokens(instance, Some(id));
        self.put_machine(after);
        let event = Event::MachineTokensEnded {
            machine_id: id,
            issued_before,
        };
        self.record(Log::Instance(instance), change, &event);
        Ok(Some(issued_before))
    }

    pub(super) fn insert_scope(
        &mut self,
        instance: InstanceId,
        from: MachineId,
        to: MachineId,
        max_scopes: usize,
        change: &NewChange,
    ) -> Result<InsertScope> {
        let Some(caller) = self.machine(instance, from).cloned() else {
            return Ok(InsertScope::FromNotFound);
        };
        if self.machine(instance, to).is_none() {
            return Ok(InsertScope::ToNotFound);
        }
        if caller.scopes.contains(&to) {
            return Ok(InsertScope::Exists);
        }
        if caller.scopes.len() >= max_scopes {
            return Ok(InsertScope::TooMany);
        }
        self.permit(Log::Instance(instance), change)?;
        let scopes = ids(&caller.scopes).chain([to]).collect();
        self.put_machine(with_scopes_from(&caller, scopes, change.at));
        let event = Event::ScopeCreated {
            from_machine_id: from,
            to_machine_id: to,
        };
        self.record(Log::Instance(instance), change, &event);
        Ok(InsertScope::Inserted)
    }

    pub(super) fn delete_scope(
        &mut self,
        instance: InstanceId,
        from: MachineId,
        to: MachineId,
        change: &NewChange,
    ) -> Result<bool> {
        let caller = self.machine(instance, from).cloned();
        let Some(caller) = caller.filter(|caller| caller.scopes.contains(&to)) else {
            return Ok(false);
        };
        self.permit(Log::Instance(instance), change)?;
        let left = ids(&caller.scopes).filter(|scope| *scope != to).collect();
        self.put_machine(with_scopes_from(&caller, left, change.at));
        let event = Event::ScopeDeleted {
            from_machine_id: from,
            to_machine_id: to,
        };
        self.record(Log::Instance(instance), change, &event);
        Ok(true)
    }

    fn require_new_machine_key(&self, machine: MachineId, key: &NewMachineKey) -> Result<()> {
        let is_taken = self.machine_keys.iter().any(|other| {
            other.row.digest.bytes == key.digest.bytes
                || (other.row.machine == machine && other.row.id == key.id)
        });
        if is_taken {
            return Err(conflict("machine_keys"));
        }
        Ok(())
    }

    /// Adds a key. Its sealed copy is left out where the instance does not reveal secrets.
    fn put_machine_key(&mut self, machine: &MachineRow, new: NewMachineKey) {
        let instance = self.instance(machine.instance);
        let is_kept = instance.is_some_and(|instance| instance.settings.secret_reveal);
        self.machine_keys.push(MachineKey {
            row: Arc::new(MachineKeyRow {
                id: new.id,
                instance: machine.instance,
                machine: machine.id,
                digest: new.digest,
                created_at: new.created_at,
                expires_at: None,
            }),
            sealed: new.sealed.filter(|_| is_kept),
        });
    }

    pub(super) fn rotate_machine_key(
        &mut self,
        instance: InstanceId,
        id: MachineId,
        new: NewMachineKey,
        older_expire_at: Timestamp,
        max_live: usize,
        change: &NewChange,
    ) -> Result<bool> {
        let Some(machine) = self.machine(instance, id).cloned() else {
            return Ok(false);
        };
        self.require_new_machine_key(id, &new)?;
        self.permit(Log::Instance(instance), change)?;
        let event = Event::MachineKeyRotated {
            machine_id: id,
            key_id: new.id,
            older_expire_at,
        };
        let mut live = 1;
        // The newest of the older keys first.
        for place in (0..self.machine_keys.len()).rev() {
            let older = self.machine_keys.get_mut(place);
            let Some(key) = older.filter(|key| key.row.machine == id) else {
                continue;
            };
            let end = key.row.expires_at;
            let end = end.map_or(older_expire_at, |end| end.min(older_expire_at));
            if end <= change.at || live >= max_live {
                self.machine_keys.remove(place);
            } else {
                Arc::make_mut(&mut key.row).expires_at = Some(end);
                // Only the newest key is ever shown again.
                key.sealed = None;
                live += 1;
            }
        }
        self.put_machine_key(&machine, new);
        self.record(Log::Instance(instance), change, &event);
        Ok(true)
    }

    pub(super) fn reveal_machine_key(
        &mut self,
        instance: InstanceId,
        id: MachineId,
        change: &NewChange,
    ) -> Result<Option<Option<SealedKey>>> {
        let mut keys = self.machine_keys.iter().rev();
        let newest = keys.find(|key| key.row.instance == instance && key.row.machine == id);
        let Some(MachineKey { row, sealed }) = newest else {
            return Ok(None);
        };
        let Some(sealed) = sealed.clone() else {
            return Ok(Some(None));
        };
        let shown = SealedKey {
            id: row.id,
            digest: row.digest,
            sealed,
            expires_at: row.expires_at,
        };
        self.permit(Log::Instance(instance), change)?;
        let event = Event::MachineKeyRevealed {
            machine_id: id,
            key_id: shown.id,
        };
        self.record(Log::Instance(instance), change, &event);
        Ok(Some(Some(shown)))
    }
}
