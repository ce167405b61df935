//! Inserts, reuses, revokes, changes and deletes tokens.

use std::ops::Bound;
use std::sync::Arc;

use countersign_protocol::change::{Event, Log, TokenFacts};
use countersign_protocol::ids::{InstanceId, Locator, MachineId, TokenId};
use countersign_protocol::time::Timestamp;
use countersign_protocol::token::TokenFormat;

use super::state::{Pooled, State, Token, conflict};
use crate::tokens::{ROOM_AT_ONCE, Room};
use crate::{
    InsertToken, NewChange, NewToken, Pool, Proof, Result, Revocation, RevokeToken, StoredToken,
    Sweep, TokenQuery, TokenRow, TokenUpdate, UpdateToken,
};

/// The end of a token as a time: one that never expires ends last.
fn end(expires_at: Option<Timestamp>) -> Timestamp {
    expires_at.unwrap_or(Timestamp::from_millis(i64::MAX))
}

impl State {
    pub(super) fn insert_token(&mut self, new: NewToken) -> Result<InsertToken> {
        let (instance, machine) = (new.instance.id, new.machine.id);
        let mut key = new.key.iter();
        if key.any(|key| !self.is_key_live(machine, *key, new.created_at)) {
            return Ok(InsertToken::KeyGone);
        }
        let current = self.instance(instance).zip(self.machine(instance, machine));
        let current = current.filter(|(instance, machine)| {
            instance.revision == new.instance.revision && machine.revision == new.machine.revision
        });
        let Some((current, _)) = current else {
            return Ok(InsertToken::Changed);
        };
        let current = Arc::clone(current);
        let signing_key = match new.proof {
            Proof::Opaque(_) => None,
            Proof::Jwt(kid) => {
                let mut keys = self.signing_keys.iter();
                let place = keys.position(|key| key.id == kid && key.instance == instance);
                if place.is_none() {
                    return Ok(InsertToken::Changed);
                }
                place
            }
        };
        let may_pool = current.settings.token_pooling && signing_key.is_none();
        let pool = new.pool.filter(|_| may_pool);
        if let Some(pool) = &pool
            && let Some((token, sealed)) = self.pooled(machine, pool, new.created_at)
        {
            let change = new.change.as_ref();
            self.record_issue(instance, change, token.row.facts(&current))?;
            return Ok(InsertToken::Reused { token, sealed });
        }
        if new.is_full {
            return Ok(InsertToken::Full);
        }
        if self.tokens.contains_key(&new.id.locator()) {
            return Err(conflict("tokens.locator"));
        }
        let row = TokenRow {
            id: new.id,
            machine,
            proof: new.proof,
            scopes: new.scopes,
            claims: new.claims,
            created_at: new.created_at,
            expires_at: new.expires_at,
            revoked: None,
            last_used_at: None,
        };
        self.record_issue(instance, new.change.as_ref(), row.facts(&current))?;
        if let Some(key) = signing_key.and_then(|place| self.signing_keys.get_mut(place)) {
            key.last_expires_at = key.last_expires_at.max(Some(end(new.expires_at)));
        }
        let pooled = pool.map(|Pool { key, sealed, .. }| Pooled { key, sealed });
        self.tokens.insert(row.id.locator(), Token { row, pooled });
        Ok(InsertToken::Inserted)
    }

    /// Records that the operator got a token in the role of its machine.
    fn record_issue(
        &mut self,
        instance: InstanceId,
        change: Option<&NewChange>,
        token: TokenFacts,
    ) -> Result<()> {
        let Some(change) = change else {
            return Ok(());
        };
        self.permit(Log::Instance(instance), change)?;
        self.record(
            Log::Instance(instance),
            change,
            &Event::TokenIssued { token },
        );
        Ok(())
    }

    /// Finds the equal live token with the longest life left.
    fn pooled(
        &self,
        machine: MachineId,
        pool: &Pool,
        now: Timestamp,
    ) -> Option<(StoredToken, crate::SealedBytes)> {
        let least = end(now.plus_millis(pool.min_remaining_millis));
        let equal = self.tokens.values().filter_map(|token| {
            let pooled = token
                .pooled
                .as_ref()
                .filter(|other| other.key == pool.key)?;
            let row = &token.row;
            let is_good = row.machine == machine
                && row.revoked.is_none()
                && !row.is_expired(now)
                && end(row.expires_at) >= least;
            let stored = self.stored(row).filter(|_| is_good)?;
            (stored.cut_off_at().is_none()).then(|| (stored, pooled.sealed.clone()))
        });
        equal.max_by_key(|(token, _)| (end(token.row.expires_at), token.row.id.locator()))
    }

    pub(super) fn list_tokens(
        &self,
        instance: InstanceId,
        query: &TokenQuery,
    ) -> (Vec<StoredToken>, u64) {
        let newest_first = self.tokens.values().rev();
        let of_machine = newest_first.filter(|token| token.row.machine == query.machine);
        let mut found: Vec<_> = of_machine
            .filter_map(|token| self.stored(&token.row))
            .filter(|token| token.instance.id == instance)
            .collect();
        found.retain(|token| {
            let is_ended = token.row.revoked.is_some() || token.cut_off_at().is_some();
            (query.include_revoked || !is_ended)
                && (query.include_expired || !token.row.is_expired(query.now))
                && query.formats.includes(token.row.format())
        });
        let total = found.len() as u64;
        let offset = usize::try_from(query.page.offset).unwrap_or(usize::MAX);
        let page = found.into_iter().skip(offset);
        (page.take(query.page.limit as usize).collect(), total)
    }

