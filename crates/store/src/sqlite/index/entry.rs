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

/// A token, linked to the slot of its machine and thereby to that of its instance. Its locator is its key in the cache, and
/// the cache's slot holds the entry itself: each pointer that a look-up follows costs it another miss of the processor's
/// caches.
#[derive(Clone, Debug)]
pub(in crate::sqlite) struct TokenEntry {
    rest: u64,
    machine: Arc<MachineSlot>,
    proof: Proof,
    scopes: Scopes,
    created_at: Timestamp,
    /// Expiry as stored; the largest integer means never.
    end: i64,
    extra: Option<Arc<Extra>>,
}

/// What few tokens have.
#[derive(Clone, Debug)]
struct Extra {
    claims: Option<Claims>,
    revoked: Option<Revocation>,
}

impl TokenEntry {
    pub(in crate::sqlite) fn new(raw: RawToken, machine: Arc<MachineSlot>) -> Self {
        let (claims, revoked) = (raw.claims, raw.revoked);
        let has_extra = claims.is_some() || revoked.is_some();
        Self {
            rest: raw.id.rest(),
            machine,
            proof: raw.proof,
            scopes: raw.scopes,
            created_at: raw.created_at,
            end: raw.end,
            extra: has_extra.then(|| Arc::new(Extra { claims, revoked })),
        }
    }

    /// Returns the token with its current machine and instance; `None` if its machine is deleted.
    pub(in crate::sqlite) fn stored(self, locator: Locator) -> Option<StoredToken> {
        let machine = self.machine.row()?;
        let state = self.machine.instance.state();
        let signing_key = match &self.proof {
            Proof::Opaque(_) => None,
            Proof::Jwt(kid) => state.signing_key(kid),
        };
        let (claims, revoked) = self.extra.map_or((None, None), |extra| {
            (extra.claims.clone(), extra.revoked.clone())
        });
        Some(StoredToken {
            row: TokenRow {
                id: TokenId::from_parts(locator, self.rest),
                machine: self.machine.id,
                proof: self.proof,
                scopes: self.scopes,
                claims,
                created_at: self.created_at,
                expires_at: expiry(self.end),
                revoked,
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
    /// Bytes for a token without claims: its slot, of which a table that has just grown holds twice as many, and its share of
    /// the hash table; on the average between two growths.
    pub(in crate::sqlite) const TOKEN: u64 = 216;
    /// Scope texts up to this length are not counted, because they are shared. Longer ones are counted; otherwise a few
    /// machines with many scopes could fill the memory.
    const FREE_SCOPES: usize = 128;
}

impl Weighter<Locator, TokenEntry> for Bytes {
    fn weight(&self, _: &Locator, entry: &TokenEntry) -> u64 {
        let extra = entry.extra.as_ref().map_or(0, |extra| {
            let claims = extra.claims.as_ref().map(|claims| claims.as_str().len());
            let reason = extra.revoked.as_ref().and_then(|it| it.reason.as_ref());
            let texts = [claims, reason.map(|text| text.len())];
            // Each allocation with the allocator's share.
            96 + texts
                .into_iter()
                .flatten()
                .map(|text| text + 32)
                .sum::<usize>()
        });
        let scopes = entry
            .scopes
            .as_str()
            .len()
            .saturating_sub(Self::FREE_SCOPES);
        Self::TOKEN + (extra + scopes) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_token_takes_no_more_memory_than_is_reckoned() {
        // The cache's slot: key, entry, state and links. Then its hash table.
        let slot = size_of::<Locator>() + size_of::<TokenEntry>() + 16;
        let table = 5;
        let (least, most) = (slot + table, 2 * (slot + table));
        assert!(most <= 250, "{most}");
        let token = usize::try_from(Bytes::TOKEN).expect("a small number");
        assert!(token >= usize::midpoint(least, most));
        assert!(size_of::<Extra>() + 2 * size_of::<usize>() <= 96);
    }
}
