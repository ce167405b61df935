//! JWTs that were found good here, remembered until the issuer's keys change.
//!
//! A digest of a long token costs more than everything else that a second look needs. So a JWT is found by the end of its
//! signature, and counts only if it is the same from the first byte to the last. Only what an issuer signed is remembered, so
//! nobody else can choose which tokens end alike; two that do would take turns, and be checked anew.

use countersign_protocol::secret::Secret;

use crate::authority::CAPACITY;
use crate::cache::{Cache, Key};

/// How long a JWT is remembered, if its issuer's keys do not change before.
const REMEMBER_MILLIS: i64 = 300_000;
/// The longest JWT that is remembered, which bounds the memory of the cache.
const MAX_REMEMBERED_BYTES: usize = 4 * 1024;

/// What was found out about JWTs with a good signature.
pub(crate) struct Met<V>(Cache<Entry<V>>);

struct Entry<V> {
    token: Secret,
    value: V,
}

impl<V: Clone> Met<V> {
    pub(crate) fn new() -> Self {
        Self(Cache::new(CAPACITY))
    }

    /// What is known of exactly this token.
    pub(crate) fn get(&self, token: &str, now: i64) -> Option<V> {
        self.0.read(&end_of(token)?, now, |entry| {
            (entry.token.expose() == token).then(|| entry.value.clone())
        })
    }

    /// Remembers a token whose signature is good.
    pub(crate) fn put(&self, token: &str, value: V, now: i64) {
        if let Some(end) = end_of(token).filter(|_| token.len() <= MAX_REMEMBERED_BYTES) {
            let token = Secret::new(token.to_owned());
            self.0
                .put(end, Entry { token, value }, now, REMEMBER_MILLIS);
        }
    }
}

fn end_of(token: &str) -> Option<Key> {
    token.as_bytes().last_chunk().copied().map(Key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_recognized() {
        let met = Met::new();
        let end = "e".repeat(64);
        let token = format!("header.payload.{end}");
        met.put(&token, "good", 0);
        assert_eq!(met.get(&token, 1), Some("good"));
        for other in [
            format!("header.Payload.{end}"),
            format!("Header.payload.{end}"),
            format!(" header.payload.{end}"),
            end.clone(),
            end[..31].to_owned(),
            token.replace('e', "f"),
        ] {
            assert_eq!(met.get(&other, 1), None, "{other}");
        }
        let last = token.len() - 1;
        assert_eq!(met.get(&token[..last], 1), None);
        assert_eq!(met.get(&token, REMEMBER_MILLIS), None);
    }

    #[test]
    fn what_is_too_long_is_not_remembered() {
        let met = Met::new();
        let token = "t".repeat(MAX_REMEMBERED_BYTES + 1);
        met.put(&token, "good", 0);
        assert_eq!(met.get(&token, 1), None);
        met.put(&token[1..], "good", 0);
        assert_eq!(met.get(&token[1..], 1), Some("good"));
    }
}