    /// Finds a token by its whole id for whoever may change it.
    fn owned(
        &self,
        instance: InstanceId,
        owner: Option<MachineId>,
        id: TokenId,
    ) -> Option<StoredToken> {
        self.token(id.locator(), Some(instance))
            .filter(|token| token.row.id == id)
            .filter(|token| owner.is_none_or(|owner| token.machine.id == owner))
    }

    /// Replaces the row of a token and takes the token out of the pool.
    fn put_token(&mut self, token: &StoredToken) {
        let row = token.row.clone();
        self.tokens
            .insert(row.id.locator(), Token { row, pooled: None });
    }

    pub(super) fn revoke_token(
        &mut self,
        instance: InstanceId,
        owner: Option<MachineId>,
        id: TokenId,
        reason: Option<Arc<str>>,
        change: &NewChange,
    ) -> Result<RevokeToken> {
        let Some(mut token) = self.owned(instance, owner, id) else {
            return Ok(RevokeToken::NotFound);
        };
        if token.row.revoked.is_some() {
            return Ok(RevokeToken::AlreadyRevoked(token));
        }
        self.permit(Log::Instance(instance), change)?;
        let event = token.revoked_event(reason.clone());
        token.row.revoked = Some(Revocation {
            at: change.at,
            reason,
        });
        self.put_token(&token);
        self.record(Log::Instance(instance), change, &event);
        Ok(RevokeToken::Revoked(token))
    }

    pub(super) fn update_token(
        &mut self,
        instance: InstanceId,
        owner: Option<MachineId>,
        id: TokenId,
        update: TokenUpdate,
        change: &NewChange,
    ) -> Result<UpdateToken> {
        let Some(mut token) = self.owned(instance, owner, id) else {
            return Ok(UpdateToken::NotFound);
        };
        if token.row.format() == TokenFormat::Jwt {
            return Ok(UpdateToken::IsJwt);
        }
        if token.is_ended(change.at) {
            return Ok(UpdateToken::NotLive);
        }
        self.permit(Log::Instance(instance), change)?;
        let claims_replaced = update.claims.is_some();
        token.row = token.row.updated(update);
        self.put_token(&token);
        let event = token.updated_event(claims_replaced);
        self.record(Log::Instance(instance), change, &event);
        Ok(UpdateToken::Updated(token))
    }

    /// Erases the sealed copies of all tokens of an instance, or of one of its machines, so that none is handed out again.
    pub(super) fn erase_sealed_tokens(&mut self, instance: InstanceId, of: Option<MachineId>) {
        for token in self.tokens.values_mut() {
            let machine = self.machines.get(&token.row.machine);
            let is_meant = machine.is_some_and(|machine| {
                machine.instance == instance && of.is_none_or(|of| machine.id == of)
            });
            if is_meant {
                token.pooled = None;
            }
        }
    }

    pub(super) fn make_room(
        &mut self,
        instance: InstanceId,
        machine: MachineId,
        limit: u64,
        now: Timestamp,
    ) -> Option<Room> {
        self.machine(instance, machine)?;
        let mut deleted = 0;
        if self.count_tokens(machine) >= limit {
            let oldest_first = self.tokens.values();
            let of_machine = oldest_first.filter(|token| token.row.machine == machine);
            let ended: Vec<_> = of_machine
                .filter_map(|token| self.stored(&token.row))
                .filter(|token| token.is_ended(now) && !token.row.is_kept_for_receivers(now))
                .map(|token| token.row.id.locator())
                .take(ROOM_AT_ONCE)
                .collect();
            deleted = ended.len() as u64;
            for locator in ended {
                self.tokens.remove(&locator);
            }
        }
        let held = self.count_tokens(machine).min(limit);
        Some(Room { held, deleted })
    }

    fn count_tokens(&self, machine: MachineId) -> u64 {
        let tokens = self.tokens.values();
        tokens.filter(|token| token.row.machine == machine).count() as u64
    }

    pub(super) fn erase_expired_secrets(&mut self, now: Timestamp) -> u64 {
        let mut erased = 0;
        for token in self.tokens.values_mut() {
            if token.row.is_expired(now) && token.pooled.take().is_some() {
                erased += 1;
            }
        }
        let before = self.machine_keys.len();
        self.machine_keys
            .retain(|key| key.row.expires_at.is_none_or(|end| end > now));
        erased + (before - self.machine_keys.len()) as u64
    }

    pub(super) fn sweep_tokens(
        &mut self,
        after: Option<Locator>,
        limit: u32,
        dead_before: Timestamp,
        now: Timestamp,
    ) -> Sweep {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.tokens.range((begin, Bound::Unbounded));
        let looked_at: Vec<_> = behind
            .take(limit as usize)
            .map(|(locator, token)| {
                let row = &token.row;
                let is_dead = row.expires_at.is_some_and(|end| end < dead_before)
                    || row.revoked.as_ref().is_some_and(|end| end.at < dead_before)
                    || !self.machines.contains_key(&row.machine);
                (*locator, is_dead && !row.is_kept_for_receivers(now))
            })
            .collect();
        let last = looked_at.last().map(|(locator, _)| *locator);
        let mut deleted = 0;
        for (locator, _) in looked_at.iter().filter(|(_, is_dead)| *is_dead) {
            self.tokens.remove(locator);
            deleted += 1;
        }
        Sweep {
            next: last.filter(|_| looked_at.len() >= limit as usize),
            deleted,
        }
    }
}
