//! Defines the index entry of a token: the data that a verification needs, in little memory.

use std::sync::Arc;

use countersign_protocol::claims::Claims;
use countersign_protocol::ids::{Locator, TokenId};
use countersign_protocol::scopes::Scopes;
use countersign_protocol::time::Timestamp;
use quick_cache::Weighter;

use super::directory::MachineSlot;
use crate::sqlite::rows::{RawToken, expiry};
use crate::tokens::{Proof, Revocation, StoredToken, TokenRow};

/// A token, linked to the slot of its machine and thereby to that of its instance. Its locator is its key in the cache.
#[derive(Debug)]
pub(in crate::sqlite) struct TokenEntry {
    rest: u64,
    machine: Arc<MachineSlot>,
    proof: Proof,
    scopes: Scopes,
    claims: Option<Claims>,
    created_at: Timestamp,
    /// Expiry as stored; the largest integer means never.
    end: i64,
    revoked: Option<Box<Revocation>>,
}

impl TokenEntry {
    pub(in crate::sqlite) fn new(raw: RawToken, machine: Arc<MachineSlot>) -> Self {
        Self {
            rest: raw.id.rest(),
            machine,
            proof: raw.proof,
            scopes: raw.scopes,
            claims: raw.claims,
            created_at: raw.created_at,
            end: raw.end,
            revoked: raw.revoked.map(Box::new),
        }
    }

    /// Returns the token with its current machine and instance; `None` if its machine is deleted.
    pub(in crate::sqlite) fn stored(&self, locator: Locator) -> Option<StoredToken> {
        let machine = self.machine.row()?;
        let state = self.machine.instance.state();
        let signing_key = match &self.proof {
            Proof::Opaque(_) => None,
            Proof::Jwt(kid) => state.signing_key(kid),
        };
        Some(StoredToken {
            row: TokenRow {
                id: TokenId::from_parts(locator, self.rest),
                machine: self.machine.id,
                proof: self.proof,
                scopes: self.scopes.clone(),
                claims: self.claims.clone(),
                created_at: self.created_at,
                expires_at: expiry(self.end),
                revoked: self.revoked.as_deref().cloned(),
                last_used_at: None,
            },
            machine,
            instance: Arc::clone(&state.instance),
            signing_key,
        })
    }
}

/// Estimates the memory that entries take: the entry, its allocations, and its share of the cache's tables.
#[derive(Clone, Copy, Debug)]
pub(in crate::sqlite) struct Bytes;

impl Bytes {
    /// Bytes for a token without claims: 144 for the entry, the rest for the cache's tables, which grow by doubling.
    pub(in crate::sqlite) const TOKEN: u64 = 216;
    /// Scope texts up to this length are not counted, because they are shared. Longer ones are counted; otherwise a few
    /// machines with many scopes could fill the memory.
    const FREE_SCOPES: usize = 128;
}

impl Weighter<Locator, Arc<TokenEntry>> for Bytes {
    fn weight(&self, _: &Locator, entry: &Arc<TokenEntry>) -> u64 {
        let claims = entry
            .claims
            .as_ref()
            .map_or(0, |claims| claims.as_str().len() + 32);
        let reason = entry.revoked.as_ref().map_or(0, |revoked| {
            64 + revoked.reason.as_ref().map_or(0, |text| text.len() + 32)
        });
        let scopes = entry
            .scopes
            .as_str()
            .len()
            .saturating_sub(Self::FREE_SCOPES);
        Self::TOKEN + (claims + reason + scopes) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_token_takes_no_more_memory_than_is_reckoned() {
        // The entry with the counters of its `Arc`, and the allocator's word before it.
        let entry = size_of::<TokenEntry>() + 2 * size_of::<usize>() + size_of::<usize>();
        // The cache's slot: key, pointer, links and state; as a vector that was just doubled. Then its hash table.
        let slot = 2 * 32;
        let table = 2 * 5;
        assert!(entry as u64 <= 144, "{entry}");
        assert!((entry + slot + table) as u64 <= 250, "{entry}");
        assert!(Bytes::TOKEN >= entry as u64 + 32 + 10);
    }
}
